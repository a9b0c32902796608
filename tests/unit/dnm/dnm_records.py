"""Short ways to write requests and bids for the planner's tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cu_market.domain.bid import Bid
from cu_market.domain.profile import CUProfile
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GIB

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = 3_600_000


def asks(name: str, *, cores: int = 1, gib: int = 1, gpus: int = 0, **more: Any) -> ResourceRequest:
    """One hour on the reference machine unless said otherwise."""
    fields: dict[str, Any] = {
        "request_id": name,
        "timestamp": NOW,
        "duration_ms": HOUR,
        "needs": ResourceVector(cpu_millis=cores * 1000, memory_bytes=gib * GIB, gpu_count=gpus),
    }
    return ResourceRequest(**(fields | more))


def offers(
    name: str,
    price: int,
    *,
    cores: int = 4,
    gib: int = 4,
    bid: dict[str, Any] | None = None,
    **profile: Any,
) -> Bid:
    """A CU sold whole at so many micro-dollars an hour, its capacity bounding nothing else."""
    fields: dict[str, Any] = {
        "cu_id": f"cu-{name}",
        "provider": "p",
        "location": "here",
        "capacity_id": f"cap-{name}",
        "cpu_millis": cores * 1000,
        "memory_bytes": gib * GIB,
        "price_microusd_per_hour": price,
    }
    return Bid(
        bid_id=name,
        profile=CUProfile(**(fields | profile)),
        price_microusd_per_hour=price,
        **(bid or {}),
    )
