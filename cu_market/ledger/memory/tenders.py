"""Tenders in memory (what runs wait for, by account), and what capacity has been used lately."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from cu_market.domain.allocation import HOLDING, Allocation, AllocationKey, AllocationState
from cu_market.domain.tender import Tender
from cu_market.ledger.memory.awards import end
from cu_market.ledger.memory.schema import Tables
from cu_market.ledger.moves import check_aware, newest_first


def note(tables: Tables, tender: Tender) -> None:
    """Writes a run's account and what it waits for, over what was written before."""
    check_aware("note_tender: noted_at", tender.noted_at)
    tables.tenders[tender.run_id] = tender


def find(tables: Tables) -> list[Tender]:
    """Returns every run's tender, by run."""
    return [tables.tenders[run_id] for run_id in sorted(tables.tenders)]


def forget(tables: Tables, before: datetime) -> int:
    """Deletes tenders noted before that; returns how many."""
    old = [each.run_id for each in tables.tenders.values() if each.noted_at < before]
    for run_id in old:
        del tables.tenders[run_id]
    return len(old)


def leased_since(tables: Tables, since: datetime, capacity_id: str | None) -> list[Allocation]:
    """Returns leases, held or ended after that moment, newest award first."""
    return newest_first(
        row
        for row in tables.allocations.values()
        if row.leased_at is not None
        and (row.state in HOLDING or (row.ended_at is not None and row.ended_at > since))
        and capacity_id in (None, row.capacity_id)
    )


def revoke_leases(tables: Tables, keys: Iterable[AllocationKey], now: datetime) -> list[Allocation]:
    """Revokes single leases; returns those that were held until then."""
    rows = [tables.allocations[key] for key in set(keys) if key in tables.allocations]
    held = [row for row in rows if row.state in HOLDING]
    return newest_first(end(tables, row, AllocationState.REVOKED, now) for row in held)
