"""Awards and usage rows as the tests of a ledger write them: valid, small, at one fixed time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.request import StepIdentity
from cu_market.domain.resources import ResourceVector
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.ledger.interface import Ledger

T0 = datetime(2026, 1, 1, tzinfo=UTC)
ONE_CU = ResourceVector(cpu_millis=1000, memory_bytes=2**30)


def an_award(run_id: str, step_key: str, **fields: Any) -> Allocation:
    """Returns a first attempt's award of one CU at T0; fields replace its own."""
    values: dict[str, Any] = {
        "run_id": run_id,
        "step_key": step_key,
        "attempt": 1,
        "state": AllocationState.AWARDED,
        "auction_id": "auction",
        "bid_id": "bid",
        "provider": "local",
        "resource_id": "local/standard",
        "capacity_id": "local",
        "size": ONE_CU,
        "price_microusd_per_hour": 3_600_000,
        "expected_ms": 1,
        "awarded_at": T0,
    }
    return Allocation(**{**values, **fields})


def a_usage(lease: Allocation, **fields: Any) -> Usage:
    """Returns what a lease is said to have used, from T0 on; fields replace its own."""
    values: dict[str, Any] = {
        "run_id": lease.run_id,
        "step_key": lease.step_key,
        "attempt": lease.attempt,
        "identity": StepIdentity(node="n"),
        "provider": lease.provider,
        "resource_id": lease.resource_id,
        "started_at": T0,
        "ended_at": T0,
        "cpu_millis": lease.size.cpu_millis,
        "memory_bytes": lease.size.memory_bytes,
        "measurement": Measurement(wall_ms=1, cpu_ms=1, peak_memory_bytes=1),
        "ending": Ending.OK,
    }
    return Usage(**{**values, **fields})


def take(
    ledger: Ledger, run_id: str, step_key: str, capacity: ResourceVector = ONE_CU
) -> Allocation | None:
    """Returns a lease of one CU for an hour, or None where the capacity has no room."""
    answer = ledger.lease(
        an_award(run_id, step_key), capacity=capacity, expires_at=T0 + timedelta(hours=1), now=T0
    )
    return answer if isinstance(answer, Allocation) else None


def give_back(ledger: Ledger, lease: Allocation) -> Allocation:
    """Settles a lease after one second."""
    ended_at = T0 + timedelta(seconds=1)
    return ledger.settle(lease.key, lease.fencing_token, ended_at=ended_at, usage=a_usage(lease))
