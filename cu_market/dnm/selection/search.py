"""The search for a selection of what is contended for, until its cost is proven.

1. Everyone in turn where they cost least.
2. First-order steps solve the linear relaxation; at each look its prices give a bound, pairs that
   they make worth while join, and when the bound grows calm a selection is built on the shares,
   improved, and refined with the cheapest so far.
3. Where that proves too little, PuLP builds the program of the pairs that a cheaper selection could
   use: its relaxation gives another bound and other shares, and then its integer solution.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache

import numpy as np

from cu_market.dnm.programs.linear import LinearSolver
from cu_market.dnm.selection.arrays import INFEASIBLE, UNSERVED, Selection, Whole, tabulate
from cu_market.dnm.selection.found import Found
from cu_market.dnm.selection.layout import Layout, Uses
from cu_market.dnm.selection.multipliers import SHIFT, bound, near, reduced_costs
from cu_market.dnm.selection.program import Program
from cu_market.dnm.selection.relaxation import Relaxation, Shares
from cu_market.dnm.selection.rounding import Book, Holding, improve, placed, refine, rounded
from cu_market.domain.bid import Bid
from cu_market.domain.profile import CUProfile
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector

FIRST_PAIRS = 8
"""Of a request, its cheapest."""

LOOKS = ((200, 25), (600, 50), (3000, 100))
"""Up to so many steps, so many between two looks: pairs join and steps change most at first."""

LEAST_STEPS = 200
"""Are taken also where there is no time: the selection built on them is the construction."""

CALM = 200
"""Selections are built once a bound that rose by less than one such part in the last steps."""

SETTLED = 10_000
"""The relaxation is left when its bound rises by less than one such part."""

LAST_STEPS = 100

ATTEMPTS = 8
"""Selections that are built once the bound is calm, before the relaxation is left."""

NEAR = 2.0
"""Times the gap that ends the search: so near, some selections more of few requests cost less than
they save."""

REQUESTS_ANEW = 2000
"""Of all requests of these selections: twenty of a hundred, none of five thousand."""

TRIALS, TRIALS_OF_FEW = 500, 500_000
"""A selection is refined by so many trials, and so many more over the count of requests: a trial of
few is a quick one, and their selections are further from the relaxation."""

MOST_PROGRAM_PAIRS = 20_000
MOST_PROGRAM_ENTRIES = 2_000_000
"""So many coefficients PuLP builds in some seconds."""

RELAXATION = "relaxation"


def search(
    selection: Selection,
    solver: LinearSolver | None,
    *,
    gap: float,
    left: Callable[[], float],
) -> Found:
    """Returns the best selection that was found, its cost and a proven bound.

    Args:
        selection: the input; found.uncontended says where there is nothing to search.
        solver: for 3; None leaves it out.
        gap: where the search ends.
        left: seconds left.
    """
    uses = Uses(selection)
    book = Book(uses)
    order = np.argsort(-book.least, kind="stable")
    first = placed(book, order, selection.costs)
    improve(first)
    found = Found(choice=first.choice.copy(), cost=first.cost(), bound=int(book.least.sum()))
    if found.is_proven(gap):
        return found
    state = _Search(uses=uses, book=book, found=found, gap=gap, left=left)
    relaxation = Relaxation(uses, near(selection.costs, FIRST_PAIRS))
    for upto, at_once in LOOKS:
        while state.steps < upto:
            if left() <= 0 and state.attempts and state.steps >= LEAST_STEPS:
                found.is_cut = True
                return found
            relaxation.advance(at_once)
            state.price(relaxation, at_once)
            if state.is_calm(CALM) or state.steps == LEAST_STEPS:
                state.attempt(relaxation.shares(), RELAXATION)
            if found.is_proven(gap):
                return found
            if state.attempts >= ATTEMPTS and state.is_calm(SETTLED):
                return state.finish(solver)
            relaxation.join(relaxation.joining(state.reduced))
    return state.finish(solver)


@cache
def warm() -> None:
    """Compiles what the search calls, or reads it from disk: no search's seconds go there."""
    requests = [
        ResourceRequest(
            request_id=name,
            timestamp=datetime(2000, 1, 1, tzinfo=UTC),
            duration_ms=1000,
            needs=ResourceVector(cpu_millis=1000),
        )
        for name in "ab"
    ]
    profile = CUProfile(
        cu_id="c",
        provider="p",
        location="l",
        capacity_id="c",
        cpu_millis=1000,
        memory_bytes=1,
        price_microusd_per_hour=1,
    )
    selection = tabulate(
        requests, [Bid(bid_id="c", profile=profile, price_microusd_per_hour=1)], {}
    )
    uses = Uses(selection)
    relaxation = Relaxation(uses, selection.costs < INFEASIBLE)
    relaxation.advance(1)
    for holding in rounded(Book(uses), relaxation.shares(), selection.costs, 1):
        improve(holding)
        refine(holding, selection.costs, 1, 1)


