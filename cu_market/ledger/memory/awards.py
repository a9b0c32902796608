"""Auctions, awards and the reading of allocations, in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from cu_market.domain.allocation import HOLDING, Allocation, AllocationState
from cu_market.domain.auction import Auction
from cu_market.domain.open_request import OpenRequest
from cu_market.domain.rental import Rental, RentalState
from cu_market.domain.resources import ResourceVector
from cu_market.ledger.memory import open_requests
from cu_market.ledger.memory.schema import Tables
from cu_market.ledger.moves import newest_first, refuse_taken
from cu_market.ledger.report import report_text


def find_all(
    tables: Tables,
    run_id: str | None,
    states: Iterable[AllocationState] | None,
    limit: int | None = None,
) -> list[Allocation]:
    """Returns rows, newest award first."""
    wanted = frozenset(AllocationState if states is None else states)
    found = newest_first(
        row
        for row in tables.allocations.values()
        if row.state in wanted and run_id in (None, row.run_id)
    )
    return found if limit is None else found[: max(0, limit)]


def sum_held(tables: Tables, capacity_id: str) -> ResourceVector:
    """Returns the sum of sizes that are LEASED or ACCEPTED, and of open rentals."""
    rows = tables.allocations.values()
    held = [row.size for row in rows if row.state in HOLDING and row.capacity_id == capacity_id]
    held += [
        rental.size
        for rental in tables.rentals.values()
        if rental.state is RentalState.OPEN and rental.capacity_id == capacity_id
    ]
    return sum(held, ResourceVector())


def record(
    tables: Tables,
    auction: Auction,
    awards: Sequence[Allocation],
    asked: Sequence[OpenRequest],
    rentals: Sequence[Rental] = (),
) -> None:
    """Writes an auction, its awards and rentals; nothing if the auction is there already.

    Raises:
        AwardTakenError: an award's key exists.
    """
    report = json.loads(report_text(auction.auction_id, auction.report))
    if is_recorded(tables, auction):
        return
    owners = {key: row.auction_id for key, row in tables.allocations.items()}
    refuse_taken(auction, awards, owners)
    tables.auctions[auction.auction_id] = replace(auction, report=report)
    steps = {award.step_key for award in awards}
    for row in find_all(tables, auction.run_id, {AllocationState.AWARDED}):
        if row.step_key in steps:
            end(tables, row, AllocationState.RELEASED, auction.held_at)
    tables.allocations.update((award.key, award) for award in awards)
    tables.rentals.update((rental.rental_id, rental) for rental in rentals)
    open_requests.keep(tables, asked)


def is_recorded(tables: Tables, auction: Auction) -> bool:
    """Whether the auction is there already."""
    return auction.auction_id in tables.auctions


def end(
    tables: Tables, row: Allocation, state: AllocationState, ended_at: datetime | None
) -> Allocation:
    """Returns the row as it is stored now: over, in that state, since then."""
    ended = replace(row, state=state, ended_at=ended_at)
    tables.allocations[row.key] = ended
    return ended


def find_auctions(tables: Tables, run_id: str | None, limit: int) -> list[Auction]:
    """Returns auctions, newest first."""
    found = [each for each in tables.auctions.values() if run_id in (None, each.run_id)]
    found.sort(key=lambda auction: (auction.held_at, auction.auction_id), reverse=True)
    return found[: max(0, limit)]
