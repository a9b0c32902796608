"""SQL of leases: given under a capacity, fenced, renewed, ended, settled once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Update, bindparam, case, insert, select, update

from cu_market.domain.allocation import Allocation, AllocationKey, AllocationState
from cu_market.domain.lease import Refusal
from cu_market.domain.resources import ResourceVector
from cu_market.domain.usage import Usage
from cu_market.ledger import open_requests, purchases, rentals
from cu_market.ledger.awards import IS_HELD, OWN_ROW, bound, find, sum_held
from cu_market.ledger.moves import (
    accepted,
    check_leasable,
    expired,
    grown,
    is_same_lease,
    leased,
    newest_first,
    refusal,
    settled,
    unrented,
)
from cu_market.ledger.records import (
    allocation_from,
    allocation_row,
    from_us,
    to_us,
    to_us_or_none,
    usage_row,
)
from cu_market.ledger.schema import ALLOCATIONS, CONTROL_CLOCK, COUNTERS, RUN_LEASES, USAGES

_NEXT_TOKEN = (
    update(COUNTERS)
    .where(COUNTERS.c.name == "fencing")
    .values(value=COUNTERS.c.value + 1)
    .returning(COUNTERS.c.value)
)
_MOVED = ("state", "accepted_at", "ended_at", "cost_microusd")
_TERMS = (
    "bid_id",
    "provider",
    "resource_id",
    "capacity_id",
    "cpu_millis",
    "memory_bytes",
    "gpu_count",
    "price_microusd_per_hour",
    "expected_ms",
    "fencing_token",
    "leased_at",
    "lease_expires_at",
    "holder",
    "minimum_ms",
    "egress_microusd",
    "valid_until",
)


def _setting(columns: Iterable[str]) -> Update:
    return update(ALLOCATIONS).where(OWN_ROW).values({name: bindparam(name) for name in columns})


_GROWN = (
    "cpu_millis",
    "memory_bytes",
    "gpu_count",
    "price_microusd_per_hour",
    "accrued_microusd",
    "priced_since",
)
_MOVE = _setting(_MOVED)
_GROW = _setting(_GROWN)
_LEASE_AWARD = _setting((*_MOVED, *_TERMS))
_INSERT_ALLOCATION = insert(ALLOCATIONS)
_INSERT_USAGE = insert(USAGES)


def give(
    connection: Connection,
    allocation: Allocation,
    capacity: ResourceVector,
    expires_at: datetime,
    now: datetime,
) -> Allocation | Refusal:
    """Returns the lease, or why there is no room; see Ledger.lease.

    Capacity is checked here, while no other transaction can give from the same capacity.
    """
    row = find(connection, allocation.key, to_move=True)
    if row is not None and is_same_lease(row, allocation, expires_at, now):
        return row
    check_leasable(row, allocation, expires_at)
    whose = (allocation.capacity_id, allocation.run_id, allocation.holder)
    held = sum_held(connection, allocation.capacity_id) + purchases.sum_beside(connection, *whose)
    refused = (
        unrented(allocation, rentals.find(connection, allocation.capacity_id))
        or expired(allocation, capacity, held, now)
        or refusal(allocation.capacity_id, allocation.size, held, capacity)
    )
    if refused is not None:
        return refused
    token = connection.execute(_NEXT_TOKEN).scalar_one()
    lease = leased(row, allocation, fencing_token=token, expires_at=expires_at, now=now)
    values = allocation_row(lease)
    if row is None:
        connection.execute(_INSERT_ALLOCATION, values)
    else:
        terms = {name: values[name] for name in (*_MOVED, *_TERMS)}
        connection.execute(_LEASE_AWARD, bound(lease.key) | terms)
    purchases.use(connection, *whose, now)
    return lease


def grow(
    connection: Connection,
    lease: Allocation,
    size: ResourceVector,
    price_microusd_per_hour: int,
    capacity: ResourceVector,
    now: datetime,
) -> Allocation | Refusal:
    """Returns the larger lease, or why there is no room; see Ledger.grow."""
    row = find(connection, lease.key, to_move=True)
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
    others = sum_held(connection, row.capacity_id).minus(row.size)
    others += purchases.sum_standing(connection, row.capacity_id)
    refused = refusal(row.capacity_id, size, others, capacity)
    if refused is not None:
        return refused
    values = allocation_row(after)
    connection.execute(_GROW, bound(after.key) | {name: values[name] for name in _GROWN})
    return after


def accept(
    connection: Connection, key: AllocationKey, fencing_token: int, now: datetime
) -> Allocation:
    """Returns the accepted lease; see Ledger.accept."""
    row = find(connection, key, to_move=True)
    return _store(connection, row, accepted(row, key, fencing_token, now))


def settle(
    connection: Connection,
    key: AllocationKey,
    fencing_token: int,
    ended_at: datetime,
    usage: Usage | None,
) -> Allocation:
    """Returns the settled lease; see Ledger.settle."""
    row = find(connection, key, to_move=True)
    after = settled(row, key, fencing_token, ended_at)
    if after is not row and usage is not None:
        connection.execute(_INSERT_USAGE, usage_row(usage))
    return _store(connection, row, after)


def _store(connection: Connection, before: Allocation | None, after: Allocation) -> Allocation:
    if after is not before:
        moved = {
            "state": after.state.value,
            "accepted_at": to_us_or_none(after.accepted_at),
            "ended_at": to_us_or_none(after.ended_at),
            "cost_microusd": after.cost_microusd,
        }
        connection.execute(_MOVE, bound(after.key) | moved)
    return after


def hold(connection: Connection, keys: Iterable[AllocationKey], holder: str) -> None:
    """Writes who holds these leases; rows that hold nothing are left alone."""
    rows = [bound(key) for key in sorted(set(keys))]
    if rows:
        connection.execute(update(ALLOCATIONS).where(OWN_ROW, IS_HELD).values(holder=holder), rows)


def renew(connection: Connection, run_id: str, expires_at: datetime) -> int:
    """Extends a run's leases, never shortens one; returns how many it holds."""
    until = to_us(expires_at)
    column = ALLOCATIONS.c.lease_expires_at
    statement = (
        update(ALLOCATIONS)
        .where(ALLOCATIONS.c.run_id == run_id, IS_HELD)
        .values(lease_expires_at=case((column < until, until), else_=column))
    )
    return connection.execute(statement).rowcount


