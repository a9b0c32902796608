"""Run leases in memory: a run worker's sign of life."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from cu_market.domain.lease import RunLease
from cu_market.ledger.memory.schema import Tables
from cu_market.ledger.moves import held_run


def hold(tables: Tables, run_id: str, holder: str, expires_at: datetime) -> None:
    """Writes or extends a run's lease."""
    before = tables.run_leases.get(run_id)
    tables.run_leases[run_id] = held_run(before, run_id, holder, expires_at)


def end(tables: Tables, run_id: str, now: datetime) -> None:
    """Notes that the run worker ended in order, once."""
    run = tables.run_leases.get(run_id)
    if run is not None and run.ended_at is None:
        tables.run_leases[run_id] = replace(run, ended_at=now)


def find_live(tables: Tables) -> list[RunLease]:
    """Returns run leases that have not ended, the first to expire first."""
    live = [run for run in tables.run_leases.values() if run.ended_at is None]
    return sorted(live, key=lambda run: (run.expires_at, run.run_id))
