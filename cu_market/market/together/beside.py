"""A run's plan with all that is leased and all that waits, at an auction's bids."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from cu_market.market.draws import are_unsure
from cu_market.market.ends import Ends
from cu_market.market.renting.offered import with_rentals
from cu_market.market.renting.shared import Beside, with_shared
from cu_market.market.together.crowd import Crowd, joint_id, joint_request
from cu_market.market.together.joint import Together, plan_together
from cu_market.market.together.punctual import (
    confidence_permille,
    deadline_ms,
    is_by_medians,
    plan_punctually,
)
from cu_market.market.together.retender import open_requests
from cu_market.market.together.walks import Walks
from cu_market.ral.bids import BidRound

if TYPE_CHECKING:
    from cu_market.market.auction import Market

FIRST_SHARE = 0.5
"""Of the solver's time: what the plan at medians has where it may not be the last."""

LEAST_SEARCH_SECONDS = 0.3
"""For a plan that keeps the deadline more often, also where the first one took all the time."""


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
    limit_seconds: float,
    asks_solver: bool = True,
) -> Together:
    """Returns the run's plan at medians beside what is leased, together with what waits; each
    winner is priced as bid.

    Args:
        market: plans.
        outline, demand: the run, sized.
        bids: the auction's.
        crowd: what else is asked of the pools.
        may_move: whether others' steps may be moved.
        limit_seconds: for all of it.
        asks_solver: else all is constructed.
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
            limit_seconds=limit_seconds if asks_solver else 0,
        )

    def planned(with_whom: Crowd) -> Together:
        return plan_together(
            outline.run_id,
            account_of(demand),
            demand.requests,
            bids.bids,
            with_whom,
            solve,
            limit_seconds=limit_seconds,
            clock=time.monotonic,
            may_move=may_move,
        )

    found = planned(crowd)
    if found.plan.unserved and found.queued:  # whoever is launched goes before whoever is not
        found = planned(replace(crowd, queued=()))
    return found


def beside_others_in_time(
    market: Market,
    outline: RunOutline,
    demand: Demand,
    bids: BidRound,
    crowd: Crowd,
    *,
    may_move: bool,
    is_priced: bool = True,
    may_rent: bool = True,
    is_hurried: bool = False,
) -> Together:
    """Returns the same; of a run with a deadline, a plan that keeps it in as many cases as it is to
    be kept in, or comes nearest to that. On CUs that steps share, where that costs less.

    Args:
        market, outline, demand, bids, crowd, may_move: as beside_others.
        is_priced: whether winners are priced as the market says; else each is priced as bid.
        may_rent: whether CUs may be rented whole, to be shared.
        is_hurried: whether the run is late in any case.
    """
    clock, seconds = market.terms.clock, market.settings.solve_seconds
    began = clock()
    by_medians, asked = is_by_medians(demand, market.settings), demand
    may_be_late = not by_medians and are_unsure((*demand.requests, *crowd.requests))
    first_seconds = FIRST_SHARE * seconds if may_be_late else seconds
    found = beside_others(
        market, outline, demand, bids, crowd, may_move=may_move, limit_seconds=first_seconds
    )
    if not found.plan.unserved and not by_medians:
        until = max(began + seconds, clock() + LEAST_SEARCH_SECONDS)

        def replan(wanted: Demand, *, asks_solver: bool) -> Together:
            return beside_others(
                market,
                outline,
                wanted,
                bids,
                crowd,
                may_move=may_move,
                limit_seconds=max(0.01, until - clock()),
                asks_solver=asks_solver,
            )

        found, demand = plan_punctually(
            found,
            demand,
            bids.bids,
            walked=walker(market, outline, demand, bids, crowd),
            replan=replan,
            has_time=lambda: clock() < until,
        )
    if may_rent:
        beside = _beside(market, outline, asked, bids, crowd, found)
        found = with_shared(found, replace(beside, is_hurried=is_hurried))
    return _priced(market, demand, bids, crowd, found) if is_priced else found


def walker(
    market: Market, outline: RunOutline, demand: Demand, bids: BidRound, crowd: Crowd
) -> Callable[[Together], Ends]:
    """Returns what says when a run with a deadline ends by a plan that serves all of it."""
    walks = walks_of(outline, demand, bids, crowd)
    latest = deadline_ms(demand.requests) or 0
    permille = confidence_permille(demand, market.settings)
    return lambda found: walks.ends(found, latest, permille)


def walks_of(
    outline: RunOutline, demand: Demand, bids: BidRound, crowd: Crowd, *, seed: int = 0
) -> Walks:
    """Returns what plans of a run beside a crowd are walked among."""
    return Walks(
        run_id=outline.run_id,
        requests=demand.requests,
        bids=bids.bids,
        free=crowd.free(bids.pool.capacities),
        running=crowd.running,
        seed=seed,
    )


def _priced(
    market: Market, demand: Demand, bids: BidRound, crowd: Crowd, found: Together
) -> Together:
    """Returns the plan with the run's winners priced as the market says."""
    others, standing = _as_planned(found, with_rentals(bids, found.rentals))
    paid = market.terms.priced(
        found.plan,
        demand,
        bids.bids,
        crowd.free(bids.pool.capacities),
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
    """Returns the same, priced; of a run that would end in time only if nobody else was there, its
    quickest plan. What is not served even then is unserved."""
    found = beside_others_in_time(market, outline, demand, bids, crowd, may_move=may_move)
    if not found.plan.unserved:
        return found
    shared = _in_time_on_shared(market, outline, demand, bids, crowd)
    if shared is not None:
        return shared
    alone = market.solve(demand, bids)
    if alone.unserved:
        return Together(plan=alone)
    hurried = without_deadline(demand)
    found = beside_others_in_time(
        market, outline, hurried, bids, crowd, may_move=may_move, is_hurried=True
    )
    if found.plan.unserved:  # more is leased than its provider now has
        found = Together(plan=alone, left_out=len(crowd.steps))
    elif not is_by_medians(demand, market.settings):
        found = replace(found, ends=walker(market, outline, demand, bids, crowd)(found))
    return replace(found, is_late=True)


def _in_time_on_shared(
    market: Market, outline: RunOutline, demand: Demand, bids: BidRound, crowd: Crowd
) -> Together | None:
    """Returns a plan that ends in time since its steps share CUs, which start once; None where none
    does."""
    if deadline_ms(demand.requests) is None:
        return None
    hurried = without_deadline(demand)
    found = beside_others_in_time(
        market, outline, hurried, bids, crowd, may_move=False, is_priced=False, may_rent=False
    )
    if found.plan.unserved:
        return None
    beside = _beside(market, outline, demand, bids, crowd, found)
    shared = with_shared(found, replace(beside, is_needed=True))
    return shared if shared.rentals else None


def _beside(
    market: Market,
    outline: RunOutline,
    demand: Demand,
    bids: BidRound,
    crowd: Crowd,
    found: Together,
) -> Beside:
    """Returns what a plan was made of, and beside what, for what is to be made of it."""
    others, standing = _as_planned(found, bids)
    by_medians = is_by_medians(demand, market.settings)
    return Beside(
        market=market,
        outline=outline,
        demand=demand,
        bids=bids,
        crowd=crowd,
        others=others,
        standing=standing,
        walked=None if by_medians else walker(market, outline, demand, bids, crowd),
    )


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
