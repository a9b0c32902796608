"""Selections that fit: one request after the other, then moves that cost less."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from cu_market.dnm.compiled import Array
from cu_market.dnm.compiled.draws import draws_from
from cu_market.dnm.selection.arrays import INFEASIBLE, UNSERVED, Whole
from cu_market.dnm.selection.layout import Uses
from cu_market.dnm.selection.moves import (
    Held,
    Offered,
    move_single,
    place_all,
    place_anew,
)
from cu_market.dnm.selection.multipliers import SHIFT, usage
from cu_market.dnm.selection.relaxation import Shares

PASSES = 2
PUSHED = 60
"""How many requests, those that pay most above their cheapest, may push others aside."""

TAKEN = 12
"""Requests that are taken off at a time at most."""


class Book:
    """A selection's input as the compiled moves want it, and what each request costs at least."""

    def __init__(self, uses: Uses) -> None:
        selection = self.selection = uses.selection
        self.offered = Offered(
            costs=selection.costs,
            penalties=selection.penalties,
            first=selection.first,
            behind=selection.behind,
            use_of=uses.of,
            use_rooms=uses.rooms,
            use_amounts=uses.amounts,
        )
        least = selection.costs.min(axis=1, initial=INFEASIBLE)
        self.least: Whole = np.minimum(least, selection.penalties)


class Holding:
    """What is held of every room at every start, and a bid (or UNSERVED) per request.

    Args:
        book: the input.
        choice: a selection that fits; nothing by default.
    """

    def __init__(self, book: Book, choice: Whole | None = None) -> None:
        self.book = book
        count = len(book.selection.requests)
        self.choice = np.full(count, UNSERVED, dtype=np.int64) if choice is None else choice.copy()
        self.free = book.selection.limits - usage(book.selection, self.choice)

    @property
    def held(self) -> Held:
        """For the compiled moves, which change it in place."""
        return Held(choice=self.choice, free=self.free)

    def cost(self) -> int:
        """Returns costs and penalties in micro-dollars."""
        return int(self.paid().sum())

    def paid(self) -> Whole:
        """Returns (n,) what each request costs where it is now, or its penalty."""
        s, choice = self.book.selection, self.choice
        at = s.costs[np.arange(len(choice)), choice]
        found: Whole = np.where(choice != UNSERVED, at, s.penalties)
        return found


def rounded(book: Book, shares: Shares, reduced: Whole, orders: int) -> Iterator[Holding]:
    """Yields selections that fit: what is surest first, each by its shares, then reduced cost.

    Args:
        book: the input.
        shares: of the relaxation.
        reduced: (n, m) reduced costs, or costs.
        orders: how many; all but the first in orders that are drawn, with a fixed seed.
    """
    surest = np.zeros(len(book.least))
    asked = np.repeat(np.arange(len(surest)), np.diff(shares.of))
    np.maximum.at(surest, asked, shares.values)
    order = np.lexsort((-book.least, -np.round(surest, 3)))
    draws = np.random.default_rng(0)
    for _ in range(orders):
        yield placed(book, order, reduced, shares)
        order = np.argsort(-surest - draws.uniform(-0.5, 0.5, len(surest)), kind="stable")


def placed(book: Book, order: Whole, reduced: Whole, shares: Shares | None = None) -> Holding:
    """Returns a selection that fits: each request in turn where it has the largest share of what
    has room, then by reduced cost, then by cost, then by canonical order."""
    holding = Holding(book)
    if shares is None:
        none = np.zeros(len(book.least) + 1, dtype=np.int64)
        shares = Shares(of=none, bids=none[:0], values=np.zeros(0))
    ranks: Array = np.zeros(len(book.selection.bids))
    place_all(
        book.offered, holding.held, order, reduced, shares.of, shares.bids, shares.values, ranks
    )
    return holding


def improve(holding: Holding, passes: int = PASSES) -> None:
    """Moves single requests to cheaper bids with room, so many times or until no move is better.

    Those that pay most above their cheapest may push one other aside where both cost less then.
    """
    book = holding.book
    for _ in range(passes):
        regret = holding.paid() - book.least
        pushing = np.argsort(-regret, kind="stable")[:PUSHED]
        if not move_single(book.offered, holding.held, book.least, pushing):
            return


def refine(holding: Holding, reduced: Whole, trials: int, seed: int) -> None:
    """Takes some requests off and places them anew, so many times.

    Args:
        holding: is changed, and never dearer afterwards.
        reduced: (n, m) reduced costs: who is not where they are least is in the wrong place.
        trials: how many.
        seed: of the draws.
    """
    book = holding.book
    at = np.where(
        holding.choice != UNSERVED,
        reduced[np.arange(len(holding.choice)), holding.choice],
        book.selection.penalties << SHIFT,
    )
    wanting = np.flatnonzero(at > reduced.min(axis=1, initial=INFEASIBLE))
    room = np.zeros((2, TAKEN), dtype=np.int64)
    place_anew(
        book.offered, holding.held, reduced, wanting, room[0], room[1], draws_from(seed), trials
    )
