"""A plan that keeps the run's deadline in as many cases as it is to be kept in.

1. Plan at medians, and walk that plan with drawn times (``walks``). Where it ends in time as often
   as is asked for, that is it.
2. Else plan anew for an earlier end T, each step due at

       L_i(T) = E_i + (D_i - E_i) x (T - E) / (D - E)

   with D_i its latest end, E_i the soonest one at its quickest bids where nobody waits, and D, E
   the run's: at T = D all is as in 1, at T = E every step is as early and as quick as may be, and
   the smaller T, the fewer plans there are. The first T is the one at which a run that is late
   by a factor would be in time (T = end x D / its end in so many cases), then E, then halves.
3. Of all plans that are walked in time, the cheapest; where none is, the one that is least late:
   nobody is refused whom medians would serve. Up to here what follows 1 is constructed; now the
   solver is asked once, to better what is taken.

A plan that would pass what is left of the run's budget, or have a step where it can be revoked too
late for a retry, does not count where that of 1 does not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from cu_market.dnm.due import quickest_ends
from cu_market.dnm.feasibility import latest_end_ms, losses
from cu_market.dnm.graph import Graph, analyse
from cu_market.domain.bid import Bid
from cu_market.domain.request import ResourceRequest
from cu_market.market.demand.requests import Demand
from cu_market.market.draws import MEDIAN_PERMILLE
from cu_market.market.ends import Ends
from cu_market.market.settings import MarketSettings
from cu_market.market.together.joint import Together

TRIES = 6
"""Plans beside the first, at most."""

GUESSES = 2
"""Of these, ends that a run would need whose every step's time is late by the same factor."""

NEAR = 64
"""The search ends where T is known to this part of what there is to choose from."""


def confidence_permille(demand: Demand, settings: MarketSettings) -> int:
    """Returns in how many of a thousand cases a run's deadline is to be kept."""
    said = demand.run.deadline_confidence_permille
    return settings.deadline_confidence_permille if said is None else said


def deadline_ms(requests: Sequence[ResourceRequest]) -> int | None:
    """Returns when a run must have ended, milliseconds after the auction's time, or None."""
    found = [request.latest_finish_ms for request in requests]
    known = [latest for latest in found if latest is not None]
    return max(known) if known and len(known) == len(found) else None


def is_by_medians(demand: Demand, settings: MarketSettings) -> bool:
    """Whether the plan at medians is the plan: there is no deadline, or no more is asked for."""
    is_free = deadline_ms(demand.requests) is None
    return is_free or confidence_permille(demand, settings) <= MEDIAN_PERMILLE


class Replan(Protocol):
    """Plans a demand beside all that the first plan was made beside."""

    def __call__(self, demand: Demand, /, *, asks_solver: bool) -> Together:
        """Returns the plan; only constructed where no solver is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One plan that was walked.

    Attributes:
        together: the plan.
        demand: what it was planned for.
        ends: when the run ends by it.
    """

    together: Together
    demand: Demand
    ends: Ends

    @property
    def rank(self) -> tuple[int, int]:
        """What is in time before what is not, then the cheapest, or the least late."""
        cost = self.together.plan.objective_microusd
        return (0, cost) if self.ends.is_kept else (self.ends.confident_ms, cost)


def plan_punctually(
    first: Together,
    demand: Demand,
    bids: Sequence[Bid],
    *,
    walked: Callable[[Together], Ends],
    replan: Replan,
    has_time: Callable[[], bool],
) -> tuple[Together, Demand]:
    """Returns the plan that is taken, with when the run ends by it, and what it was planned for.

    Args:
        first: the plan at medians; it serves all.
        demand: what is asked, with a deadline.
        bids: the auction's.
        walked: when a run ends by a plan that serves all of it.
        replan: plans another demand in the same way, or without the solver.
        has_time: asked before each plan but the first.
    """
    found = [Found(together=first, demand=demand, ends=walked(first))]
    late = found[0]
    if late.ends.is_kept:
        return replace(first, ends=late.ends), demand
    earlier = _Earlier.of(demand, bids, late.ends.deadline_ms)
    low, high = earlier.least_ms, min(late.ends.deadline_ms, late.ends.planned_ms)
    near, is_bounded, tries = (late.ends.deadline_ms - low) // NEAR, False, 0

    def serves(together: Together) -> bool:
        """Whether a plan counts: no worse than the first in what is no question of time."""
        is_whole = not together.plan.unserved and not _is_beyond_budget(together, first, demand)
        return is_whole and earlier.at_risk(together) <= earlier.at_risk(first)

    is_cut = False
    while tries < TRIES and (not is_bounded or high - low > near):
        is_cut = not has_time()
        if is_cut:
            break
        by_ms = (low + high) // 2 if is_bounded else _guess(late.ends, low, tries)
        tries += 1
        is_bounded = is_bounded or by_ms == earlier.least_ms
        wanted = earlier.demand(by_ms)
        together = replan(wanted, asks_solver=False)
        if not serves(together):
            low, is_bounded = by_ms, True  # nor is anything earlier to be had
            continue
        each = Found(together=together, demand=wanted, ends=walked(together))
        found.append(each)
        if each.ends.is_kept:
            low, is_bounded = by_ms, True
        elif by_ms == earlier.least_ms:
            break  # nothing is quicker
        else:
            late, high = each, max(low, min(by_ms, each.ends.planned_ms))
    best = min(found, key=lambda each: each.rank)
    if best is not found[0] and has_time():
        together = replan(best.demand, asks_solver=True)
        if serves(together):
            bettered = Found(together=together, demand=best.demand, ends=walked(together))
            best = min(best, bettered, key=lambda each: each.rank)
    notes = (*best.together.plan.notes, _note(best, found[0], 1 + tries, is_cut))
    told = replace(best.together, plan=replace(best.together.plan, notes=notes), ends=best.ends)
    return told, best.demand


