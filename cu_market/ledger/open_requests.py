"""SQL of what steps that are not leased yet ask for."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, and_, bindparam, delete, insert, select

from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.open_request import OpenRequest
from cu_market.ledger.records import allocation_from, open_request_from, open_request_row
from cu_market.ledger.schema import ALLOCATIONS, OPEN_REQUESTS

_FORGET = delete(OPEN_REQUESTS).where(
    OPEN_REQUESTS.c.run_id == bindparam("b_run_id"),
    OPEN_REQUESTS.c.step_key == bindparam("b_step_key"),
)


def keep(connection: Connection, asked: Sequence[OpenRequest]) -> None:
    """Writes requests, each over what was kept of its step before."""
    if not asked:
        return
    # Deleted and written, not updated: both databases know that, and the run is locked.
    keys = [{"b_run_id": each.run_id, "b_step_key": each.step_key} for each in asked]
    connection.execute(_FORGET, keys)
    connection.execute(insert(OPEN_REQUESTS), [open_request_row(each) for each in asked])


def forget(connection: Connection, run_id: str) -> None:
    """Deletes a run's requests."""
    connection.execute(delete(OPEN_REQUESTS).where(OPEN_REQUESTS.c.run_id == run_id))


def standing(connection: Connection) -> list[tuple[Allocation, OpenRequest]]:
    """Returns what is AWARDED and what it was asked for, oldest award first."""
    is_same = and_(
        *(OPEN_REQUESTS.c[name] == ALLOCATIONS.c[name] for name in ("run_id", "step_key"))
    )
    first = [ALLOCATIONS.c[name] for name in ("awarded_at", "run_id", "step_key", "attempt")]
    awarded = (
        select(ALLOCATIONS)
        .join(OPEN_REQUESTS, is_same)
        .where(ALLOCATIONS.c.state == AllocationState.AWARDED.value)
    )
    rows = [allocation_from(row) for row in connection.execute(awarded.order_by(*first))]
    asked = (
        select(OPEN_REQUESTS)
        .join(ALLOCATIONS, is_same)
        .where(ALLOCATIONS.c.state == AllocationState.AWARDED.value)
    )
    found = [open_request_from(row) for row in connection.execute(asked)]
    by_step = {(each.run_id, each.step_key): each for each in found}
    return [(row, by_step[row.run_id, row.step_key]) for row in rows]
