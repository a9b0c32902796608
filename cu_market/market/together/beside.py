"""A run's plan with all that is leased and all that waits, at an auction's bids."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from cu_market.dnm.placement.placing import places_of
from cu_market.dnm.standing import Hold, Standing
from cu_market.domain.open_request import OpenRequest
from cu_market.domain.outline import RunOutline
from cu_market.domain.plan import Plan
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.request import ResourceRequest
from cu_market.market.accounts.spending import DEFAULT_ACCOUNT
from cu_market.market.demand.requests import Demand, without_deadline
from cu_market.market.together.crowd import Crowd, joint_id, joint_request
from cu_market.market.together.joint import Together, plan_together
from cu_market.market.together.retender import open_requests
from cu_market.ral.bids import BidRound

if TYPE_CHECKING:
    from cu_market.market.auction import Market


def account_of(demand: Demand) -> str:
    """Returns who pays for a run."""
    return demand.run.account or DEFAULT_ACCOUNT


def with_queued(
    crowd: Crowd, market: Market, outlines: Iterable[RunOutline], now: datetime
) -> Crowd:
    """Returns the crowd with what queued runs will ask for; those with mistaken tags ask for
    nothing: they will be refused."""
    found: list[OpenRequest] = []
    for outline in outlines:
        try:
            demand = market.size(outline, {}, now)
        except InvalidInputError:
            continue
        awards = {request.request_id for request in demand.requests}
        found += [
            replace(each, request=joint_request(each.request, outline.run_id))
            for each in open_requests(outline, demand, account_of(demand), awards)
        ]
    return replace(crowd, queued=tuple(found)) if found else crowd


def beside_others(
    market: Market,
    outline: RunOutline,
    demand: Demand,
    bids: BidRound,
    crowd: Crowd,
    *,
    may_move: bool,
    is_priced: bool = True,
) -> Together:
    """Returns the run's plan beside what is leased, together with what waits.

    Args:
        market: plans.
        outline, demand: the run, sized.
        bids: the auction's.
        crowd: what else is asked of the pools.
        may_move: whether others' steps may be moved.
        is_priced: whether winners are priced as the market says; else each is priced as bid.
    """

    names = {request.request_id for request in demand.requests}
    own = names | {joint_id(outline.run_id, name) for name in names}
    free = crowd.free(bids.pool.capacities)

    def solve(
        requests: Sequence[ResourceRequest],
        *,
        standing: Mapping[str, Standing],
        limit_seconds: float,
    ) -> Plan:
        return market.terms.plan(
            replace(demand, requests=tuple(requests)),
            bids.bids,
            free,
            running=crowd.running,
            standing=standing,
            own=own,
            limit_seconds=limit_seconds,
        )

    def planned(with_whom: Crowd) -> Together:
        return plan_together(
            outline.run_id,
            account_of(demand),
            demand.requests,
            bids.bids,
            with_whom,
            solve,
            limit_seconds=market.settings.solve_seconds,
            clock=time.monotonic,
            may_move=may_move,
        )

    found = planned(crowd)
    if found.plan.unserved and found.queued:  # whoever is launched goes before whoever is not
        found = planned(replace(crowd, queued=()))
    if not is_priced:
        return found
    others, standing = _as_planned(found, bids)
    paid = market.terms.priced(
        found.plan,
        demand,
        bids.bids,
        free,
        running=crowd.running,
        others=others,
        standing=standing,
    )
    return replace(found, plan=paid)


def beside_others_or_late(
    market: Market,
    outline: RunOutline,
    demand: Demand,
    bids: BidRound,
    crowd: Crowd,
    *,
    may_move: bool,
) -> Together:
    """Returns the same; of a run that would end in time only if nobody else was there, its
    quickest plan. What is not served even then is unserved."""
    found = beside_others(market, outline, demand, bids, crowd, may_move=may_move)
    if not found.plan.unserved:
        return found
    alone = market.solve(demand, bids)
    if alone.unserved:
        return Together(plan=alone)
    hurried = without_deadline(demand)
    found = beside_others(market, outline, hurried, bids, crowd, may_move=may_move)
    if found.plan.unserved:  # more is leased than its provider now has
        found = Together(plan=alone, left_out=len(crowd.steps))
    return replace(found, is_late=True)


def _as_planned(
    found: Together, bids: BidRound
) -> tuple[list[ResourceRequest], dict[str, Standing]]:
    """Returns what was planned with a run, each request by itself, and where the plan has it."""
    if found.whole is None:
        return [], {}
    requests = [step.request for step in found.steps] + [each.request for each in found.queued]
    asked = {request.request_id: request for request in requests}
    places = places_of(found.whole, bids.bids)
    others, standing = [], {}
    for award in found.whole.awards:
        request = asked.get(award.request_id)
        if request is None:
            continue
        inputs = (
            replace(data, place=data.place or places.get(data.source)) for data in request.inputs
        )
        others.append(
            replace(
                request,
                depends_on=(),
                earliest_start_ms=award.start_ms,
                latest_finish_ms=None,
                inputs=tuple(inputs),
            )
        )
        standing[award.request_id] = Standing(
            bid_id=award.bid_id, start_ms=award.start_ms, hold=Hold.ALL
        )
    return others, standing
