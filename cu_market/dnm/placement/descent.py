"""Moves single requests to better bids while starts stand still, until no move is better.

A move is better if it costs less, or as much and its bid comes earlier in canonical order. Each
lowers (objective, sum of bid indices) lexicographically, so it ends; and where several bids are
equal, the choice among them no longer depends on who made it.
"""

from __future__ import annotations

from cu_market.dnm.offers import OfferTable
from cu_market.dnm.placement.construction import (
    Placement,
    Schedule,
    has_room,
    occupied,
    occupy,
    schedule_of,
)


def descend(table: OfferTable, schedule: Schedule) -> Schedule:
    """Returns a schedule with fixed starts in which no single move is better."""
    timelines = occupied(table)
    placed = dict(enumerate(schedule.placements))
    for placement in schedule.placements:
        if placement is not None:
            occupy(timelines, placement)
    ranked = [
        sorted((table.cost(offer, 0), offer.bid, k) for k, offer in enumerate(offers))
        for offers in table.offers
    ]
    has_moved = True
    while has_moved:
        has_moved = False
        for i, current in placed.items():
            if current is not None:
                occupy(timelines, current, sign=-1)
            start_ms = schedule.ready_ms[i]
            for cost, bid, k in ranked[i]:
                if current is not None and (cost, bid) >= (
                    current.cost_microusd,
                    current.offer.bid,
                ):
                    break
                offer = table.offers[i][k]
                if has_room(offer, start_ms, timelines):
                    current = Placement(
                        offer=offer, start_ms=start_ms, ready_ms=start_ms, cost_microusd=cost
                    )
                    has_moved = True
                    break
            placed[i] = current
            if current is not None:
                occupy(timelines, current)
    return schedule_of(table, placed, dict(enumerate(schedule.ready_ms)))
