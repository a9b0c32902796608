"""SQL of auctions, awards and the reading of allocations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, bindparam, func, insert, or_, select, union_all, update

from cu_market.domain.allocation import HOLDING, Allocation, AllocationKey, AllocationState
from cu_market.domain.auction import Auction
from cu_market.domain.open_request import OpenRequest
from cu_market.domain.rental import Rental, RentalState
from cu_market.domain.resources import ResourceVector
from cu_market.ledger import open_requests
from cu_market.ledger.moves import refuse_taken
from cu_market.ledger.records import (
    allocation_from,
    allocation_row,
    auction_from,
    auction_row,
    rental_row,
    to_us,
)
from cu_market.ledger.schema import ALLOCATIONS, AUCTIONS, RENTALS

_CHUNK = 500
"""Keys a statement: far below both databases' limits on bound values."""

# Spelt with OR: an IN list is expanded at each execution, and not at all for many rows at once.
IS_HELD = or_(*(ALLOCATIONS.c.state == state.value for state in sorted(HOLDING)))
"""Picks rows that hold capacity."""

OWN_ROW = (
    (ALLOCATIONS.c.run_id == bindparam("b_run_id"))
    & (ALLOCATIONS.c.step_key == bindparam("b_step_key"))
    & (ALLOCATIONS.c.attempt == bindparam("b_attempt"))
)
"""Picks the row of a key; bind with bound()."""

_FIND = select(ALLOCATIONS).where(OWN_ROW)
_FIND_LOCKED = _FIND.with_for_update()  # SQLite needs and knows no row locks, and leaves it out
_IS_OF_CAPACITY = ALLOCATIONS.c.capacity_id == bindparam("b_capacity_id")
_OF_CAPACITY = select(ALLOCATIONS).where(_IS_OF_CAPACITY)
_LEASED_OR_RENTED = union_all(
    select(ALLOCATIONS.c.cpu_millis, ALLOCATIONS.c.memory_bytes, ALLOCATIONS.c.gpu_count).where(
        _IS_OF_CAPACITY, IS_HELD
    ),
    select(RENTALS.c.cpu_millis, RENTALS.c.memory_bytes, RENTALS.c.gpu_count).where(
        RENTALS.c.capacity_id == bindparam("b_capacity_id"),
        RENTALS.c.state == RentalState.OPEN.value,
    ),
).subquery()
_HELD = select(
    func.sum(_LEASED_OR_RENTED.c.cpu_millis),
    func.sum(_LEASED_OR_RENTED.c.memory_bytes),
    func.sum(_LEASED_OR_RENTED.c.gpu_count),
)
_NEWEST_AWARD_FIRST = (
    ALLOCATIONS.c.awarded_at.desc(),
    ALLOCATIONS.c.run_id.desc(),
    ALLOCATIONS.c.step_key.desc(),
    ALLOCATIONS.c.attempt.desc(),
)


def bound(key: AllocationKey) -> dict[str, str | int]:
    """Returns the values of OWN_ROW."""
    return {"b_run_id": key[0], "b_step_key": key[1], "b_attempt": key[2]}


def find(connection: Connection, key: AllocationKey, *, to_move: bool = False) -> Allocation | None:
    """Returns a row or None; to_move keeps other transactions from it until the commit."""
    row = connection.execute(_FIND_LOCKED if to_move else _FIND, bound(key)).first()
    return None if row is None else allocation_from(row)


def find_all(
    connection: Connection,
    run_id: str | None,
    states: Iterable[AllocationState] | None,
    limit: int | None,
) -> list[Allocation]:
    """Returns rows, newest award first."""
    query = select(ALLOCATIONS).order_by(*_NEWEST_AWARD_FIRST)
    if run_id is not None:
        query = query.where(ALLOCATIONS.c.run_id == run_id)
    if states is not None:
        query = query.where(ALLOCATIONS.c.state.in_(sorted(state.value for state in states)))
    if limit is not None:
        query = query.limit(max(0, limit))
    return [allocation_from(row) for row in connection.execute(query)]


def find_of_capacity(connection: Connection, capacity_id: str) -> list[Allocation]:
    """Returns the rows of a capacity."""
    rows = connection.execute(_OF_CAPACITY, {"b_capacity_id": capacity_id})
    return [allocation_from(row) for row in rows]


def sum_held(connection: Connection, capacity_id: str) -> ResourceVector:
    """Returns the sum of sizes that are LEASED or ACCEPTED, and of open rentals."""
    row = connection.execute(_HELD, {"b_capacity_id": capacity_id}).one()
    # PostgreSQL's sum of bigint is numeric, and of no rows both answer NULL.
    cpu_millis, memory_bytes, gpu_count = (int(value or 0) for value in row)
    return ResourceVector(cpu_millis=cpu_millis, memory_bytes=memory_bytes, gpu_count=gpu_count)


def record(
    connection: Connection,
    auction: Auction,
    awards: Sequence[Allocation],
    asked: Sequence[OpenRequest],
    rentals: Sequence[Rental] = (),
) -> None:
    """Writes an auction, its awards and rentals; nothing if the auction is there already.

    Raises:
        AwardTakenError: an award's key exists.
    """
    if is_recorded(connection, auction):
        return
    _refuse_existing(connection, auction, awards)
    connection.execute(insert(AUCTIONS), auction_row(auction))
    if rentals:
        connection.execute(insert(RENTALS), [rental_row(rental) for rental in rentals])
    if not awards:
        return
    supersede = (
        update(ALLOCATIONS)
        .where(
            ALLOCATIONS.c.run_id == bindparam("b_run_id"),
            ALLOCATIONS.c.step_key == bindparam("b_step_key"),
            ALLOCATIONS.c.state == AllocationState.AWARDED.value,
        )
        .values(state=AllocationState.RELEASED.value, ended_at=to_us(auction.held_at))
    )
    steps = sorted({(award.run_id, award.step_key) for award in awards})
    connection.execute(supersede, [{"b_run_id": run, "b_step_key": step} for run, step in steps])
    connection.execute(insert(ALLOCATIONS), [allocation_row(award) for award in awards])
    open_requests.keep(connection, asked)


def is_recorded(connection: Connection, auction: Auction) -> bool:
    """Whether the auction is there already."""
    known = select(AUCTIONS.c.auction_id).where(AUCTIONS.c.auction_id == auction.auction_id)
    return connection.scalar(known) is not None


def _refuse_existing(
    connection: Connection, auction: Auction, awards: Sequence[Allocation]
) -> None:
    steps = sorted({award.step_key for award in awards})
    owners: dict[AllocationKey, str] = {}
    for start in range(0, len(steps), _CHUNK):
        query = select(
            ALLOCATIONS.c.run_id,
            ALLOCATIONS.c.step_key,
            ALLOCATIONS.c.attempt,
            ALLOCATIONS.c.auction_id,
        ).where(
            ALLOCATIONS.c.run_id == auction.run_id,
            ALLOCATIONS.c.step_key.in_(steps[start : start + _CHUNK]),
        )
        for run_id, step_key, attempt, auction_id in connection.execute(query):
            owners[(run_id, step_key, attempt)] = auction_id
    refuse_taken(auction, awards, owners)


def find_auctions(connection: Connection, run_id: str | None, limit: int) -> list[Auction]:
    """Returns auctions, newest first."""
    query = select(AUCTIONS).order_by(AUCTIONS.c.held_at.desc(), AUCTIONS.c.auction_id.desc())
    if run_id is not None:
        query = query.where(AUCTIONS.c.run_id == run_id)
    return [auction_from(row) for row in connection.execute(query.limit(max(0, limit)))]
