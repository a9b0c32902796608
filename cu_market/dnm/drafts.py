"""A constructed schedule that is not explained or checked yet: cheap to make, to compare many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cu_market.dnm.bound import floor_bound
from cu_market.dnm.construction import Schedule, construct_best
from cu_market.dnm.explain import explain
from cu_market.dnm.objective import Surcharges
from cu_market.dnm.offers import OfferTable, RunningLease, tabulate
from cu_market.dnm.standing import NOTHING_STANDS, Hold, Standing, bound_table, seats
from cu_market.dnm.verify import violations
from cu_market.domain.bid import Bid
from cu_market.domain.inputs import Place
from cu_market.domain.plan import Plan
from cu_market.domain.problem import CUMarketError
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A schedule with free starts, and what it was priced with.

    Attributes:
        table: its pairs.
        schedule: which of them, and when.
        surcharges: in the pairs' costs.
        running: what returns to a capacity later.
    """

    table: OfferTable
    schedule: Schedule
    surcharges: Surcharges
    running: Sequence[RunningLease] = ()

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

    def plan(
        self, requests: Sequence[ResourceRequest], capacities: Mapping[str, ResourceVector]
    ) -> Plan:
        """Returns the same as a plan, explained, checked from the records, bound by everyone's
        cheapest offer.

        Args:
            requests: whose order the awards get.
            capacities: what it was drafted with.

        Raises:
            CUMarketError: it does not verify, which is a defect.
        """
        awards, unserved = explain(self.table, self.schedule)
        wrong = violations(
            self.table.requests,
            self.table.bids,
            capacities,
            awards,
            running=self.running,
            surcharges=self.surcharges,
        )
        if wrong:
            said = "; ".join(f"{v.where}: {v.what}" for v in wrong)
            raise CUMarketError(f"the plan does not verify: {said}; report it with the auction")
        place = {request.request_id: k for k, request in enumerate(requests)}
        cost = self.schedule.objective_microusd
        return Plan(
            awards=tuple(sorted(awards, key=lambda award: place[award.request_id])),
            unserved=tuple(sorted(unserved, key=lambda entry: place[entry.request_id])),
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
    requests: Sequence[ResourceRequest],
    bids: Sequence[Bid],
    capacities: Mapping[str, ResourceVector],
    *,
    surcharges: Surcharges,
    choice: Mapping[str, str] | None = None,
    is_strict: bool = False,
    running: Sequence[RunningLease] = (),
    standing: Mapping[str, Standing] = NOTHING_STANDS,
    stays: bool = False,
) -> Draft:
    """Returns the construction's schedule, starts free.

    Args:
        requests, bids, capacities, surcharges, running, standing: as planner.plan.
        choice: bid_id by request_id, tried before any other bid; one that finds no room or time is
            given up.
        is_strict: such a request, or one without a choice, is then not served at all.
        stays: whatever stands keeps its place and start, not only what must.

    Raises:
        InvalidInputError: see offers.tabulate.
    """
    table = bound_table(
        tabulate(requests, bids, capacities, running=running, surcharges=surcharges), standing
    )
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
    seated = seats(table, standing, only=None if stays else Hold.ALL)
    schedule = construct_best(allowed, fixed_starts=False, chosen=chosen, seated=seated)
    return Draft(table=table, schedule=schedule, surcharges=surcharges, running=running)
