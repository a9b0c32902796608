"""What steps that are not leased yet ask for, in memory."""

from __future__ import annotations

from collections.abc import Sequence

from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.open_request import OpenRequest
from cu_market.ledger.memory.schema import Tables
from cu_market.ledger.moves import oldest_first


def keep(tables: Tables, asked: Sequence[OpenRequest]) -> None:
    """Writes requests, each over what was kept of its step before."""
    tables.open_requests.update(((each.run_id, each.step_key), each) for each in asked)


def forget(tables: Tables, run_id: str) -> None:
    """Deletes a run's requests."""
    for step in [step for step in tables.open_requests if step[0] == run_id]:
        del tables.open_requests[step]


def standing(tables: Tables) -> list[tuple[Allocation, OpenRequest]]:
    """Returns what is AWARDED and what it was asked for, oldest award first."""
    rows = tables.allocations.values()
    awarded = oldest_first(row for row in rows if row.state is AllocationState.AWARDED)
    asked = ((row, tables.open_requests.get(row.key[:2])) for row in awarded)
    return [(row, each) for row, each in asked if each is not None]
