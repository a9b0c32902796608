"""What a search for a selection has found, and the one case where there is nothing to search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cu_market.dnm.selection.arrays import INFEASIBLE, UNSERVED, Selection, Whole
from cu_market.dnm.selection.multipliers import usage


@dataclass(slots=True)
class Found:
    """Where the search stands.

    Attributes:
        choice: a bid per request, or UNSERVED; always fits.
        cost, bound: micro-dollars; no selection costs less than the bound.
        solver: what found the choice.
        is_cut: the clock ended the search.
        programs: asked of the solver.
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

    def keep(self, choice: Whole, cost: int, solver: str) -> None:
        """Takes a selection if it costs less."""
        if cost < self.cost:
            self.choice, self.cost, self.solver = choice.copy(), cost, solver


def uncontended(selection: Selection) -> Found | None:
    """Returns everyone at their cheapest, where that fits: nothing is cheaper. None where not."""
    asked = np.arange(len(selection.requests))
    if not len(selection.bids):
        choice = np.full(len(asked), UNSERVED)
    else:
        cheapest = selection.costs.argmin(axis=1)
        can = selection.costs[asked, cheapest] < INFEASIBLE
        choice = np.where(can, cheapest, UNSERVED)
    if (usage(selection, choice) > selection.limits).any():
        return None
    served = np.flatnonzero(choice != UNSERVED)
    cost = int(selection.costs[served, choice[served]].sum())
    return Found(choice=choice, cost=cost, bound=cost)
