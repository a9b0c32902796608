"""What serving a request from a bid costs, in whole micro-dollars.

cost_ib(wait) = money_ib + loss_ib + v_i * max(0, wait + e_ib - d_i - slack_i)

where money is price x expected time, at least the agreed minimum (half-even once) x quantity, plus
what is paid beside it; loss is what an interruption is expected to cost; e_ib is the expected time
there, start-up and transfer included; d_i the time on the reference machine; v_i the value of
time; wait the time between the moment the request could start and its start. A request is charged
only for the delay that it adds itself, so that a chain of late steps is not charged for the first
one's delay again and again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cu_market.domain.bid import Bid
from cu_market.domain.request import ResourceRequest
from cu_market.domain.units import MS_PER_HOUR, lease_cost_microusd


@dataclass(frozen=True, slots=True, kw_only=True)
class Surcharge:
    """What a pair costs beside its lease.

    Attributes:
        microusd: money: egress.
        loss_microusd: expected cost of being interrupted; weighed, but on no bill by itself.
        extra_ms: time that the lease takes longer, such as a transfer's.
    """

    microusd: int = 0
    loss_microusd: int = 0
    extra_ms: int = 0


NO_SURCHARGE = Surcharge()

Surcharges = Callable[[ResourceRequest, Bid], Surcharge]
"""A pure function from a pair to its surcharge."""


def no_surcharge(request: ResourceRequest, bid: Bid) -> Surcharge:
    """Returns nothing on top of the lease."""
    return NO_SURCHARGE


def expected_ms(request: ResourceRequest, bid: Bid, surcharge: Surcharge = NO_SURCHARGE) -> int:
    """Returns milliseconds that the lease is expected to take, start-up included; at least 1.

    Never 0, since a lease that takes no time would need no room.
    """
    taken = bid.profile.startup_ms + bid.duration_of(request) + surcharge.extra_ms
    return max(1, taken)


def money_microusd(request: ResourceRequest, bid: Bid, surcharge: Surcharge = NO_SURCHARGE) -> int:
    """Returns the expected bill: price x expected time, or the least time that is billed, each
    lease rounded half-even once; and what is paid beside it."""
    billed_ms = max(bid.minimum_ms, expected_ms(request, bid, surcharge))
    lease = lease_cost_microusd(bid.price_for(request.needs), billed_ms)
    return lease * request.quantity + surcharge.microusd


def delay_cost_microusd(request: ResourceRequest, *, taken_ms: int, slack_ms: int) -> int:
    """Returns what the delay beyond the slack costs, rounded half-even once.

    Args:
        request: its value of time and reference duration are used.
        taken_ms: milliseconds from when it could start to its end, waiting included.
        slack_ms: how much later it may end without the run ending later.
    """
    late_ms = taken_ms - request.duration_ms - slack_ms
    if late_ms <= 0:
        return 0
    return lease_cost_microusd(request.value_of_time_microusd_per_hour, late_ms)


def winning_price(price: int, more: int, *, billed_ms: int, quantity: int) -> int | None:
    """Returns the price an hour at which a loser would have cost less than the winner, or None
    where not even nothing would have done.

    Args:
        price: what it asked, micro-dollars an hour of one lease.
        more: by how many micro-dollars it was dearer in all; above 0.
        billed_ms: of each lease.
        quantity: leases.
    """
    too_much = -(-(more + 1) * MS_PER_HOUR // (billed_ms * quantity))
    return price - too_much if price >= too_much else None
