"""What a run would cost and when it would end, and how the one is had for the other.

Nothing is written and nothing held. It is planned as if it was launched now: beside what is leased,
until that is expected to end, and beside what other runs wait for and Dagster's queue holds, which
keep their places. An auction may move what waits: then it ends sooner than quoted.

Each point of the curve is a plan of its own: the cheapest that ends by that deadline. How sure its
figures are comes from the forecasts: each step's time is drawn from a lognormal through its median
and its 95th percentile, and the plan is walked with it: what waits for another's end or room by
plan waits for it then, too (``dnm/handover.py``). A lease that goes on ends when it is expected to.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cu_market.dnm.handover import Turn, turns_of
from cu_market.domain.bid import Bid
from cu_market.domain.outline import RunOutline
from cu_market.domain.plan import Award, Plan
from cu_market.domain.request import ResourceRequest
from cu_market.domain.units import MICROUSD, lease_cost_microusd
from cu_market.market.auction import Cleared, Market
from cu_market.market.demand.requests import Demand
from cu_market.market.together.beside import beside_others, with_queued
from cu_market.market.together.crowd import Crowd, joint_id, joint_request, read_crowd
from cu_market.market.together.joint import Together

DRAWS = 400
Z95 = 1.6448536269514722
"""The standard normal's 95th percentile."""

