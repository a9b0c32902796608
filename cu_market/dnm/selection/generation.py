"""The selection's linear relaxation by columns and rows, and selections guided by it.

1. Columns: each request's few lowest reduced costs at the subgradients' prices, its cheapest, and
   what a first selection chose. Rows: some of the (room, start) that have a price there and that
   they could exceed.
2. PuLP builds the program, HiGHS solves it on its live model.
3. The bound is recomputed at the duals over all pairs, in whole numbers.
4. The values guide a selection that fits; it is improved by single moves and swaps. Of few requests
   near the gap, others are built in other orders.
5. Until the gap is proven: pairs of negative reduced cost join, and rows at the peaks of what the
   values exceed; while the bound rises, rows without a price leave; back to 2. At the end an
   integer program over the pairs that an optimum could still use: those of reduced cost at most the
   distance between selection and bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cu_market.dnm.programs.growing import Growing
from cu_market.dnm.programs.linear import LinearAnswer, LinearProgram
from cu_market.dnm.selection.arrays import INFEASIBLE, Selection, Whole
from cu_market.dnm.selection.master import Master, Shares
from cu_market.dnm.selection.multipliers import SHIFT, near, reduced_costs, subgradient
from cu_market.dnm.selection.rounding import UNSERVED, Holding, improve, place

FIRST_COLUMNS = 8
BUILT_COLUMNS = 3
"""Of a request's first columns, so many are in the program that PuLP builds; the others join it at
once, a batch of arrays in the place of objects."""
CHEAPEST_COLUMNS = 2
RISING = 100
"""A bound that rose by more than one such part is still rising: the values say little."""

STEADY = 400
"""Rows without a price leave until the bound rises by less than one such part; later they would
leave and join in turn."""

NEAR = 2.0
"""Times the gap that ends the search: so near, some selections more of few requests cost less than
a program more."""

REQUESTS_ANEW = 400
"""Of all requests of these selections: four selections of a hundred, none of a thousand."""

MOST_PROGRAM_COLUMNS = 20_000


@dataclass(slots=True)
class Found:
    """Where the search stands.

    Attributes:
        choice: a bid per request, or UNSERVED; always fits.
        cost, bound: micro-dollars; no selection costs less than the bound.
        solver: what found the choice.
        is_cut: the clock ended the search.
        programs: solved.
    """

    choice: Whole
    cost: int
    bound: int
    solver: str = "construction"
    is_cut: bool = False
    programs: int = 0

    def is_proven(self, gap: float) -> bool:
        """Whether the gap between cost and bound is small enough."""
        return self.cost - self.bound <= gap * self.cost

    def keep(self, holding: Holding, solver: str) -> None:
        """Takes a selection if it costs less."""
        cost = holding.cost()
        if cost < self.cost:
            self.choice, self.cost, self.solver = holding.choice.copy(), cost, solver


def select(
    selection: Selection,
    open_program: Callable[[LinearProgram], Growing] | None,
    *,
    gap: float,
    left: Callable[[], float],
) -> Found:
    """Returns the best selection, its cost and a proven bound.

    Args:
        selection: the input.
        open_program: builds a program and keeps it; None leaves out the programs.
        gap: where the search ends.
        left: seconds left.
    """
    order = np.argsort(-selection.costs.min(axis=1, initial=INFEASIBLE), kind="stable")
    first = place(selection, order, selection.costs.__getitem__)
    found = Found(choice=first.choice.copy(), cost=first.cost(), bound=0)
    multipliers, found.bound = subgradient(selection, found.cost)
    reduced = reduced_costs(selection, multipliers)
    guided = place(selection, order, reduced.__getitem__)
    improve(guided, passes=1)
    found.keep(guided, "construction")
    if not found.is_proven(gap) and open_program is not None:
        _generate(selection, multipliers, reduced, open_program, found, gap, left)
    return found


def _generate(
    selection: Selection,
    multipliers: Whole,
    reduced: Whole,
    open_program: Callable[[LinearProgram], Growing],
    found: Found,
    gap: float,
    left: Callable[[], float],
) -> None:
    wanted = near(reduced, FIRST_COLUMNS) | near(selection.costs, CHEAPEST_COLUMNS)
    served = np.flatnonzero(found.choice != UNSERVED)
    wanted[served, found.choice[served]] = True
    master = Master(selection, wanted, multipliers, near(reduced, BUILT_COLUMNS))
    live = master.open(open_program)
    unrounded: Shares | None = None
    while True:
        answer = live.solve(limit_seconds=left()) if left() > 0 else LinearAnswer(is_cut=True)
        if not answer.values or not answer.duals:
            found.is_cut = answer.is_cut
            if unrounded is not None:  # rather than end on what was there before any program
                _round(selection, unrounded, reduced, found, gap)
            return
        found.programs += 1
        lower = master.price(answer, out=reduced)
        has_risen = lower > found.bound + found.bound // RISING
        is_steady = lower <= found.bound + found.bound // STEADY
        found.bound = max(found.bound, lower)
        unrounded = master.shares(answer)
        rows, columns = master.exceeded(unrounded), master.joining(reduced)
        has_more = bool(rows) or bool(columns.any())
        if not has_more or not has_risen:
            _round(selection, unrounded, reduced, found, gap)
            unrounded = None
        if found.is_proven(gap):
            return
        if not has_more:
            break
        if not is_steady:
            master.shrink(live, answer)
        master.grow(live, rows, columns)
    _finish(selection, reduced, lower, open_program, found, left)


def _round(
    selection: Selection,
    shares: Shares,
    reduced: Whole,
    found: Found,
    gap: float,
) -> None:
    """Builds selections on the values: what is whole first, then by reduced cost.

    Near the gap, few requests are selected in some other orders as well.
    """
    surest = np.round(_surest(shares), 3)
    dearest = selection.costs.min(axis=1, initial=INFEASIBLE)
    guided = _guided(reduced, shares, 2.0**SHIFT)
    draws = np.random.default_rng(0)
    order = np.lexsort((-dearest, -surest))
    for _ in range(1 + REQUESTS_ANEW // len(surest)):
        holding = place(selection, order, guided)
        improve(holding)
        found.keep(holding, "HiGHS")
        if found.is_proven(gap) or not found.is_proven(NEAR * gap):
            return
        order = np.argsort(-surest - draws.uniform(-0.5, 0.5, len(surest)), kind="stable")


def _finish(
    selection: Selection,
    reduced: Whole,
    lower: int,
    open_program: Callable[[LinearProgram], Growing],
    found: Found,
    left: Callable[[], float],
) -> None:
    """Asks the integer program over the pairs that a cheaper selection could use.

    A selection with a pair costs at least lower plus what the pair's reduced cost is above its
    request's least; reduced costs and lower are of the same multipliers.
    """
    least = np.minimum(reduced.min(axis=1), selection.penalties << SHIFT)
    more = reduced - least[:, None]
    useful = (reduced < INFEASIBLE) & (more <= (found.cost - lower) << SHIFT)
    served = np.flatnonzero(found.choice != UNSERVED)
    useful[served, found.choice[served]] = True
    if useful.sum() > MOST_PROGRAM_COLUMNS or left() <= 0:
        found.is_cut |= left() <= 0
        return
    master = Master(selection, useful)
    live = open_program(master.program(found.choice, is_whole=True))
    answer = live.solve(limit_seconds=left())
    found.programs += 1
    found.is_cut |= answer.is_cut
    if answer.values:
        shares = master.shares(answer)
        surest = _surest(shares)
        order = np.argsort(-surest, kind="stable")
        holding = place(selection, order, _guided(selection.costs, shares, 1.0))
        improve(holding)
        found.keep(holding, "HiGHS")


def _surest(shares: Shares) -> npt.NDArray[np.float64]:
    """Returns each request's largest value."""
    return np.array([max(each.values(), default=0.0) for each in shares])


def _guided(costs: Whole, shares: Shares, unit: float) -> Callable[[int], npt.NDArray[np.float64]]:
    """Returns what ranks a request's bids: their values first, then their costs."""

    def row(request: int) -> npt.NDArray[np.float64]:
        found: npt.NDArray[np.float64] = costs[request] / unit
        for b, share in shares[request].items():
            found[b] -= share * 1e12  # costs are large as well
        return found

    return row
