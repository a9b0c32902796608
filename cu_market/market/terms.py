"""The plan of a demand at the bids that stand, on the terms that the run and the market set.

1. Bids that another one makes pointless are dropped (``dnm/dominance.py``).
2. The rest is planned with everything that a pair costs (``dnm/placing.py``).
3. Where the market pays second prices, winners are priced (``dnm/second_price.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cu_market.dnm.dominance import Dominated, drop_dominated, tell_dominated
from cu_market.dnm.placing import places_of, plan_placed
from cu_market.dnm.second_price import at_second_prices
from cu_market.dnm.solve import Clock, Solver
from cu_market.dnm.surcharges import Priced
from cu_market.dnm.verify import violations
from cu_market.domain.bid import Bid
from cu_market.domain.plan import Plan
from cu_market.domain.problem import CUMarketError
from cu_market.domain.resources import ResourceVector
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
            found = self._at_second_prices(found, demand, bids, capacities)
        return found

    def _plan(
        self,
        demand: Demand,
        bids: Sequence[Bid],
        capacities: Mapping[str, ResourceVector],
        limit_seconds: float,
    ) -> Plan:
        left, dropped = drop_dominated(demand.requests, bids, capacities)
        found = plan_placed(
            demand.requests,
            left,
            capacities,
            solver=self.solver,
            limit_seconds=limit_seconds,
            clock=self.clock,
        )
        priced = Priced(places=places_of(found, left))
        found = tell_dominated(found, demand.requests, dropped, priced)
        return replace(found, notes=(*_dropped_note(dropped), *found.notes))

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

        priced = at_second_prices(
            found,
            demand.requests,
            bids,
            solve=lambda others: self._plan(demand, others, capacities, left_seconds()),
            has_time=lambda: left_seconds() > 0,
        )
        surcharges = Priced(places=places_of(found, bids))
        wrong = violations(demand.requests, bids, capacities, priced.awards, surcharges=surcharges)
        if wrong:
            said = "; ".join(f"{v.where}: {v.what}" for v in wrong)
            raise CUMarketError(f"what is paid does not verify: {said}; report it")
        return priced


def _dropped_note(dropped: Sequence[Dominated]) -> list[str]:
    """Returns which bids were dropped, in one sentence, or nothing."""
    if not dropped:
        return []
    named = [f"{each.bid.profile.cu_id} ({each.by.profile.cu_id})" for each in dropped[:TOLD]]
    more = f" and {len(dropped) - TOLD} more" if len(dropped) > TOLD else ""
    return [f"dominated, and dropped for the one in brackets: {', '.join(named)}{more}"]
