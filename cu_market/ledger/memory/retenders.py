"""Awards that another run's auction moves, in memory: first come, first served, per award."""

from __future__ import annotations

from collections.abc import Sequence

from cu_market.domain.allocation import Allocation
from cu_market.domain.auction import Auction
from cu_market.domain.open_request import OpenRequest
from cu_market.ledger.memory.awards import is_recorded, record
from cu_market.ledger.memory.schema import Tables
from cu_market.ledger.moves import before, is_superseded, oldest_first


def supersede(
    tables: Tables,
    auction: Auction,
    awards: Sequence[Allocation],
    asked: Sequence[OpenRequest],
) -> list[Allocation]:
    """Writes awards in the place of those that are still AWARDED; see Ledger.supersede."""
    rows = tables.allocations
    if not is_recorded(tables, auction):
        taken = [
            award for award in awards if is_superseded(rows.get(before(award)), rows.get(award.key))
        ]
        if taken:
            steps = {award.step_key for award in taken}
            record(tables, auction, taken, [each for each in asked if each.step_key in steps])
    there = (rows.get(key) for key in {award.key for award in awards})
    return oldest_first(row for row in there if row and row.auction_id == auction.auction_id)
