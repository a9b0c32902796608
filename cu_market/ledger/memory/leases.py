"""Leases in memory: given under a capacity, fenced, renewed, ended, settled once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from cu_market.domain.allocation import HOLDING, Allocation, AllocationKey, AllocationState
from cu_market.domain.lease import Refusal
from cu_market.domain.resources import ResourceVector
from cu_market.domain.usage import Usage
from cu_market.ledger.memory import open_requests, purchases, runs
from cu_market.ledger.memory.awards import end, find_all, sum_held
from cu_market.ledger.memory.schema import Tables
from cu_market.ledger.moves import (
    accepted,
    check_aware,
    check_leasable,
    expired,
    grown,
    is_same_lease,
    leased,
    refusal,
    settled,
    unrented,
)


def give(
    tables: Tables,
    allocation: Allocation,
    capacity: ResourceVector,
    expires_at: datetime,
    now: datetime,
) -> Allocation | Refusal:
    """Returns the lease, or why there is no room; see Ledger.lease."""
    check_aware("lease: now", now)
    row = tables.allocations.get(allocation.key)
    if row is not None and is_same_lease(row, allocation, expires_at, now):
        return row
    check_leasable(row, allocation, expires_at)
    whose = (allocation.capacity_id, allocation.run_id, allocation.holder)
    held = sum_held(tables, allocation.capacity_id) + purchases.sum_beside(tables, *whose)
    refused = (
        unrented(allocation, tables.rentals.get(allocation.capacity_id))
        or expired(allocation, capacity, held, now)
        or refusal(allocation.capacity_id, allocation.size, held, capacity)
    )
    if refused is not None:
        return refused
    tables.last_token += 1
    lease = leased(row, allocation, fencing_token=tables.last_token, expires_at=expires_at, now=now)
    tables.allocations[lease.key] = lease
    purchases.use(tables, *whose, now)
    return lease


def grow(
    tables: Tables,
    lease: Allocation,
    size: ResourceVector,
    price_microusd_per_hour: int,
    capacity: ResourceVector,
    now: datetime,
) -> Allocation | Refusal:
    """Returns the larger lease, or why there is no room; see Ledger.grow."""
    row = tables.allocations.get(lease.key)
    after = grown(
        row,
        lease.key,
        lease.fencing_token,
        size=size,
        price_microusd_per_hour=price_microusd_per_hour,
        now=now,
    )
    if row is None or after is row:
        return after
    others = sum_held(tables, row.capacity_id).minus(row.size)
    others += purchases.sum_standing(tables, row.capacity_id)
    refused = refusal(row.capacity_id, size, others, capacity)
    if refused is not None:
        return refused
    tables.allocations[lease.key] = after
    return after


def accept(tables: Tables, key: AllocationKey, fencing_token: int, now: datetime) -> Allocation:
    """Returns the accepted lease; see Ledger.accept."""
    after = accepted(tables.allocations.get(key), key, fencing_token, now)
    tables.allocations[key] = after
    return after


def settle(
    tables: Tables,
    key: AllocationKey,
    fencing_token: int,
    ended_at: datetime,
    usage: Usage | None,
) -> Allocation:
    """Returns the settled lease; see Ledger.settle."""
    row = tables.allocations.get(key)
    after = settled(row, key, fencing_token, ended_at)
    if after is not row and usage is not None:
        tables.usages[key] = usage
    tables.allocations[key] = after
    return after


def hold(tables: Tables, keys: Iterable[AllocationKey], holder: str) -> None:
    """Writes who holds these leases; rows that hold nothing are left alone."""
    for key in keys:
        row = tables.allocations.get(key)
        if row is not None and row.state in HOLDING:
            tables.allocations[key] = replace(row, holder=holder)


def renew(tables: Tables, run_id: str, expires_at: datetime) -> int:
    """Extends a run's leases, never shortens one; returns how many it holds."""
    check_aware("renew: expires_at", expires_at)
    held = find_all(tables, run_id, HOLDING)
    for row in held:
        longer = max(row.lease_expires_at or expires_at, expires_at)
        tables.allocations[row.key] = replace(row, lease_expires_at=longer)
    return len(held)


def release(tables: Tables, key: AllocationKey, now: datetime, is_unstarted: bool) -> None:
    """Releases an award or a lease that started nothing."""
    row = tables.allocations.get(key)
    if row and row.state in (AllocationState.AWARDED, AllocationState.LEASED):
        noted = replace(row, unstarted_at=now) if is_unstarted else row
        end(tables, noted, AllocationState.RELEASED, now)


def release_awards(tables: Tables, run_id: str, now: datetime) -> int:
    """Releases a run's awards; returns how many."""
    awarded = find_all(tables, run_id, {AllocationState.AWARDED})
    for row in awarded:
        end(tables, row, AllocationState.RELEASED, now)
    open_requests.forget(tables, run_id)
    return len(awarded)


def revoke(tables: Tables, run_id: str, now: datetime) -> list[Allocation]:
    """Revokes a run's leases and releases its awards; returns its REVOKED rows."""
    for row in find_all(tables, run_id, HOLDING):
        end(tables, row, AllocationState.REVOKED, now)
    release_awards(tables, run_id, now)
    return find_all(tables, run_id, {AllocationState.REVOKED})


def expire(tables: Tables, now: datetime) -> list[Allocation]:
    """Expires leases whose time is over; each ended when it expired, whenever that is noticed.

    Returns the EXPIRED rows.
    """
    for row in find_all(tables, None, HOLDING):
        if row.lease_expires_at is not None and row.lease_expires_at <= now:
            end(tables, row, AllocationState.EXPIRED, row.lease_expires_at)
    return find_all(tables, None, {AllocationState.EXPIRED})


def tick(tables: Tables, now: datetime, tolerance: timedelta) -> timedelta:
    """Notes that the control plane is up; returns by how much live leases were extended."""
    noted, tables.noted_at = tables.noted_at, max(now, tables.noted_at or now)
    gap = timedelta(0) if noted is None else now - noted
    if gap <= max(tolerance, timedelta(0)):
        return timedelta(0)
    for row in find_all(tables, None, HOLDING):
        expires_at = (row.lease_expires_at or now) + gap
        tables.allocations[row.key] = replace(row, lease_expires_at=expires_at)
    for run in runs.find_live(tables):
        tables.run_leases[run.run_id] = replace(run, expires_at=run.expires_at + gap)
    return gap
