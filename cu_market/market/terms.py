"""The plan of a demand at the bids that stand, on the terms that the run and the market set.

1. Bids that another one makes pointless are dropped (``dnm/dominance.py``).
2. The rest is planned with everything that a pair costs (``dnm/placement/placing.py``).
3. Where that passes what is left of the run's budget, a cheaper plan is sought
   (``dnm/budget.py``).
4. Where the market pays second prices, winners are priced (``dnm/second_price.py``).

Where others are planned with (``together``), 1 and 2 are done for all of them, and 3 and 4 for the
run's own steps: its budget bounds its own bill, and nobody else's price is this auction's matter.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from cu_market.dnm.budget import HALVINGS, WHOLE, bill_microusd, plan_within
from cu_market.dnm.colocation import kept_as_chosen
from cu_market.dnm.dominance import Dominated, drop_dominated, tell_dominated
from cu_market.dnm.offers import RunningLease
from cu_market.dnm.placement.placing import choice_of, places_of, plan_chosen, plan_placed
from cu_market.dnm.programs.solve import Clock, Solver
from cu_market.dnm.second_price import at_second_prices
from cu_market.dnm.standing import NOTHING_STANDS, Standing
from cu_market.dnm.surcharges import Priced
from cu_market.dnm.verify import violations
from cu_market.domain.bid import Bid
from cu_market.domain.plan import LossReason, Plan
from cu_market.domain.problem import CUMarketError
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import format_usd
from cu_market.market.demand.requests import Demand
from cu_market.market.settings import MarketSettings, Pricing
from cu_market.market.unserved import named

LEAST_BUDGET_SECONDS = 0.3
"""For the search of a plan within the budget, also where no solver is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What plans are made on.

    Attributes:
        settings: the market's.
        solver: the integer program's, or None.
        clock: seconds; bounds the time for second prices.
    """

    settings: MarketSettings
    solver: Solver | None
    clock: Clock

    def plan(
        self,
        demand: Demand,
        bids: Sequence[Bid],
        capacities: Mapping[str, ResourceVector],
        *,
        running: Sequence[RunningLease] = (),
        standing: Mapping[str, Standing] = NOTHING_STANDS,
        own: Collection[str] | None = None,
        limit_seconds: float | None = None,
    ) -> Plan:
        """Returns the plan of a demand with everything priced as bid; nothing is written.

        Args:
            demand: what is asked.
            bids: those that stand.
            capacities: the room of each pool by capacity_id, free from now on.
            running: what returns to a capacity later.
            standing: where requests were placed before; their bids are not dropped.
            own: request_ids that what is left of the budget is for; None: all.
            limit_seconds: of the solver; 0: none is asked. None: as the settings say.

        Raises:
            InvalidInputError, CUMarketError: as dnm.planner.plan.
        """
        limit = self.settings.solve_seconds if limit_seconds is None else limit_seconds
        requests = demand.requests
        held = {place.bid_id for place in standing.values()}
        left, dropped = drop_dominated(requests, bids, capacities, kept_for=held)

        def planned(theta: int, seconds: float) -> Plan:
            """Returns the plan where all but money counts by that many thousandths."""
            return plan_placed(
                [_less_hurried(each, theta, own) for each in requests],
                left,
                capacities,
                solver=self.solver if limit > 0 else None,
                limit_seconds=seconds,
                clock=self.clock,
                loss_permille=theta,
                running=running,
                standing=standing,
            )

        def priced_as_chosen(choice: Mapping[str, str]) -> Plan:
            return plan_chosen(
                requests, left, capacities, choice, running=running, standing=standing
            )

        until = self.clock() + max(limit, LEAST_BUDGET_SECONDS)
        found = planned(WHOLE, limit)
        notes = _dropped_note(dropped)
        risky = _without_time_for_a_retry(found)
        if risky:  # better where it may be lost than nowhere
            requests = tuple(
                replace(each, retry_must_fit=each.retry_must_fit and each.request_id not in risky)
                for each in requests
            )
            found = planned(WHOLE, limit)
            notes.append(
                f"{named(risky)}: nobody else serves it in time, so it may go to spot that leaves "
                "no time for a retry"
            )
        budget = demand.left_microusd
        if budget is not None and bill_microusd(found, own) > budget:
            wanted = bill_microusd(found, own)
            found = plan_within(
                found,
                budget,
                replan=lambda theta: planned(theta, limit / (HALVINGS + 1)),
                price=priced_as_chosen,
                own=own,
                has_time=lambda: self.clock() < until,
            )
            notes.append(_budget_note(budget, wanted, bill_microusd(found, own)))
        priced = Priced(places=places_of(found, left))
        kept = kept_as_chosen(requests, left, choice_of(found), standing)
        found = tell_dominated(found, kept, dropped, priced)
        return replace(found, notes=(*notes, *found.notes))

    def priced(
        self,
        found: Plan,
        demand: Demand,
        bids: Sequence[Bid],
        capacities: Mapping[str, ResourceVector],
        *,
        running: Sequence[RunningLease] = (),
        others: Sequence[ResourceRequest] = (),
        standing: Mapping[str, Standing] = NOTHING_STANDS,
    ) -> Plan:
        """Returns a run's plan with its winners priced as the market says.

        Args:
            found: its own plan, priced as bid.
            demand: what it asks.
            bids, capacities, running: as it was planned.
            others: what was planned with it.
            standing: where that is, all of it: it stays there, whoever is absent.

        Raises:
            CUMarketError: what is paid does not verify, which is a defect.
        """
        if self.settings.pricing is not Pricing.SECOND_PRICE or found.unserved:
            return found
        until = self.clock() + self.settings.second_price_seconds
        names = {request.request_id for request in demand.requests}

        def left_seconds() -> float:
            return min(self.settings.solve_seconds, until - self.clock())

        def without(left: Sequence[Bid]) -> Plan:
            """Returns the run's plan without a provider; who stands there takes nobody's room."""
            offered = {bid.bid_id for bid in left}
            there = [each for each in others if standing[each.request_id].bid_id in offered]
            whole = self.plan(
                replace(demand, requests=(*demand.requests, *there)),
                left,
                capacities,
                running=running,
                standing={each.request_id: standing[each.request_id] for each in there},
                own=names,
                limit_seconds=max(0.01, left_seconds()),
            )
            return replace(
                whole,
                awards=tuple(each for each in whole.awards if each.request_id in names),
                unserved=tuple(each for each in whole.unserved if each.request_id in names),
            )

        priced = at_second_prices(
            found,
            demand.requests,
            bids,
            solve=without,
            has_time=lambda: left_seconds() > 0,
        )
        surcharges = Priced(places=places_of(found, bids))
        wrong = violations(
            [replace(each, retry_must_fit=False) for each in demand.requests],
            bids,
            capacities,
            priced.awards,
            running=running,
            surcharges=surcharges,
        )
        if wrong:
            said = "; ".join(f"{v.where}: {v.what}" for v in wrong)
            raise CUMarketError(f"what is paid does not verify: {said}; report it")
        if _is_within(priced, demand) or not _is_within(found, demand):
            return priced
        note = "second price: it would pass what is left of the budget; all are paid as bid"
        return replace(found, notes=(*found.notes, note))


def _is_within(found: Plan, demand: Demand) -> bool:
    return demand.left_microusd is None or found.money_microusd <= demand.left_microusd


def _without_time_for_a_retry(found: Plan) -> list[str]:
    """Returns what is unserved only since spot that would serve it leaves no time for a retry."""
    return [
        entry.request_id
        for entry in found.unserved
        if any(loss.reason is LossReason.NO_RETRY for loss in entry.losses)
    ]


def _less_hurried(
    request: ResourceRequest, theta: int, own: Collection[str] | None
) -> ResourceRequest:
    if own is not None and request.request_id not in own:
        return request
    value = request.value_of_time_microusd_per_hour * theta // WHOLE
    return replace(request, value_of_time_microusd_per_hour=value)


def _budget_note(budget: int, full: int, found: int) -> str:
    left, wanted, gets = (format_usd(amount) for amount in (budget, full, found))
    if found > budget:
        return (
            f"budget: {left} of it is left, and even the cheapest plan is expected to cost {gets}: "
            "what would pass it waits for more, or fails, as on_budget says"
        )
    return (
        f"budget: {left} of it is left; by the run's value of time {wanted} would be spent, so it "
        f"is planned for {gets}"
    )


def _dropped_note(dropped: Sequence[Dominated]) -> list[str]:
    """Returns which bids were dropped, in one sentence, or nothing."""
    if not dropped:
        return []
    cus = [f"{each.bid.profile.cu_id} ({each.by.profile.cu_id})" for each in dropped]
    return [f"dominated, and dropped for the one in brackets: {named(cus)}"]
