"""What some requests have been awarded before: places that a plan keeps, or weighs leaving.

A plan of several runs looks at two worlds: one in which everything stays where it stands, and one
in which all is placed anew. The second is never dearer: the first is one of its schedules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from cu_market.dnm.offers import OfferTable
from cu_market.dnm.placement.construction import (
    Placement,
    earliest_start,
    occupied,
    occupy,
)


class Hold(StrEnum):
    """How much of a place is kept."""

    NOTHING = "nothing"
    BID = "bid"
    ALL = "bid and start"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A request's place.

    Attributes:
        bid_id: the bid that it was awarded to.
        start_ms: it starts no earlier, milliseconds after the auction's time.
        hold: what of that is kept; NOTHING: it may go anywhere, if that is better for all.
    """

    bid_id: str
    start_ms: int = 0
    hold: Hold = Hold.NOTHING


NOTHING_STANDS: Mapping[str, Standing] = {}


def bound_table(table: OfferTable, standing: Mapping[str, Standing]) -> OfferTable:
    """Returns the table in which requests that keep their bid have no other offer."""
    if all(place.hold is Hold.NOTHING for place in standing.values()):
        return table
    offers = []
    for request, row in zip(table.requests, table.offers, strict=True):
        place = standing.get(request.request_id)
        if place is not None and place.hold is not Hold.NOTHING:
            row = tuple(offer for offer in row if table.bids[offer.bid].bid_id == place.bid_id)
        offers.append(row)
    return replace(table, offers=tuple(offers))


def seats(
    table: OfferTable, standing: Mapping[str, Standing], *, only: Hold | None = None
) -> dict[int, Placement]:
    """Returns where requests stand, by request, parents first; those that no longer fit are left
    out, and what comes after them.

    Args:
        table: the input.
        standing: by request_id.
        only: those that keep this much; all where None.
    """
    timelines = occupied(table)
    found: dict[int, Placement] = {}
    for i in table.graph.order:
        request = table.requests[i]
        place = standing.get(request.request_id)
        if place is None or (only is not None and place.hold is not only):
            continue
        if any(parent not in found for parent in table.graph.parents[i]):
            continue
        offer = next((o for o in table.offers[i] if table.bids[o.bid].bid_id == place.bid_id), None)
        if offer is None:
            continue
        ends = (found[parent].end_ms for parent in table.graph.parents[i])
        ready_ms = max([request.earliest_start_ms, *ends])
        start_ms = earliest_start(offer, max(ready_ms, place.start_ms), timelines)
        latest = request.latest_finish_ms
        if start_ms is None or (latest is not None and start_ms + offer.expected_ms > latest):
            continue
        found[i] = Placement(
            offer=offer,
            start_ms=start_ms,
            ready_ms=ready_ms,
            cost_microusd=table.cost(offer, start_ms - ready_ms),
        )
        occupy(timelines, found[i])
    return found
