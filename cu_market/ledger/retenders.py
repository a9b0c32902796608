"""SQL of awards that another run's auction moves: first come, first served, per award."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from cu_market.domain.allocation import Allocation
from cu_market.domain.auction import Auction
from cu_market.domain.open_request import OpenRequest
from cu_market.ledger.awards import find, is_recorded, record
from cu_market.ledger.moves import before, is_superseded, oldest_first


def supersede(
    connection: Connection,
    auction: Auction,
    awards: Sequence[Allocation],
    asked: Sequence[OpenRequest],
) -> list[Allocation]:
    """Writes awards in the place of those that are still AWARDED; see Ledger.supersede.

    Each row is locked before it is judged: whoever leases it either has done so, and is seen here,
    or waits, and then finds it RELEASED.
    """
    if is_recorded(connection, auction):
        there = (find(connection, award.key) for award in awards)
        return oldest_first(r for r in there if r and r.auction_id == auction.auction_id)
    taken = [
        award
        for award in sorted(awards, key=lambda each: each.key)
        if is_superseded(find(connection, before(award), to_move=True), find(connection, award.key))
    ]
    if taken:
        steps = {award.step_key for award in taken}
        record(connection, auction, taken, [each for each in asked if each.step_key in steps])
    return oldest_first(taken)