@dataclass(frozen=True, slots=True, kw_only=True)
class _Earlier:
    """A demand that is to end earlier than it must.

    Attributes:
        asked: as it is.
        bids: that it is planned at, by bid_id.
        graph: of its requests.
        deadline_ms: D.
        soonest_ms: E_i, in the requests' order.
    """

    asked: Demand
    bids: Mapping[str, Bid]
    graph: Graph
    deadline_ms: int
    soonest_ms: Sequence[int]

    @classmethod
    def of(cls, demand: Demand, bids: Sequence[Bid], deadline_ms: int) -> _Earlier:
        """Returns it, with what of these bids can serve each request."""
        takes = []
        for request in demand.requests:
            able = [bid for bid in bids if not losses(request, bid)]
            quickest = (bid.profile.startup_ms + bid.duration_of(request) for bid in able)
            takes.append(min(quickest, default=request.duration_ms))
        graph = analyse(demand.requests)
        return cls(
            asked=demand,
            bids={bid.bid_id: bid for bid in bids},
            graph=graph,
            deadline_ms=deadline_ms,
            soonest_ms=quickest_ends(demand.requests, graph, takes),
        )

    @property
    def least_ms(self) -> int:
        """E."""
        return min(self.deadline_ms, max(self.soonest_ms))

    def at_risk(self, together: Together) -> set[str]:
        """Returns the steps that a plan which serves all has where they can be revoked too late for
        a retry."""
        found = set()
        awards = {award.request_id: award for award in together.plan.awards}
        for request, tail_ms in zip(self.asked.requests, self.graph.tail_ms, strict=True):
            award = awards[request.request_id]
            latest = latest_end_ms(
                request,
                self.bids[award.bid_id],
                expected_ms=award.expected_ms,
                after_ms=tail_ms - request.duration_ms,
            )
            if latest is not None and award.start_ms + award.expected_ms > latest:
                found.add(request.request_id)
        return found

    def demand(self, by_ms: int) -> Demand:
        """Returns the demand that is to end by T."""
        whole = max(1, self.deadline_ms - self.least_ms)
        part = by_ms - self.least_ms
        requests = []
        for request, soonest in zip(self.asked.requests, self.soonest_ms, strict=True):
            latest = request.latest_finish_ms
            if latest is not None:
                latest = min(latest, soonest + max(0, latest - soonest) * part // whole)
            requests.append(replace(request, latest_finish_ms=latest))
        return replace(self.asked, requests=tuple(requests))


def _guess(late: Ends, least_ms: int, tries: int) -> int:
    """Returns for which end to plan where none was found in time yet; the earliest in the end."""
    by_ms = late.planned_ms * late.deadline_ms // late.confident_ms
    return by_ms if tries < GUESSES and by_ms > least_ms else least_ms


def _is_beyond_budget(together: Together, first: Together, demand: Demand) -> bool:
    left = demand.left_microusd
    if left is None:
        return False
    return together.plan.money_microusd > max(left, first.plan.money_microusd)


def _note(best: Found, first: Found, plans: int, is_cut: bool) -> str:
    """Returns how the deadline was planned for, in a sentence."""
    ends = best.ends
    share = f"{ends.confidence_permille / 10:g} %"
    if not ends.is_kept:
        looked_at = f"{plans} plan{'s' if plans > 1 else ''}"
        cut = ", for which there was no more time" if is_cut else ""
        taken = "; the least late was taken"
        return f"deadline: kept in {share} of cases by none of {looked_at}{cut}{taken}"
    return (
        f"deadline: planned to end by {ends.planned_ms / 1000:.1f} s, so that it is kept in {share}"
        f" of cases; by the cheapest plan at medians, which ends by "
        f"{first.ends.planned_ms / 1000:.1f} s, it would be in {first.ends.kept_permille / 10:g} %"
    )
