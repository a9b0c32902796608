"""SQL of CUs bought ahead: bought under a capacity, taken by one run, used or let go once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, insert, or_, select, update

from cu_market.domain.lease import Refusal
from cu_market.domain.purchase import OPEN, STANDING, Purchase, PurchaseState
from cu_market.domain.resources import ResourceVector
from cu_market.ledger.awards import sum_held
from cu_market.ledger.moves import let_go_purchase, refusal, taken_purchase, used_purchase
from cu_market.ledger.records import purchase_from, purchase_row, to_us, to_us_or_none
from cu_market.ledger.schema import PURCHASES

_IS_STANDING = PURCHASES.c.state.in_(sorted(state.value for state in STANDING))
_IS_OPEN = PURCHASES.c.state.in_(sorted(state.value for state in OPEN))
_MOVED = ("state", "taken_at", "ended_at", "run_id", "outcome", "cost_microusd")


def buy(connection: Connection, purchase: Purchase, capacity: ResourceVector) -> Purchase | Refusal:
    """Returns the purchase, whoever made it, or why there is no room; see Ledger.buy."""
    row = _find(connection, purchase.purchase_id)
    if row is not None:
        return row
    held = sum_held(connection, purchase.capacity_id)
    held += sum_standing(connection, purchase.capacity_id)
    refused = refusal(purchase.capacity_id, purchase.size, held, capacity)
    if refused is not None:
        return refused
    connection.execute(insert(PURCHASES), purchase_row(purchase))
    return purchase


def sum_standing(
    connection: Connection, capacity_id: str, *, leave_out: ColumnElement[bool] | None = None
) -> ResourceVector:
    """Returns the sum of sizes of purchases that stand, but for those left out."""
    query = select(
        func.sum(PURCHASES.c.cpu_millis),
        func.sum(PURCHASES.c.memory_bytes),
        func.sum(PURCHASES.c.gpu_count),
    ).where(PURCHASES.c.capacity_id == capacity_id, _IS_STANDING)
    if leave_out is not None:
        query = query.where(~leave_out)
    cpu_millis, memory_bytes, gpu_count = (int(v or 0) for v in connection.execute(query).one())
    return ResourceVector(cpu_millis=cpu_millis, memory_bytes=memory_bytes, gpu_count=gpu_count)


def sum_in_the_way(connection: Connection, capacity_id: str, run_id: str) -> ResourceVector:
    """Returns the sum of sizes that other runs have taken: all others give way."""
    gives_way = or_(_IS_OPEN, PURCHASES.c.run_id == run_id)
    return sum_standing(connection, capacity_id, leave_out=gives_way)


def sum_beside(
    connection: Connection, capacity_id: str, run_id: str, holder: str
) -> ResourceVector:
    """Returns the sum of sizes that stand, but for what this run has taken with that worker."""
    return sum_standing(connection, capacity_id, leave_out=_is_own(run_id, holder))


def use(connection: Connection, capacity_id: str, run_id: str, holder: str, now: datetime) -> None:
    """Marks as used what this run has taken with that worker: its lease has the room now."""
    query = select(PURCHASES).where(PURCHASES.c.capacity_id == capacity_id, _is_own(run_id, holder))
    for row in connection.execute(query.with_for_update()).all():
        _store(connection, used_purchase(purchase_from(row), now))


def _is_own(run_id: str, holder: str) -> ColumnElement[bool]:
    return (
        (PURCHASES.c.state == PurchaseState.TAKEN.value)
        & (PURCHASES.c.run_id == run_id)
        & (PURCHASES.c.holder == holder)
    )


def advance(
    connection: Connection,
    purchase_id: str,
    holder: str | None,
    ready_at: datetime | None,
    expires_at: datetime | None,
) -> Purchase | None:
    """Notes how an open purchase gets on; see Ledger.advance_purchase."""
    values: dict[str, Any] = {}
    if holder is not None:
        values["holder"] = holder
    if expires_at is not None:
        values["expires_at"] = to_us(expires_at)
    if ready_at is not None:
        values["ready_at"] = to_us_or_none(ready_at)
        values["state"] = PurchaseState.READY.value
    statement = (
        update(PURCHASES)
        .where(PURCHASES.c.purchase_id == purchase_id, _IS_OPEN)
        .values(values or {"purchase_id": purchase_id})
        .returning(PURCHASES)
    )
    row = connection.execute(statement).first()
    return None if row is None else purchase_from(row)


def take(connection: Connection, purchase_id: str, run_id: str, now: datetime) -> Purchase | None:
    """Returns the purchase as the run's own, or None where it has gone."""
    row = _find(connection, purchase_id)
    taken = taken_purchase(row, run_id, now)
    if taken is not None and taken is not row:
        _store(connection, taken)
    return taken


def let_go(
    connection: Connection, purchase_id: str, run_id: str, outcome: str, now: datetime
) -> Purchase | None:
    """Returns the purchase that was let go now, or None where it was not to be."""
    row = let_go_purchase(_find(connection, purchase_id), run_id, outcome, now)
    if row is not None:
        _store(connection, row)
    return row


def find(
    connection: Connection,
    states: Iterable[PurchaseState] | None,
    run_id: str | None,
    since: datetime | None,
    limit: int | None,
) -> list[Purchase]:
    """Returns purchases, newest first; with since, those that stand or ended after it."""
    query = select(PURCHASES).order_by(
        PURCHASES.c.started_at.desc(), PURCHASES.c.purchase_id.desc()
    )
    if states is not None:
        query = query.where(PURCHASES.c.state.in_(sorted(state.value for state in states)))
    if run_id is not None:
        query = query.where(PURCHASES.c.run_id == run_id)
    if since is not None:
        ended_at = PURCHASES.c.ended_at
        query = query.where(or_(ended_at.is_(None), ended_at > to_us(since)))
    if limit is not None:
        query = query.limit(max(0, limit))
    return [purchase_from(row) for row in connection.execute(query)]


def _find(connection: Connection, purchase_id: str) -> Purchase | None:
    query = select(PURCHASES).where(PURCHASES.c.purchase_id == purchase_id).with_for_update()
    row = connection.execute(query).first()
    return None if row is None else purchase_from(row)


def _store(connection: Connection, purchase: Purchase) -> None:
    values = purchase_row(purchase)
    connection.execute(
        update(PURCHASES)
        .where(PURCHASES.c.purchase_id == purchase.purchase_id)
        .values({name: values[name] for name in _MOVED})
    )
