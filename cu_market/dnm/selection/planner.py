"""A plan for thousands of requests with given starts: select in arrays, award from the records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from cu_market.dnm.feasibility import refusals
from cu_market.dnm.given import Given
from cu_market.dnm.objective import Surcharges, expected_ms, money_microusd
from cu_market.dnm.offers import RunningLease
from cu_market.dnm.programs.linear import LinearSolver
from cu_market.dnm.programs.solve import Clock
from cu_market.dnm.selection.arrays import INFEASIBLE, UNSERVED, Selection, Whole, tabulate
from cu_market.dnm.selection.found import Found, uncontended
from cu_market.dnm.selection.multipliers import usage
from cu_market.dnm.verify import violations
from cu_market.domain.bid import Bid
from cu_market.domain.plan import Award, Loss, LossReason, Plan, Unserved
from cu_market.domain.problem import CUMarketError
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import format_usd

TOLD_LOSSES = 5
"""Losers told of a served request: its cheapest other bids. An unserved one is told all."""


def plan_selection(
    requests: Sequence[ResourceRequest],
    bids: Sequence[Bid],
    capacities: Mapping[str, ResourceVector],
    *,
    solver: object,
    limit_seconds: float,
    gap: float,
    running: Sequence[RunningLease],
    surcharges: Surcharges,
    clock: Clock,
) -> Plan:
    """Returns the plan that planner.plan would for given starts, at a scale that it cannot.

    Raises:
        InvalidInputError: as planner.plan.
        CUMarketError: the selection does not verify, which is a defect.
    """
    began = clock()
    selection = tabulate(requests, bids, capacities, running=running, surcharges=surcharges)
    tabulated = clock()
    left = limit_seconds - (tabulated - began)
    found = _select(selection, solver, gap=gap, limit_seconds=left, clock=clock)
    searched = clock()
    awards, unserved = _outcome(selection, found, surcharges)
    wrong = violations(
        requests,
        bids,
        capacities,
        awards,
        running=running,
        fixed_starts=True,
        surcharges=surcharges,
    )
    if wrong:
        told = "; ".join(f"{v.where}: {v.what}" for v in wrong[:5])
        raise CUMarketError(f"the selection does not verify: {told}; report it with the auction")
    place = {request.request_id: k for k, request in enumerate(requests)}
    return Plan(
        awards=tuple(sorted(awards, key=lambda award: place[award.request_id])),
        unserved=tuple(sorted(unserved, key=lambda entry: place[entry.request_id])),
        objective_microusd=found.cost,
        bound_microusd=max(0, found.bound),
        solver=found.solver,
        is_cut=found.is_cut and not found.is_proven(gap),
        build_ms=round(1000 * (tabulated - began)),
        solve_ms=round(1000 * (searched - tabulated)),
    )


def choose_at(
    given: Given,
    starts_ms: Mapping[str, int],
    surcharges: Surcharges,
    *,
    solver: object,
    limit_seconds: float,
    gap: float,
    clock: Clock,
) -> tuple[dict[int, int], str, bool]:
    """Returns a choice at given starts: bid by request, as numbered in an OfferTable of the same
    input; what found it; whether the clock ended the search.

    Args:
        given: the input.
        starts_ms: by request_id.
        surcharges: as planner.plan.
        solver: as planner.plan.
        limit_seconds, gap, clock: as planner.plan.
    """
    at = [replace(r, earliest_start_ms=starts_ms[r.request_id]) for r in given.requests]
    selection = tabulate(
        at, given.bids, given.capacities, running=given.running, surcharges=surcharges
    )
    found = _select(selection, solver, gap=gap, limit_seconds=limit_seconds, clock=clock)
    served = np.flatnonzero(found.choice != UNSERVED).tolist()
    return {i: int(found.choice[i]) for i in served}, found.solver, found.is_cut


def _select(
    selection: Selection, solver: object, *, gap: float, limit_seconds: float, clock: Clock
) -> Found:
    found = uncontended(selection)
    if found is None:
        from cu_market.dnm.selection.search import search, warm  # numba: off the light path

        warm()
        began = clock()
        found = search(
            selection,
            solver if isinstance(solver, LinearSolver) else None,
            gap=gap,
            left=lambda: limit_seconds - (clock() - began),
        )
    return found


def _outcome(
    selection: Selection, found: Found, surcharges: Surcharges
) -> tuple[list[Award], list[Unserved]]:
    free = selection.limits - usage(selection, found.choice)
    awards: list[Award] = []
    unserved: list[Unserved] = []
    for i, request in enumerate(selection.requests):
        b = int(found.choice[i])
        if b == UNSERVED:
            every = range(len(selection.bids))
            losses = tuple(_loss(selection, free, i, k, None, surcharges) for k in every)
            unserved.append(Unserved(request_id=request.request_id, losses=losses))
            continue
        cost = int(selection.costs[i, b])
        ranked = np.argsort(selection.costs[i], kind="stable")[: TOLD_LOSSES + 1]
        others = [int(k) for k in ranked if int(k) != b][:TOLD_LOSSES]
        bid = selection.bids[b]
        beside = surcharges(request, bid)
        awards.append(
            Award(
                request_id=request.request_id,
                bid_id=bid.bid_id,
                provider=bid.provider,
                resource_id=bid.profile.cu_id,
                capacity_id=bid.profile.capacity_id,
                size=bid.size_for(request.needs),
                price_microusd_per_hour=bid.price_for(request.needs),
                start_ms=request.earliest_start_ms,
                expected_ms=expected_ms(request, bid, beside),
                money_microusd=money_microusd(request, bid, beside),
                cost_microusd=cost,
                loss_microusd=beside.loss_microusd,
                egress_microusd=beside.microusd,
                transfer_ms=beside.extra_ms,
                losses=tuple(_loss(selection, free, i, k, cost, surcharges) for k in others),
            )
        )
    return awards, unserved


def _loss(
    selection: Selection, free: Whole, i: int, b: int, paid: int | None, surcharges: Surcharges
) -> Loss:
    request, bid, cost = selection.requests[i], selection.bids[b], int(selection.costs[i, b])
    if cost >= INFEASIBLE:
        takes = expected_ms(request, bid, surcharges(request, bid))
        after = int(selection.after_ms[i])
        reasons = refusals(request, bid, expected_ms=takes, after_ms=after)
        reason, detail = reasons[0][0], "; ".join(said for _, said in reasons)
        told: int | None = None
    elif paid is not None and cost >= paid:
        reason, told = LossReason.DEARER, cost
        detail = f"{format_usd(cost - paid)} dearer: {format_usd(cost)} in all"
    elif _has_room(selection, free, i, b):
        reason, told = LossReason.CAPACITY, cost
        detail = "cheaper here, but dearer for the plan as a whole"
    else:
        reason, told = LossReason.CAPACITY, cost
        detail = f"{bid.bid_id}: its room is held by other requests at that time"
    return Loss(
        bid_id=bid.bid_id,
        provider=bid.provider,
        resource_id=bid.profile.cu_id,
        reason=reason,
        detail=detail,
        cost_microusd=told,
    )


def _has_room(selection: Selection, free: Whole, i: int, b: int) -> bool:
    there = slice(int(selection.first[i]), int(selection.behind[i, b]))
    return all(
        int(free[room, there].min()) >= int(amounts[i]) for room, amounts in selection.uses[b]
    )
