"""SQL of CUs that runs rent whole: opened under a capacity, closed and billed once."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import Connection, or_, select, update

from cu_market.domain.lease import Refusal
from cu_market.domain.rental import STANDING_RENTALS, Rental, RentalState
from cu_market.domain.resources import ResourceVector
from cu_market.ledger import purchases
from cu_market.ledger.awards import find_of_capacity, sum_held
from cu_market.ledger.moves import expired, opened, refusal
from cu_market.ledger.records import rental_from, rental_row, to_us
from cu_market.ledger.schema import RENTALS

_MOVED = ("state", "opened_at", "closed_at", "cost_microusd", "rest_microusd")


def find(connection: Connection, rental_id: str) -> Rental | None:
    """Returns a rental or None; other transactions are kept from it until the commit."""
    query = select(RENTALS).where(RENTALS.c.rental_id == rental_id).with_for_update()
    row = connection.execute(query).first()
    return None if row is None else rental_from(row)


def rent(
    connection: Connection, rental: Rental, capacity: ResourceVector, now: datetime
) -> Rental | Refusal:
    """Returns the open rental, or why there is no room; see Ledger.rent."""
    row = find(connection, rental.rental_id)
    after = opened(row, rental, now)
    if row is None or after is row:
        return after
    held = sum_held(connection, row.capacity_id)
    held += purchases.sum_standing(connection, row.capacity_id)
    refused = expired(row, capacity, held, now) or refusal(
        row.capacity_id, row.size, held, capacity
    )
    if refused is not None:
        return refused
    _store(connection, after)
    return after


def close(
    connection: Connection, run_id: str, now: datetime, kept: Collection[str]
) -> list[Rental]:
    """Returns the rentals that were closed now; see Ledger.close_rentals."""
    found = []
    for rental in find_all(connection, run_id, STANDING_RENTALS, None):
        if rental.rental_id in kept:
            continue
        after = rental.closed(find_of_capacity(connection, rental.rental_id), now)
        if after is not None:
            _store(connection, after)
            found.append(after)
    return found


def find_all(
    connection: Connection,
    run_id: str | None,
    states: Iterable[RentalState] | None,
    since: datetime | None,
) -> list[Rental]:
    """Returns rentals, the first planned first; with since, those that stand or were closed after
    it."""
    query = select(RENTALS).order_by(RENTALS.c.planned_at, RENTALS.c.rental_id)
    if run_id is not None:
        query = query.where(RENTALS.c.run_id == run_id)
    if states is not None:
        query = query.where(RENTALS.c.state.in_(sorted(state.value for state in states)))
    if since is not None:
        closed_at = RENTALS.c.closed_at
        query = query.where(or_(closed_at.is_(None), closed_at > to_us(since)))
    return [rental_from(row) for row in connection.execute(query)]


def _store(connection: Connection, rental: Rental) -> None:
    values = rental_row(rental)
    connection.execute(
        update(RENTALS)
        .where(RENTALS.c.rental_id == rental.rental_id)
        .values({name: values[name] for name in _MOVED})
    )