def release(connection: Connection, key: AllocationKey, now: datetime, is_unstarted: bool) -> None:
    """Releases an award or a lease that started nothing."""
    states = (AllocationState.AWARDED.value, AllocationState.LEASED.value)
    connection.execute(
        update(ALLOCATIONS)
        .where(OWN_ROW, ALLOCATIONS.c.state.in_(states))
        .values(
            state=AllocationState.RELEASED.value,
            ended_at=bindparam("now"),
            unstarted_at=bindparam("unstarted"),
        ),
        bound(key) | {"now": to_us(now), "unstarted": to_us(now) if is_unstarted else None},
    )


def release_awards(connection: Connection, run_id: str, now: datetime) -> int:
    """Releases a run's awards; returns how many."""
    statement = (
        update(ALLOCATIONS)
        .where(
            ALLOCATIONS.c.run_id == run_id,
            ALLOCATIONS.c.state == AllocationState.AWARDED.value,
        )
        .values(state=AllocationState.RELEASED.value, ended_at=to_us(now))
    )
    open_requests.forget(connection, run_id)
    return connection.execute(statement).rowcount


def revoke(connection: Connection, run_id: str, now: datetime) -> list[Allocation]:
    """Revokes a run's leases and releases its awards; returns its REVOKED rows."""
    is_of_run = ALLOCATIONS.c.run_id == run_id
    _end(connection, is_of_run, {"state": AllocationState.REVOKED.value, "ended_at": to_us(now)})
    release_awards(connection, run_id, now)
    return _in_state(connection, AllocationState.REVOKED, is_of_run)


def expire(connection: Connection, now: datetime) -> list[Allocation]:
    """Expires leases whose time is over; each ended when it expired, whenever that is noticed.

    Returns the EXPIRED rows.
    """
    _end(
        connection,
        ALLOCATIONS.c.lease_expires_at <= to_us(now),
        {"state": AllocationState.EXPIRED.value, "ended_at": ALLOCATIONS.c.lease_expires_at},
    )
    return _in_state(connection, AllocationState.EXPIRED)


def _end(connection: Connection, which: ColumnElement[bool], values: dict[str, Any]) -> None:
    connection.execute(update(ALLOCATIONS).where(IS_HELD, which).values(values))


def _in_state(
    connection: Connection, state: AllocationState, *which: ColumnElement[bool]
) -> list[Allocation]:
    statement = select(ALLOCATIONS).where(ALLOCATIONS.c.state == state.value, *which)
    return newest_first(allocation_from(row) for row in connection.execute(statement))


def tick(connection: Connection, now: datetime, tolerance: timedelta) -> timedelta:
    """Notes that the control plane is up; returns by how much live leases were extended."""
    query = select(CONTROL_CLOCK.c.noted_at).where(CONTROL_CLOCK.c.clock_id == 1)
    noted = connection.scalar(query.with_for_update())
    current = to_us(now)
    if noted is not None and current <= noted:
        return timedelta(0)  # another daemon's clock is ahead: its note stands
    note = update(CONTROL_CLOCK).where(CONTROL_CLOCK.c.clock_id == 1).values(noted_at=current)
    connection.execute(note)
    gap = timedelta(0) if noted is None else from_us(current) - from_us(noted)
    if gap <= max(tolerance, timedelta(0)):
        return timedelta(0)
    shift = current - (noted or 0)
    expiry, run_expiry = ALLOCATIONS.c.lease_expires_at, RUN_LEASES.c.expires_at
    connection.execute(update(ALLOCATIONS).where(IS_HELD).values(lease_expires_at=expiry + shift))
    connection.execute(
        update(RUN_LEASES)
        .where(RUN_LEASES.c.ended_at.is_(None))
        .values(expires_at=run_expiry + shift)
    )
    return gap
