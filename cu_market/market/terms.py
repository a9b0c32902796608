"""The plan of a demand at the bids that stand, on the terms that the run and the market set.

1. Bids that another one makes pointless are dropped (``dnm/dominance.py``).
2. The rest is planned with everything that a pair costs (``dnm/placing.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cu_market.dnm.dominance import Dominated, drop_dominated, tell_dominated
from cu_market.dnm.placing import places_of, plan_placed
from cu_market.dnm.solve import Clock, Solver
from cu_market.dnm.surcharges import Priced
from cu_market.domain.bid import Bid
from cu_market.domain.plan import Plan
from cu_market.domain.resources import ResourceVector
from cu_market.market.requests import Demand

TOLD = 5
"""So many dropped bids are named in a note; each step's losses have them all."""


def plan_on_terms(
    demand: Demand,
    bids: Sequence[Bid],
    capacities: Mapping[str, ResourceVector],
    *,
    solver: Solver | None,
    limit_seconds: float,
    clock: Clock,
) -> Plan:
    """Returns the plan; nothing is written.

    Args:
        demand: what is asked.
        bids: those that stand.
        capacities: the room of each pool by capacity_id.
        solver, limit_seconds, clock: as dnm.planner.plan.

    Raises:
        InvalidInputError, CUMarketError: as dnm.planner.plan.
    """
    left, dropped = drop_dominated(demand.requests, bids, capacities)
    found = plan_placed(
        demand.requests,
        left,
        capacities,
        solver=solver,
        limit_seconds=limit_seconds,
        clock=clock,
    )
    priced = Priced(places=places_of(found, left))
    found = tell_dominated(found, demand.requests, dropped, priced)
    return replace(found, notes=(*_dropped_note(dropped), *found.notes))


def _dropped_note(dropped: Sequence[Dominated]) -> list[str]:
    """Returns which bids were dropped, in one sentence, or nothing."""
    if not dropped:
        return []
    named = [f"{each.bid.profile.cu_id} ({each.by.profile.cu_id})" for each in dropped[:TOLD]]
    more = f" and {len(dropped) - TOLD} more" if len(dropped) > TOLD else ""
    return [f"dominated, and dropped for the one in brackets: {', '.join(named)}{more}"]
