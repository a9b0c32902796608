"""The plan of a demand at the bids that stand, on the terms that the run and the market set.

1. Bids that another one makes pointless are dropped (``dnm/dominance.py``).
2. The rest is planned with everything that a pair costs (``dnm/placing.py``).
3. Where that passes what is left of the run's budget, a cheaper plan is sought
   (``dnm/budget.py``).
4. Where the market pays second prices, winners are priced (``dnm/second_price.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cu_market.dnm.budget import HALVINGS, WHOLE, plan_within
from cu_market.dnm.dominance import Dominated, drop_dominated, tell_dominated
from cu_market.dnm.placing import places_of, plan_chosen, plan_placed
from cu_market.dnm.second_price import at_second_prices
from cu_market.dnm.solve import Clock, Solver
from cu_market.dnm.surcharges import Priced
from cu_market.dnm.verify import violations
from cu_market.domain.bid import Bid
from cu_market.domain.plan import Plan
from cu_market.domain.problem import CUMarketError
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import format_usd
from cu_market.market.requests import Demand
from cu_market.market.settings import MarketSettings, Pricing

TOLD = 5
"""So many dropped bids are named in a note; each step's losses have them all."""


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
        is_priced: bool = True,
    ) -> Plan:
        """Returns the plan of a demand; nothing is written.

        Args:
            demand: what is asked.
            bids: those that stand.
            capacities: the room of each pool by capacity_id.
            is_priced: whether winners are priced as the market says; else each is priced as bid.

        Raises:
            InvalidInputError, CUMarketError: as dnm.planner.plan.
        """
        found = self._plan(demand, bids, capacities, self.settings.solve_seconds)
        if is_priced and self.settings.pricing is Pricing.SECOND_PRICE and not found.unserved:
            priced = self._at_second_prices(found, demand, bids, capacities)
            if _is_within(priced, demand) or not _is_within(found, demand):
                return priced
            note = "second price: it would pass what is left of the budget; all are paid as bid"
            found = replace(found, notes=(*found.notes, note))
        return found

    def _plan(
        self,
        demand: Demand,
        bids: Sequence[Bid],
        capacities: Mapping[str, ResourceVector],
        limit_seconds: float,
    ) -> Plan:
        left, dropped = drop_dominated(demand.requests, bids, capacities)

        def planned(theta: int, seconds: float) -> Plan:
            """Returns the plan where all but money counts by that many thousandths."""
            requests = demand.requests
            if theta < WHOLE:
                requests = tuple(_less_hurried(request, theta) for request in requests)
            return plan_placed(
                requests,
                left,
                capacities,
                solver=self.solver,
                limit_seconds=seconds,
                clock=self.clock,
                loss_permille=theta,
            )

        found = planned(WHOLE, limit_seconds)
        notes = _dropped_note(dropped)
        if not _is_within(found, demand):
            budget, full = demand.left_microusd or 0, found
            found = plan_within(
                found,
                budget,
                replan=lambda theta: planned(theta, limit_seconds / (HALVINGS + 1)),
                price=lambda choice: plan_chosen(demand.requests, left, capacities, choice),
            )
            notes.append(_budget_note(budget, full, found))
        priced = Priced(places=places_of(found, left))
        found = tell_dominated(found, demand.requests, dropped, priced)
        return replace(found, notes=(*notes, *found.notes))

    def _at_second_prices(
        self,
        found: Plan,
        demand: Demand,
        bids: Sequence[Bid],
        capacities: Mapping[str, ResourceVector],
    ) -> Plan:
        until = self.clock() + self.settings.second_price_seconds

        def left_seconds() -> float:
            return min(self.settings.solve_seconds, until - self.clock())

        def without(others: Sequence[Bid]) -> Plan:
            return self._plan(demand, others, capacities, max(0.01, left_seconds()))

        priced = at_second_prices(
            found,
            demand.requests,
            bids,
            solve=without,
            has_time=lambda: left_seconds() > 0,
        )
        surcharges = Priced(places=places_of(found, bids))
        wrong = violations(demand.requests, bids, capacities, priced.awards, surcharges=surcharges)
        if wrong:
            said = "; ".join(f"{v.where}: {v.what}" for v in wrong)
            raise CUMarketError(f"what is paid does not verify: {said}; report it")
        return priced


def _is_within(found: Plan, demand: Demand) -> bool:
    return demand.left_microusd is None or found.money_microusd <= demand.left_microusd


def _less_hurried(request: ResourceRequest, theta: int) -> ResourceRequest:
    value = request.value_of_time_microusd_per_hour * theta // WHOLE
    return replace(request, value_of_time_microusd_per_hour=value)


def _budget_note(budget: int, full: Plan, found: Plan) -> str:
    left, wanted, gets = (
        format_usd(amount) for amount in (budget, full.money_microusd, found.money_microusd)
    )
    if found.money_microusd > budget:
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
    named = [f"{each.bid.profile.cu_id} ({each.by.profile.cu_id})" for each in dropped[:TOLD]]
    more = f" and {len(dropped) - TOLD} more" if len(dropped) > TOLD else ""
    return [f"dominated, and dropped for the one in brackets: {', '.join(named)}{more}"]
