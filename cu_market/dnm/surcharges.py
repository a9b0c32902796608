"""What a pair costs beside its lease: egress, transfer, the loss expected of an interruption.

For an input of n bytes at a place p, read at a location l other than p's:

    egress = n x price of a GB at p
    transfer = 8 n / the slower end's bandwidth, part of the lease

On a CU that is revoked h times an hour, a lease of T hours is interrupted with probability
1 - exp(-h T). Then, half of it having passed on average, half its money is paid for nothing, and
its end comes later by that half:

    loss = (1 - exp(-h T)) x (money of T/2 + value of time x T/2).

Exact where an input's place is known. Where its source is placed in the same plan, the places are
an argument: ``placing`` finds ones that agree with the plan that they lead to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import exp

from cu_market.dnm.objective import Surcharge, expected_ms
from cu_market.domain.bid import Bid
from cu_market.domain.inputs import InputData, Place
from cu_market.domain.request import ResourceRequest
from cu_market.domain.units import MILLIS, MS_PER_HOUR, lease_cost_microusd


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """Surcharges at given places of what the plan itself decides.

    Attributes:
        places: where each request of the plan leaves what it writes; one that is not here has no
            place, and reading from it costs nothing.
        readers: by request, who reads how much of it, where their own places are known: what they
            would pay is then added to its own cost, so that it is placed near them. Only for
            choosing: in what a plan costs, each byte is paid once, by who reads it.
        loss_permille: how much an interruption's loss counts; less than 1000 only for choosing.
    """

    places: Mapping[str, Place] = field(default_factory=dict)
    readers: Mapping[str, Sequence[tuple[Place, int]]] = field(default_factory=dict)
    loss_permille: int = MILLIS

    def __call__(self, request: ResourceRequest, bid: Bid) -> Surcharge:
        """Returns a pair's surcharge."""
        here = bid.profile.place
        money, extra_ms = 0, 0
        for data in request.inputs:
            place = self.place_of(data)
            if place is not None:
                money += place.egress_microusd(data.size_bytes or 0, here.location)
                extra_ms += place.transfer_ms(data.size_bytes or 0, here)
        loss = interruption_microusd(request, bid, extra_ms=extra_ms)
        loss = loss * self.loss_permille // MILLIS
        for place, size_bytes in self.readers.get(request.request_id, ()):
            loss += here.egress_microusd(size_bytes, place.location)
            later_ms = here.transfer_ms(size_bytes, place)
            loss += lease_cost_microusd(request.value_of_time_microusd_per_hour, later_ms)
        return Surcharge(microusd=money, loss_microusd=loss, extra_ms=extra_ms)

    def place_of(self, data: InputData) -> Place | None:
        """Returns where an input lies, as far as that is known or assumed."""
        return data.place if data.place is not None else self.places.get(data.source)


def interruption_microusd(request: ResourceRequest, bid: Bid, *, extra_ms: int = 0) -> int:
    """Returns what being interrupted there is expected to cost, rounded half-even once.

    Args:
        request: what would run.
        bid: where.
        extra_ms: what its lease takes beside its start-up and its work.
    """
    hazard = bid.profile.interruption_millis_per_hour
    if not hazard:
        return 0
    taken_ms = expected_ms(request, bid, Surcharge(extra_ms=extra_ms))
    probability = 1 - exp(-hazard * taken_ms / (MILLIS * MS_PER_HOUR))
    lost_an_hour = bid.price_for(request.needs) + request.value_of_time_microusd_per_hour
    half = lease_cost_microusd(lost_an_hour, taken_ms) / 2
    return round(probability * half * request.quantity)
