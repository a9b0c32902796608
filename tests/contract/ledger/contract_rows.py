"""Awards, auctions, usage and leases as the contract's tests write them: named by step and run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from cu_market.domain.allocation import Allocation, AllocationKey, AllocationState
from cu_market.domain.auction import Auction
from cu_market.domain.request import StepIdentity
from cu_market.domain.resources import ResourceVector
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.ledger.interface import Ledger

T0 = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SIZE = ResourceVector(cpu_millis=1000, memory_bytes=2**30)
ROOM_FOR_TWO = ResourceVector(cpu_millis=2000, memory_bytes=2**33)


def award(step: str = "a", attempt: int = 1, run: str = "run", **fields: Any) -> Allocation:
    defaults: dict[str, Any] = {
        "state": AllocationState.AWARDED,
        "auction_id": "auction-1",
        "bid_id": "bid-1",
        "provider": "local",
        "resource_id": "local/standard",
        "capacity_id": "local",
        "size": SIZE,
        "price_microusd_per_hour": 3_600_000,
        "expected_ms": 1000,
        "awarded_at": T0,
    }
    return Allocation(run_id=run, step_key=step, attempt=attempt, **(defaults | fields))


def auction(auction_id: str = "auction-1", run: str = "run", **fields: Any) -> Auction:
    defaults: dict[str, Any] = {"held_at": T0, "mode": "market", "place": "launcher"}
    return Auction(auction_id=auction_id, run_id=run, **(defaults | fields))


def usage(key: AllocationKey = ("run", "a", 1), **fields: Any) -> Usage:
    run_id, step_key, attempt = key
    defaults: dict[str, Any] = {
        "identity": StepIdentity(code_location="here", node=step_key),
        "provider": "local",
        "resource_id": "local/standard",
        "started_at": T0,
        "ended_at": T0 + MINUTE,
        "cpu_millis": 1000,
        "memory_bytes": 2**30,
        "measurement": Measurement(
            wall_ms=60_000, cpu_ms=900, peak_memory_bytes=2**29, waited_ms=100
        ),
        "ending": Ending.OK,
    }
    return Usage(run_id=run_id, step_key=step_key, attempt=attempt, **(defaults | fields))


def lease(ledger: Ledger, allocation: Allocation, **fields: Any) -> Allocation:
    terms: dict[str, Any] = {"capacity": ROOM_FOR_TWO, "expires_at": T0 + MINUTE, "now": T0}
    given = ledger.lease(allocation, **(terms | fields))
    assert isinstance(given, Allocation)
    return given


def settled(ledger: Ledger, step: str, **fields: Any) -> Usage:
    """Leases and settles an attempt with this usage."""
    attempt = fields.pop("attempt", 1)
    given = lease(ledger, award(step, attempt))
    used = usage(given.key, **fields)
    ledger.settle(given.key, given.fencing_token, ended_at=T0 + MINUTE, usage=used)
    return used
