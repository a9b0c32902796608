"""CUs that runs rent whole, in memory: opened under a capacity, closed and billed once."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from cu_market.domain.lease import Refusal
from cu_market.domain.rental import STANDING_RENTALS, Rental, RentalState
from cu_market.domain.resources import ResourceVector
from cu_market.ledger.memory import purchases
from cu_market.ledger.memory.awards import sum_held
from cu_market.ledger.memory.schema import Tables
from cu_market.ledger.moves import expired, opened, refusal


def rent(
    tables: Tables, rental: Rental, capacity: ResourceVector, now: datetime
) -> Rental | Refusal:
    """Returns the open rental, or why there is no room; see Ledger.rent."""
    row = tables.rentals.get(rental.rental_id)
    after = opened(row, rental, now)
    if row is None or after is row:
        return after
    held = sum_held(tables, row.capacity_id) + purchases.sum_standing(tables, row.capacity_id)
    refused = expired(row, capacity, held, now) or refusal(
        row.capacity_id, row.size, held, capacity
    )
    if refused is not None:
        return refused
    tables.rentals[row.rental_id] = after
    return after


def close(tables: Tables, run_id: str, now: datetime, kept: Collection[str]) -> list[Rental]:
    """Returns the rentals that were closed now; see Ledger.close_rentals."""
    found = []
    for rental in find_all(tables, run_id, STANDING_RENTALS, None):
        if rental.rental_id in kept:
            continue
        rows = [r for r in tables.allocations.values() if r.capacity_id == rental.rental_id]
        after = rental.closed(rows, now)
        if after is not None:
            tables.rentals[rental.rental_id] = after
            found.append(after)
    return found


def find_all(
    tables: Tables,
    run_id: str | None,
    states: Iterable[RentalState] | None,
    since: datetime | None,
) -> list[Rental]:
    """Returns rentals, the first planned first; with since, those that stand or were closed after
    it."""
    wanted = frozenset(RentalState if states is None else states)
    found = [
        each
        for each in tables.rentals.values()
        if each.state in wanted
        and run_id in (None, each.run_id)
        and (since is None or each.closed_at is None or each.closed_at > since)
    ]
    return sorted(found, key=lambda each: (each.planned_at, each.rental_id))
