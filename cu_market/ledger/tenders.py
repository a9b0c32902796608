"""SQL of tenders (what runs wait for, by account) and of what capacity has been used lately."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, delete, insert, or_, select, update

from cu_market.domain.allocation import Allocation, AllocationKey, AllocationState
from cu_market.domain.tender import Tender
from cu_market.ledger.awards import IS_HELD, OWN_ROW, bound
from cu_market.ledger.moves import newest_first
from cu_market.ledger.records import allocation_from, tender_from, tender_row, to_us
from cu_market.ledger.schema import ALLOCATIONS, TENDERS


def note(connection: Connection, tender: Tender) -> None:
    """Writes a run's account and what it waits for, over what was written before."""
    # Deleted and written, not updated: both databases know that, and the run has one writer.
    connection.execute(delete(TENDERS).where(TENDERS.c.run_id == tender.run_id))
    connection.execute(insert(TENDERS), tender_row(tender))


def find(connection: Connection) -> list[Tender]:
    """Returns every run's tender, by run."""
    query = select(TENDERS).order_by(TENDERS.c.run_id)
    return [tender_from(row) for row in connection.execute(query)]


def forget(connection: Connection, before: datetime) -> int:
    """Deletes tenders noted before that; returns how many."""
    return connection.execute(delete(TENDERS).where(TENDERS.c.noted_at < to_us(before))).rowcount


def leased_since(
    connection: Connection, since: datetime, capacity_id: str | None
) -> list[Allocation]:
    """Returns leases, held or ended after that moment, newest award first."""
    query = select(ALLOCATIONS).where(
        ALLOCATIONS.c.leased_at.is_not(None),
        or_(IS_HELD, ALLOCATIONS.c.ended_at > to_us(since)),
    )
    if capacity_id is not None:
        query = query.where(ALLOCATIONS.c.capacity_id == capacity_id)
    return newest_first(allocation_from(row) for row in connection.execute(query))


def revoke_leases(
    connection: Connection, keys: Iterable[AllocationKey], now: datetime
) -> list[Allocation]:
    """Revokes single leases; returns those that were held until then."""
    revoked = []
    for key in sorted(set(keys)):
        statement = (
            update(ALLOCATIONS)
            .where(OWN_ROW, IS_HELD)
            .values(state=AllocationState.REVOKED.value, ended_at=to_us(now))
            .returning(ALLOCATIONS)
        )
        revoked += [allocation_from(row) for row in connection.execute(statement, bound(key))]
    return newest_first(revoked)
