"""What a plan is made of, whatever its pairs are priced with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cu_market.dnm.objective import Surcharges
from cu_market.dnm.offers import OfferTable, RunningLease, tabulate
from cu_market.dnm.standing import Standing, bound_table
from cu_market.dnm.verify import violations
from cu_market.domain.bid import Bid
from cu_market.domain.plan import Award, Unserved
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector

_Answer = TypeVar("_Answer", Award, Unserved)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """One input.

    Attributes:
        requests: any order; ids unique.
        bids: any order; ids unique.
        capacities: free room by capacity_id, from now on.
        running: what returns to a capacity later.
        standing: by request_id, where requests were placed before.
    """

    requests: Sequence[ResourceRequest]
    bids: Sequence[Bid]
    capacities: Mapping[str, ResourceVector]
    running: Sequence[RunningLease]
    standing: Mapping[str, Standing]

    def table(self, surcharges: Surcharges) -> OfferTable:
        """Returns its pairs at these surcharges; requests that keep their bid have no other.

        Raises:
            InvalidInputError: see offers.tabulate.
        """
        pairs = tabulate(
            self.requests,
            self.bids,
            self.capacities,
            running=self.running,
            surcharges=surcharges,
        )
        return bound_table(pairs, self.standing)

    def wrong(
        self, awards: Sequence[Award], surcharges: Surcharges, *, fixed_starts: bool = False
    ) -> str:
        """Returns what is wrong with awards, in words; empty if they can be committed."""
        found = violations(
            self.requests,
            self.bids,
            self.capacities,
            awards,
            running=self.running,
            fixed_starts=fixed_starts,
            surcharges=surcharges,
        )
        return "; ".join(f"{each.where}: {each.what}" for each in found)

    def in_order(self, answers: Sequence[_Answer]) -> tuple[_Answer, ...]:
        """Returns answers in the order of their requests."""
        place = {request.request_id: k for k, request in enumerate(self.requests)}
        return tuple(sorted(answers, key=lambda each: place[each.request_id]))
