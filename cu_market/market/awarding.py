"""An award of a plan as the ledger's row."""

from __future__ import annotations

from datetime import datetime

from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.plan import Award


def allocation_of(
    award: Award,
    run_id: str,
    auction_id: str,
    attempt: int,
    now: datetime,
    *,
    minimum_ms: int = 0,
    valid_until: datetime | None = None,
) -> Allocation:
    """Returns an award as the ledger's row."""
    return Allocation(
        run_id=run_id,
        step_key=award.request_id,
        attempt=attempt,
        state=AllocationState.AWARDED,
        auction_id=auction_id,
        bid_id=award.bid_id,
        provider=award.provider,
        resource_id=award.resource_id,
        capacity_id=award.capacity_id,
        size=award.size,
        price_microusd_per_hour=award.price_microusd_per_hour,
        expected_ms=award.expected_ms,
        awarded_at=now,
        minimum_ms=minimum_ms,
        valid_until=valid_until,
        egress_microusd=award.egress_microusd,
    )
