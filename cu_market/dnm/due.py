"""When each request must have ended, so that what waits for it can still end in time.

    due_i = min(L_i, min_{c after i} due_c - q_c),   q_c the least time that c takes anywhere

Every plan in which all end in time keeps it, so it takes nothing away; without it, what is placed
first would take the cheapest CU and leave no time to what comes after it. Where not even the least
times end in time, a request is due when those would end: it is not held up for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from cu_market.dnm.graph import Graph
from cu_market.dnm.offers import OfferTable
from cu_market.domain.request import ResourceRequest


def due_ms(table: OfferTable) -> tuple[int | None, ...]:
    """Returns when each request is due, milliseconds after the auction's time; None: any time."""
    requests = table.requests
    if all(request.latest_finish_ms is None for request in requests):
        return (None,) * len(requests)
    takes = [
        min((offer.expected_ms for offer in offers), default=request.duration_ms)
        for request, offers in zip(requests, table.offers, strict=True)
    ]
    soonest = quickest_ends(requests, table.graph, takes)
    due = [request.latest_finish_ms for request in requests]
    for i in reversed(table.graph.order):
        own = due[i]
        if own is None:
            continue
        own = due[i] = max(own, soonest[i])
        for parent in table.graph.parents[i]:
            before, others = own - takes[i], due[parent]
            due[parent] = before if others is None else min(others, before)
    return tuple(due)


def quickest_ends(
    requests: Sequence[ResourceRequest], graph: Graph, takes: Sequence[int]
) -> list[int]:
    """Returns when each request ends where nobody waits for room.

    Args:
        requests: in any order.
        graph: of these.
        takes: milliseconds of each.
    """
    ends = [0] * len(requests)
    for i in graph.order:
        before = [requests[i].earliest_start_ms, *(ends[parent] for parent in graph.parents[i])]
        ends[i] = max(before) + takes[i]
    return ends