class _Search:
    """What is known at a look: prices, the bound's course, the best selection.

    Args:
        uses, book: the input.
        found: is kept up to date.
        gap, left: as search.
    """

    def __init__(
        self, *, uses: Uses, book: Book, found: Found, gap: float, left: Callable[[], float]
    ) -> None:
        self._uses, self._book, self._found = uses, book, found
        self._gap, self._left = gap, left
        self._bounds: list[tuple[int, int]] = []
        self.reduced = np.empty_like(book.selection.costs)
        self.steps = self.attempts = 0

    def price(self, relaxation: Relaxation, steps: int) -> None:
        """Takes in what so many steps more have come to."""
        self.steps += steps
        self._price(relaxation.multipliers())
        self._bounds.append((self.steps, self._found.bound))

    def is_calm(self, part: int) -> bool:
        """Whether the bound has risen by less than one such part in the last steps."""
        now = self._found.bound
        past = [was for steps, was in self._bounds if steps <= self.steps - LAST_STEPS]
        return bool(past) and (now - past[-1]) * part <= now

    def attempt(self, shares: Shares, name: str) -> None:
        """Builds a selection on shares; the cheapest so far is refined."""
        self.attempts += 1
        requests = len(self._book.least)
        for holding in rounded(self._book, shares, self.reduced, 1 + REQUESTS_ANEW // requests):
            improve(holding)
            self._found.keep(holding.choice, holding.cost(), name)
            is_near = self._found.is_proven(NEAR * self._gap)
            if self._found.is_proven(self._gap) or not is_near or self._left() <= 0:
                break
        if not self._found.is_proven(self._gap) and self._left() > 0:
            best = Holding(self._book, self._found.choice)
            trials = TRIALS + TRIALS_OF_FEW // requests
            refine(best, self.reduced, trials, self.attempts)
            self._found.keep(best.choice, best.cost(), name)

    def finish(self, solver: LinearSolver | None) -> Found:
        """Asks the program over the pairs that a cheaper selection could use."""
        found = self._found
        if solver is None or self._left() <= 0:
            found.is_cut |= self._left() <= 0
            return found
        program = Program(self._uses, self._worth_while())
        for is_whole in (False, True):
            stated = program.stated(found.choice, is_whole=is_whole)
            seconds = self._left()
            if seconds <= 0:
                found.is_cut = True
                return found
            answer = solver.solve_linear(stated, limit_seconds=seconds, gap=self._gap / 2)
            found.programs += 1
            found.is_cut |= answer.is_cut
            if answer.duals:
                self._price(program.multipliers(answer))
            if answer.values:
                self.attempt(program.shares(answer), answer.solver or "solver")
            if found.is_proven(self._gap):
                found.is_cut = False
                return found
        return found

    def _worth_while(self) -> Layout:
        """Returns the pairs that a cheaper selection could use, and those of the cheapest so far.

        A selection with a pair costs at least the bound at the prices plus what the pair's reduced
        cost is above its request's least. Where that leaves too many, the nearest are taken.
        """
        found, selection = self._found, self._book.selection
        penalties = selection.penalties << SHIFT
        least = np.minimum(self.reduced.min(axis=1, initial=INFEASIBLE), penalties)
        more = np.where(self.reduced < INFEASIBLE, self.reduced - least[:, None], INFEASIBLE)
        useful = np.flatnonzero(more <= (found.cost - self._priced) << SHIFT)
        useful = useful[np.argsort(more.flat[useful], kind="stable")]
        served = np.flatnonzero(found.choice != UNSERVED)
        most = MOST_PROGRAM_PAIRS
        while True:
            wanted = np.zeros(more.shape, dtype=bool)
            wanted.flat[useful[:most]] = True
            wanted[served, found.choice[served]] = True
            layout = self._uses.lay_out(wanted)
            if layout.size <= MOST_PROGRAM_ENTRIES or most == 0:
                return layout
            most //= 2

    def _price(self, multipliers: Whole) -> None:
        selection = self._book.selection
        reduced_costs(selection, multipliers, out=self.reduced)
        self._priced = bound(selection, multipliers, self.reduced)
        self._found.bound = max(self._found.bound, self._priced)
