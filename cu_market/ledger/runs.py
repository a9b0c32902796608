"""SQL of run leases: a run worker's sign of life."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from cu_market.domain.lease import RunLease
from cu_market.ledger.moves import held_run
from cu_market.ledger.records import run_lease_from, to_us, to_us_or_none
from cu_market.ledger.schema import RUN_LEASES


def hold(connection: Connection, run_id: str, holder: str, expires_at: datetime) -> None:
    """Writes or extends a run's lease."""
    before = find(connection, run_id)
    after = held_run(before, run_id, holder, expires_at)
    values = {
        "holder": after.holder,
        "expires_at": to_us(after.expires_at),
        "ended_at": to_us_or_none(after.ended_at),
    }
    if before is None:
        connection.execute(insert(RUN_LEASES).values(run_id=run_id, **values))
    elif after != before:
        connection.execute(update(RUN_LEASES).where(RUN_LEASES.c.run_id == run_id).values(values))


def end(connection: Connection, run_id: str, now: datetime) -> None:
    """Notes that the run worker ended in order, once."""
    connection.execute(
        update(RUN_LEASES)
        .where(RUN_LEASES.c.run_id == run_id, RUN_LEASES.c.ended_at.is_(None))
        .values(ended_at=to_us(now))
    )


def find(connection: Connection, run_id: str) -> RunLease | None:
    """Returns a run's lease, or None."""
    row = connection.execute(select(RUN_LEASES).where(RUN_LEASES.c.run_id == run_id)).first()
    return None if row is None else run_lease_from(row)


def find_live(connection: Connection) -> list[RunLease]:
    """Returns run leases that have not ended, the first to expire first."""
    query = select(RUN_LEASES).where(RUN_LEASES.c.ended_at.is_(None))
    ordered = query.order_by(RUN_LEASES.c.expires_at, RUN_LEASES.c.run_id)
    return [run_lease_from(row) for row in connection.execute(ordered)]