HURRY_MICROUSD_PER_HOUR = 10**6 * MICROUSD
"""A value of time at which only time counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One plan's figures.

    Attributes:
        deadline_ms: what it was planned for.
        cost_microusd: median and 95th percentile.
        finish_ms: median and 95th percentile.
        is_feasible: whether the plan serves every step by then; else there are no figures.
    """

    deadline_ms: int
    cost_microusd: tuple[int, int] = (0, 0)
    finish_ms: tuple[int, int] = (0, 0)
    is_feasible: bool = True

    def to_record(self) -> dict[str, Any]:
        """Returns the point ready for JSON."""
        (cost, cost_95), (finish, finish_95) = self.cost_microusd, self.finish_ms
        figures = {
            "cost_usd_p50": cost / MICROUSD,
            "cost_usd_p95": cost_95 / MICROUSD,
            "finish_seconds_p50": finish / 1000,
            "finish_seconds_p95": finish_95 / 1000,
        }
        return {
            "deadline_seconds": self.deadline_ms / 1000,
            "is_feasible": self.is_feasible,
            **(figures if self.is_feasible else dict.fromkeys(figures)),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A run's quote.

    Attributes:
        cleared: the auction that was not held, at the run's own terms.
        crowd: what else was asked of the pools.
        asked: its figures.
        curve: from the earliest finish to that of the cheapest plan, by deadline.
    """

    cleared: Cleared
    crowd: Crowd
    asked: Point
    curve: tuple[Point, ...]

    @property
    def is_late(self) -> bool:
        """Whether the run misses its own deadline for what others have and wait for."""
        return self._found.is_late

    def beside(self) -> dict[str, int]:
        """Returns how many leases go on, and how many steps of other runs were planned with, of
        queued ones, and left out."""
        return {
            "leases": len(self.crowd.running),
            "waiting_steps": len(self._found.steps),
            "queued_steps": len(self._found.queued),
            "left_out_steps": self._found.left_out,
        }

    @property
    def _found(self) -> Together:
        return self.cleared.together or Together(plan=self.cleared.plan)


def quote_run(
    market: Market,
    outline: RunOutline,
    *,
    points: int = 7,
    seed: int = 0,
    queued: Iterable[RunOutline] = (),
) -> Quote:
    """Returns the quote of a run.

    Args:
        market: open.
        outline: the run's steps.
        points: of the curve, at least 5.
        seed: of the draws: equal input gives equal quotes.
        queued: runs that wait to be launched; those of its account are planned with.

    Raises:
        InvalidInputError, MarketUnavailableError: as Market.quote.
    """
    now = market.now()
    crowd = with_queued(read_crowd(market.ledger, outline.run_id, now), market, queued, now)
    cleared = market.quote(outline, crowd=crowd)
    demand, round_ = cleared.demand, cleared.round
    bids = {bid.bid_id: bid for bid in round_.bids}
    free = crowd.free(round_.pool.capacities)

    def figures(found: Together, deadline_ms: int) -> Point:
        if found.plan.unserved:
            return Point(deadline_ms=deadline_ms, is_feasible=False)
        whole, requests, own = _as_one(found, outline.run_id, demand.requests)
        turns = turns_of(whole.awards, requests, round_.bids, free, crowd.running)
        return _figures(turns, own, bids, deadline_ms, seed)

    def planned(deadline_ms: int | None, value_of_time: int) -> Together:
        terms = at_terms(demand, deadline_ms, value_of_time)
        return beside_others(market, outline, terms, round_, crowd, may_move=False, is_priced=False)

    earliest = _finish_ms(planned(None, HURRY_MICROUSD_PER_HOUR).plan)
    latest = max(_finish_ms(planned(None, 0).plan), round(1.5 * earliest))
    steps = max(5, points) - 1
    deadlines = [earliest + (latest - earliest) * k // steps for k in range(steps + 1)]
    curve = tuple(figures(planned(deadline, 0), deadline) for deadline in deadlines)
    asked = cleared.together or Together(plan=cleared.plan)
    return Quote(
        cleared=cleared,
        crowd=crowd,
        asked=figures(asked, _finish_ms(cleared.plan)),
        curve=falling(curve),
    )


def _as_one(
    found: Together, run_id: str, requests: Sequence[ResourceRequest]
) -> tuple[Plan, Sequence[ResourceRequest], dict[str, Award]]:
    """Returns the plan of all that was planned with, what it is of, and in it the run's own awards,
    as they are paid."""
    if found.whole is None:
        return found.plan, requests, {award.request_id: award for award in found.plan.awards}
    every = (
        *(joint_request(request, run_id) for request in requests),
        *(step.request for step in found.steps),
        *(each.request for each in found.queued),
    )
    own = {joint_id(run_id, award.request_id): award for award in found.plan.awards}
    return found.whole, every, own


def at_terms(demand: Demand, deadline_ms: int | None, value_of_time: int) -> Demand:
    """Returns the demand with a deadline and a value of time of one's own, and no budget."""
    return replace(
        demand,
        left_microusd=None,
        requests=tuple(
            replace(
                request,
                latest_finish_ms=deadline_ms,
                value_of_time_microusd_per_hour=value_of_time,
            )
            for request in demand.requests
        ),
    )


def falling(curve: Sequence[Point]) -> tuple[Point, ...]:
    """Returns the curve with each point at most as dear as the one before it: a plan that meets an
    earlier deadline meets a later one."""
    found: list[Point] = []
    for point in curve:
        before = next((p for p in reversed(found) if p.is_feasible), None)
        is_dearer = before is not None and (
            not point.is_feasible or point.cost_microusd[0] > before.cost_microusd[0]
        )
        if is_dearer and before is not None:
            point = replace(before, deadline_ms=point.deadline_ms)
        found.append(point)
    return tuple(found)


def _figures(
    turns: Sequence[Turn],
    own: Mapping[str, Award],
    bids: Mapping[str, Bid],
    deadline_ms: int,
    seed: int,
) -> Point:
    """Returns what drawn times bring: of everything that was planned, cost and end of the run's
    own awards."""
    draws = random.Random(seed)
    costs, finishes = [], []
    for _ in range(DRAWS):
        cost, ends = 0, dict[str, float]()
        for turn in turns:
            name = turn.request.request_id
            takes = _drawn_ms(turn.request, turn.award, draws)
            ends[name] = max([turn.not_before_ms, *(ends[other] for other in turn.after)]) + takes
            if name in own:
                cost += _paid_microusd(turn.request, own[name], bids, takes)
        costs.append(cost)
        finishes.append(max((ends[name] for name in own), default=0.0))
    return Point(
        deadline_ms=deadline_ms,
        cost_microusd=(_quantile(costs, 0.5), _quantile(costs, 0.95)),
        finish_ms=(_quantile(finishes, 0.5), _quantile(finishes, 0.95)),
    )


def _paid_microusd(
    request: ResourceRequest, award: Award, bids: Mapping[str, Bid], takes_ms: float
) -> int:
    """Returns the bill of an award that takes so long: as its plan's, that of all its leases, and
    what is paid beside them."""
    billed_ms = max(round(takes_ms), bids[award.bid_id].minimum_ms)
    lease = lease_cost_microusd(award.price_microusd_per_hour, billed_ms)
    return lease * request.quantity + award.egress_microusd


def _drawn_ms(request: ResourceRequest, award: Award, draws: random.Random) -> float:
    quantiles = request.duration_quantiles_ms
    if quantiles is None or quantiles.p50 <= 0 or quantiles.p95 <= quantiles.p50:
        return float(award.expected_ms)
    sigma = math.log(quantiles.p95 / quantiles.p50) / Z95
    return award.expected_ms * math.exp(sigma * draws.gauss(0, 1))


def _quantile(values: Sequence[float], share: float) -> int:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)])


def _finish_ms(plan: Plan) -> int:
    return max((award.start_ms + award.expected_ms for award in plan.awards), default=0)
