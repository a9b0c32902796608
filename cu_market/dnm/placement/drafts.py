"""A constructed schedule that is not explained or checked yet: cheap to make, to compare many."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cu_market.dnm.bounds.bound import floor_bound
from cu_market.dnm.explain import explain
from cu_market.dnm.given import Given
from cu_market.dnm.objective import Surcharges
from cu_market.dnm.offers import OfferTable
from cu_market.dnm.placement.construction import Schedule, construct_best
from cu_market.dnm.standing import Hold, seats
from cu_market.domain.bid import Bid
from cu_market.domain.inputs import Place
from cu_market.domain.plan import Plan
from cu_market.domain.problem import CUMarketError


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A schedule with free starts, and what it was priced with.

    Attributes:
        given: the input.
        table: its pairs.
        schedule: which of them, and when.
        surcharges: in the pairs' costs.
    """

    given: Given
    table: OfferTable
    schedule: Schedule
    surcharges: Surcharges

    @property
    def rank(self) -> tuple[int, int]:
        """What is compared, the less the better: unserved requests, then cost."""
        return self.schedule.unserved_count, self.schedule.objective_microusd

    def choice(self) -> dict[str, str]:
        """Returns the bid_id by request_id."""
        return {name: bid.bid_id for name, bid in self._served()}

    def places(self) -> dict[str, Place]:
        """Returns where each request that is served leaves what it writes."""
        return {name: bid.profile.place for name, bid in self._served()}

    def plan(self) -> Plan:
        """Returns the same as a plan, explained, checked from the records, bound by everyone's
        cheapest offer.

        Raises:
            CUMarketError: it does not verify, which is a defect.
        """
        awards, unserved = explain(self.table, self.schedule)
        wrong = self.given.wrong(awards, self.surcharges)
        if wrong:
            raise CUMarketError(f"the plan does not verify: {wrong}; report it with the auction")
        cost = self.schedule.objective_microusd
        return Plan(
            awards=self.given.in_order(awards),
            unserved=self.given.in_order(unserved),
            objective_microusd=cost,
            bound_microusd=min(cost, floor_bound(self.table)),
            solver="construction",
        )

    def _served(self) -> list[tuple[str, Bid]]:
        return [
            (request.request_id, self.table.bids[placement.offer.bid])
            for request, placement in zip(
                self.table.requests, self.schedule.placements, strict=True
            )
            if placement is not None
        ]


def draft(
    given: Given,
    surcharges: Surcharges,
    choice: Mapping[str, str] | None = None,
    *,
    is_strict: bool = False,
    stays: bool = False,
) -> Draft:
    """Returns the construction's schedule, starts free.

    Args:
        given: the input.
        surcharges: pure; what a pair costs beside its lease.
        choice: bid_id by request_id, tried before any other bid; one that finds no room or time is
            given up.
        is_strict: such a request, or one without a choice, is then not served at all.
        stays: whatever stands keeps its place and start, not only what must.

    Raises:
        InvalidInputError: see offers.tabulate.
    """
    table = given.table(surcharges)
    place = {bid.bid_id: b for b, bid in enumerate(table.bids)}
    wanted = choice or {}
    chosen = {
        i: place[wanted[request.request_id]]
        for i, request in enumerate(table.requests)
        if wanted.get(request.request_id) in place
    }
    allowed = table
    if is_strict:
        rows = (
            tuple(offer for offer in offers if chosen.get(i) == offer.bid)
            for i, offers in enumerate(table.offers)
        )
        allowed = replace(table, offers=tuple(rows))
    seated = seats(table, given.standing, only=None if stays else Hold.ALL)
    schedule = construct_best(allowed, fixed_starts=False, chosen=chosen, seated=seated)
    return Draft(given=given, table=table, schedule=schedule, surcharges=surcharges)
