"""Selections that fit: one request after the other, then single moves and swaps that cost less."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from cu_market.dnm.selection.arrays import INFEASIBLE, Selection, Whole
from cu_market.dnm.selection.multipliers import usage

UNSERVED = -1
PUSHED = 60
PUSH_BIDS = 8
PUSH_OTHERS = 4
"""How many requests, those that pay most above their cheapest, may push how many others from how
many of their cheapest bids: more cost more time than they save."""


class Holding:
    """What is held of every room at every start, and a bid (or UNSERVED) per request.

    Args:
        selection: the input.
        choice: a selection that fits; nothing by default.
    """

    def __init__(self, selection: Selection, choice: Whole | None = None) -> None:
        self.selection = selection
        count = len(selection.requests)
        self.choice = np.full(count, UNSERVED, dtype=np.int64) if choice is None else choice.copy()
        self.free = selection.limits - usage(selection, self.choice)
        # Asked a million times: whole numbers and sets, not arrays of one element.
        self._first: list[int] = selection.first.tolist()
        self._rooms = [frozenset(room for room, _ in uses) for uses in selection.uses]

    def fits(self, request: int, bid: int) -> bool:
        """Whether the bid has room for the request from its start to its end."""
        s, free = self.selection, self.free
        first, behind = self._first[request], s.behind.item(request, bid)
        for room, amounts in s.uses[bid]:
            amount = amounts.item(request)
            if free.item(room, first) < amount:
                return False  # most of those that do not fit
            if behind > first + 1 and free[room, first:behind].min() < amount:
                return False
        return True

    def shares_room(self, one: int, other: int) -> bool:
        """Whether two bids take from one room."""
        return not self._rooms[one].isdisjoint(self._rooms[other])

    def put(self, request: int, bid: int) -> None:
        """Moves the request to the bid, or to nowhere."""
        for where, sign in ((int(self.choice[request]), 1), (bid, -1)):
            if where != UNSERVED:
                s = self.selection
                first, behind = self._first[request], s.behind.item(request, where)
                for room, amounts in s.uses[where]:
                    self.free[room, first:behind] += sign * amounts.item(request)
        self.choice[request] = bid

    def cost(self) -> int:
        """Returns costs and penalties in micro-dollars."""
        s = self.selection
        served = np.flatnonzero(self.choice != UNSERVED)
        left = np.flatnonzero(self.choice == UNSERVED)
        return int(s.costs[served, self.choice[served]].sum()) + int(s.penalties[left].sum())


def place(
    selection: Selection,
    order: Sequence[int] | Whole,
    preference: Callable[[int], npt.NDArray[np.number]],
) -> Holding:
    """Returns a selection that fits: each request on the bid of least preference with room.

    Args:
        selection: the input.
        order: of the requests.
        preference: (m,) of a request; ties by cost, then by canonical order.
    """
    holding = Holding(selection)
    for i in map(int, order):
        costs = selection.costs[i]
        options = np.flatnonzero(costs < INFEASIBLE)
        if not len(options):
            continue
        preferred = preference(i)[options]
        best = options[preferred == preferred.min()]
        first = int(best[costs[best].argmin()])
        if holding.fits(i, first):  # most of the time, and nothing need be ranked
            holding.put(i, first)
            continue
        for b in options[np.lexsort((options, costs[options], preferred))].tolist():
            if holding.fits(i, b):
                holding.put(i, b)
                break
    return holding


def improve(holding: Holding, passes: int = 2) -> None:
    """Moves single requests to cheaper bids with room until no move is better.

    A request that stands nowhere may push one other request aside where both together cost less.
    """
    s = holding.selection
    least = s.costs.min(axis=1)
    for _ in range(passes):
        has_moved = False
        # A request moves itself only: what it pays stays as it is until its turn.
        for i in np.flatnonzero(_paid(holding) > least).tolist():
            old = int(holding.choice[i])
            limit = int(s.penalties[i]) if old == UNSERVED else int(s.costs[i, old])
            for b in _cheaper(s, i, limit):
                if holding.fits(i, b) or (
                    old != UNSERVED
                    and holding.shares_room(old, b)
                    and _fits_instead(holding, i, old, b)
                ):
                    holding.put(i, b)
                    has_moved = True
                    break
        has_moved |= _push(holding)
        if not has_moved:
            return


def _paid(holding: Holding) -> Whole:
    """Returns (n,) what each request costs where it is now, or its penalty."""
    s, choice = holding.selection, holding.choice
    paid: Whole = np.where(choice != UNSERVED, s.costs[np.arange(len(choice)), choice], s.penalties)
    return paid


def _cheaper(selection: Selection, request: int, limit: int) -> list[int]:
    """Returns the bids that cost the request less than the limit, the cheapest first."""
    costs = selection.costs[request]
    cheaper = np.flatnonzero(costs < limit)
    found: list[int] = cheaper[np.argsort(costs[cheaper], kind="stable")].tolist()
    return found


def _fits_instead(holding: Holding, request: int, old: int, new: int) -> bool:
    """Whether there is room once the request has left where it is: bids may share a capacity."""
    holding.put(request, UNSERVED)
    can = holding.fits(request, new)
    holding.put(request, old)
    return can


def _push(holding: Holding) -> bool:
    """Serves a dear or unserved request by moving one other elsewhere, where that pays."""
    s = holding.selection
    cheapest = np.minimum(s.costs.min(axis=1), s.penalties)
    now = _paid(holding)
    regret = now - cheapest
    has_moved = False
    for i in np.argsort(-regret, kind="stable")[:PUSHED]:
        if regret[i] <= 0:
            break
        has_moved |= _push_one(holding, int(i), int(now[i]))
    return has_moved


def _push_one(holding: Holding, i: int, now: int) -> bool:
    s = holding.selection
    if holding.choice[i] != UNSERVED:
        now = int(s.costs[i, holding.choice[i]])
    for b in _cheaper(s, i, now)[:PUSH_BIDS]:
        saved = now - int(s.costs[i, b])
        others = np.flatnonzero(
            (holding.choice == b) & (s.first < s.behind[i, b]) & (s.behind[:, b] > s.first[i])
        )
        for j in others[:PUSH_OTHERS]:
            if int(j) != i and _swap(holding, i, int(j), b, saved):
                return True
    return False


def _swap(holding: Holding, i: int, j: int, b: int, saved: int) -> bool:
    """Puts i where j was, and j on its next best bid, if that costs less in all."""
    s = holding.selection
    old = int(holding.choice[i])
    own = int(s.costs[j, b])
    holding.put(j, UNSERVED)
    holding.put(i, UNSERVED)
    if holding.fits(i, b):
        holding.put(i, b)
        for other in _cheaper(s, j, own + saved):
            if other != b and holding.fits(j, other):
                holding.put(j, other)
                return True
        holding.put(i, UNSERVED)
    holding.put(i, old)
    holding.put(j, b)
    return False
