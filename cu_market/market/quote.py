"""What a run would cost and when it would end, and how the one is had for the other.

Nothing is written and nothing held. It is planned as if it was launched now: beside what is leased,
until that is expected to end, and beside what other runs wait for and Dagster's queue holds, which
keep their places. An auction may move what waits: then it ends sooner than quoted.

Each point of the curve is a plan of its own: the cheapest that keeps that deadline as often as an
auction would have it (``together/punctual.py``). How sure its figures are comes from the forecasts:
times are drawn (``draws``), and the plan is walked with them: what waits for another's end or room
by plan waits for it then, too (``dnm/handover.py``). A lease that goes on ends when it is expected
to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cu_market.domain.bid import Bid
from cu_market.domain.outline import RunOutline
from cu_market.domain.plan import Award
from cu_market.domain.rental import Rental
from cu_market.domain.request import ResourceRequest
from cu_market.domain.units import MICROUSD, lease_cost_microusd
from cu_market.market.auction import Cleared, Market
from cu_market.market.demand.requests import Demand
from cu_market.market.draws import MEDIAN_PERMILLE, quantile
from cu_market.market.together.beside import beside_others_in_time, walks_of, with_queued
from cu_market.market.together.crowd import Crowd, read_crowd
from cu_market.market.together.joint import Together
from cu_market.market.together.punctual import confidence_permille
from cu_market.market.together.walks import Walked, planned_finish_ms

P95_PERMILLE = 950

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
    walks = walks_of(outline, demand, round_, crowd, seed=seed)
    confidence = confidence_permille(demand, market.settings)

    def figures(found: Together, deadline_ms: int) -> Point:
        if found.plan.unserved:
            return Point(deadline_ms=deadline_ms, is_feasible=False)
        return _figures(walks.walk(found), bids, deadline_ms)

    def planned(deadline_ms: int | None, value_of_time: int) -> Together:
        terms = at_terms(demand, deadline_ms, value_of_time)
        return beside_others_in_time(
            market, outline, terms, round_, crowd, may_move=False, is_priced=False
        )

    def finish_ms(found: Together) -> int:
        """Returns by when it has ended in as many cases as a deadline is to be kept in."""
        if confidence <= MEDIAN_PERMILLE or found.plan.unserved:
            return planned_finish_ms(found.plan)
        return quantile(walks.walk(found).finishes_ms, confidence)

    earliest = finish_ms(planned(None, HURRY_MICROUSD_PER_HOUR))
    latest = max(finish_ms(planned(None, 0)), round(1.5 * earliest))
    steps = max(5, points) - 1
    deadlines = [earliest + (latest - earliest) * k // steps for k in range(steps + 1)]
    curve = tuple(figures(planned(deadline, 0), deadline) for deadline in deadlines)
    asked = cleared.together or Together(plan=cleared.plan)
    return Quote(
        cleared=cleared,
        crowd=crowd,
        asked=figures(asked, planned_finish_ms(cleared.plan)),
        curve=falling(curve),
    )


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


def _figures(walked: Walked, bids: Mapping[str, Bid], deadline_ms: int) -> Point:
    """Returns what drawn times bring of everything that was planned: cost and end of the run's own
    awards."""
    finishes = walked.finishes_ms
    costs = [0] * len(finishes)
    for award in walked.own:
        request = walked.requests[award.request_id]
        for case, takes in enumerate(walked.takes_ms[award.request_id]):
            costs[case] += _paid_microusd(request, award, bids, takes)
    for rental in walked.rentals:
        for case, rest in enumerate(_rests_microusd(rental, walked)):
            costs[case] += rest
    return Point(
        deadline_ms=deadline_ms,
        cost_microusd=(quantile(costs, MEDIAN_PERMILLE), quantile(costs, P95_PERMILLE)),
        finish_ms=(quantile(finishes, MEDIAN_PERMILLE), quantile(finishes, P95_PERMILLE)),
    )


def _paid_microusd(
    request: ResourceRequest, award: Award, bids: Mapping[str, Bid], takes_ms: float
) -> int:
    """Returns the bill of an award that takes so long: as its plan's, that of all its leases, and
    what is paid beside them."""
    bid = bids.get(award.bid_id)  # a share of a rental has no least time of its own
    billed_ms = max(round(takes_ms), 0 if bid is None else bid.minimum_ms)
    lease = lease_cost_microusd(award.price_microusd_per_hour, billed_ms)
    return lease * request.quantity + award.egress_microusd


def _rests_microusd(rental: Rental, walked: Walked) -> Iterable[int]:
    """Returns what the shares leave of a rental's bill, case by case: from its start-up before its
    first step's start to its last one's end."""
    own = [award for award in walked.own if award.capacity_id == rental.rental_id]
    for case in range(len(walked.finishes_ms) if own else 0):
        takes = [walked.takes_ms[award.request_id][case] for award in own]
        ends = [walked.ends_ms[award.request_id][case] for award in own]
        began = min(end - took for end, took in zip(ends, takes, strict=True))
        held_ms = round(max(ends) - began) + rental.profile.startup_ms
        paid = sum(
            lease_cost_microusd(award.price_microusd_per_hour, round(took))
            for award, took in zip(own, takes, strict=True)
        )
        yield max(0, rental.bill_microusd(1000 * held_ms) - paid)
