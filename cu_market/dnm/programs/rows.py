"""The program's rows: exact in time, and no more of them than can bind.

What is held changes only when a lease starts or ends, and grows only at a start, so a limit that
holds at every start holds always: with one row per (room, distinct start) nothing is approximated.
Left out without changing what is feasible: moments after which no holder leaves before the next
holder comes (the next row contains them), and rows that cannot be exceeded when every request
holds its largest amount once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import gcd

from cu_market.dnm.offers import Offer, OfferTable, Room
from cu_market.dnm.placement.construction import Schedule
from cu_market.dnm.programs.instance import ProgramData, Row

Holder = tuple[int, int, int, int]
"""(start_ms, end_ms, column, amount)."""


def assemble(table: OfferTable, schedule: Schedule) -> ProgramData:
    """Returns the program with every start as in the schedule (unserved: as early as they could).

    With free starts a pair's cost contains the waiting that the schedule has; a pair that would
    end too late from there, or finds no room even alone, is left out.
    """
    requests: list[int] = []
    bids: list[int] = []
    costs: list[int] = []
    held: dict[int, list[Holder]] = defaultdict(list)
    incumbent: list[int] = []
    for i, placement in enumerate(schedule.placements):
        start = schedule.ready_ms[i] if placement is None else placement.start_ms
        for offer in table.offers[i]:
            if not _is_possible(table, offer, start):
                continue
            column = len(requests)
            if placement is not None and placement.offer.bid == offer.bid:
                incumbent.append(column)
            requests.append(i)
            bids.append(offer.bid)
            costs.append(table.cost(offer, start - schedule.ready_ms[i]))
            for room, amount in offer.takes:
                held[room].append((start, start + offer.expected_ms, column, amount))
    # Waiting is part of a cost with free starts and may pass what the penalty was made from.
    penalty = max(table.penalty_microusd, 10 * max(costs, default=0) + 1)
    return ProgramData(
        penalties_microusd=tuple(penalty if offers else 0 for offers in table.offers),
        column_requests=tuple(requests),
        column_bids=tuple(bids),
        column_costs_microusd=tuple(costs),
        rows=tuple(
            row for room in sorted(held) for row in _rows(table.rooms[room], held[room], requests)
        ),
        incumbent=tuple(incumbent),
    )


def _is_possible(table: OfferTable, offer: Offer, start_ms: int) -> bool:
    latest = offer.latest_end_ms
    if latest is not None and start_ms + offer.expected_ms > latest:
        return False
    return all(amount <= table.rooms[room].limit_at(start_ms) for room, amount in offer.takes)


def _rows(room: Room, holders: Sequence[Holder], requests: Sequence[int]) -> Iterable[Row]:
    for moment in _moments(room, holders):
        present = [(c, a) for start, end, c, a in holders if start <= moment < end]
        limit = room.limit_at(moment)
        largest: dict[int, int] = {}
        for column, amount in present:
            step = requests[column]
            largest[step] = max(largest.get(step, 0), amount)
        if sum(largest.values()) <= limit:
            continue
        divisor = gcd(*(amount for _, amount in present))
        yield Row(
            name=f"{room.owner} {room.dimension} at {moment} ms",
            limit=limit // divisor,  # rounding down loses nothing: the left side is a multiple
            columns=tuple(column for column, _ in present),
            amounts=tuple(amount // divisor for _, amount in present),
        )


def _moments(room: Room, holders: Sequence[Holder]) -> list[int]:
    """Distinct starts whose holders are not all still there at the next start."""
    starts = sorted({start for start, *_ in holders})
    ends = sorted(end for _, end, *_ in holders)
    kept: list[int] = []
    k = 0
    for now, following in pairwise(starts):
        while k < len(ends) and ends[k] <= now:
            k += 1
        leaves = k < len(ends) and ends[k] <= following
        if leaves or room.limit_at(now) < room.limit_at(following):
            kept.append(now)
    return kept + starts[-1:]
