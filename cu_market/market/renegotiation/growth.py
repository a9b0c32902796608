"""A lease that would grow in place: what its CU is offered for with more memory, now."""

from __future__ import annotations

from dataclasses import replace

from cu_market.domain.allocation import Allocation
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.market.auction import Market


def larger_offer(
    market: Market, lease: Allocation, memory_bytes: int
) -> tuple[ResourceVector, int] | None:
    """Returns the size with so much memory and its price in micro-dollars an hour, or None where
    the lease's CU is not sold at such a size any more.

    Args:
        market: open.
        lease: of a CU that is cut to the asked size.
        memory_bytes: at least so much.
    """
    now = market.now()
    needs = replace(lease.size, memory_bytes=memory_bytes)
    request = ResourceRequest(
        request_id=lease.step_key, timestamp=now, duration_ms=lease.expected_ms, needs=needs
    )
    for bid in market.providers[lease.provider].bid([request], now):
        if bid.profile.cu_id == lease.resource_id and bid.rates is not None:
            size = bid.size_for(needs)
            return (size, bid.price_for(needs)) if size.fits_in(bid.profile.size) else None
    return None
