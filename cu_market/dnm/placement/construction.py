"""A fast, deterministic first plan: one request after the other, at least cost where room is.

With free starts, requests are placed parents first, by priority and then by a rule (see Rule); each
takes the bid and the earliest start at least cost (money and delay), then at the earliest end, then
the first in canonical order: among those that leave what waits for it the time that it needs
(``due``), where there are any. With fixed starts, every request starts at its own earliest start or
not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from heapq import heapify, heappop, heappush
from math import inf

from cu_market.dnm.due import due_ms
from cu_market.dnm.offers import Offer, OfferTable
from cu_market.dnm.placement.timeline import Timeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A request's bid and time.

    Attributes:
        offer: the pair.
        start_ms: when its lease begins.
        ready_ms: when it could have begun: its own earliest start, and its parents' ends.
        cost_microusd: money and delay.
    """

    offer: Offer
    start_ms: int
    ready_ms: int
    cost_microusd: int

    @property
    def end_ms(self) -> int:
        """When its lease ends."""
        return self.start_ms + self.offer.expected_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Where every request stands, in the table's order; None is unserved.

    Attributes:
        placements: one per request, or None.
        ready_ms: when each could begin, also where it is unserved.
        objective_microusd: costs and penalties.
    """

    placements: tuple[Placement | None, ...]
    ready_ms: tuple[int, ...]
    objective_microusd: int

    @property
    def unserved_count(self) -> int:
        """How many requests stand nowhere."""
        return sum(placement is None for placement in self.placements)


class Rule(StrEnum):
    """Which of the requests that could be placed comes first, after priority."""

    LONGEST_TAIL = "longest path to the end first"
    SHORTEST = "least time over value of time first"
    LEAST_SLACK = "least slack first, then shortest"
    LATEST_START = "what must start first to end in time first"


def construct_best(
    table: OfferTable,
    *,
    fixed_starts: bool,
    chosen: Mapping[int, int] | None = None,
    seated: Mapping[int, Placement] | None = None,
) -> Schedule:
    """Returns the best of the schedules that the rules give; fixed starts know one rule only.

    Long paths first end the run early; where many wait for the same room, short ones first wait
    less in all (Smith, "Various optimizers for single-stage production", 1956). Where runs have
    different deadlines, the one that must start first goes first.
    """
    rules = (Rule.LONGEST_TAIL,) if fixed_starts else _rules(table)
    found = [
        construct(table, fixed_starts=fixed_starts, chosen=chosen, seated=seated, rule=rule)
        for rule in rules
    ]
    return min(found, key=lambda s: (s.unserved_count, s.objective_microusd))


def _rules(table: OfferTable) -> tuple[Rule, ...]:
    """Returns the rules that differ: with one deadline for all, long paths must start first."""
    deadlines = {request.latest_finish_ms for request in table.requests}
    return tuple(r for r in Rule if r is not Rule.LATEST_START or len(deadlines) > 1)


def construct(
    table: OfferTable,
    *,
    fixed_starts: bool,
    chosen: Mapping[int, int] | None = None,
    seated: Mapping[int, Placement] | None = None,
    rule: Rule = Rule.LONGEST_TAIL,
) -> Schedule:
    """Returns a schedule that fits.

    Args:
        table: the input.
        fixed_starts: start at the request's own earliest start or not at all.
        chosen: bid index by request index, tried before any other bid. A choice that does not fit
            is given up, so that whatever a solver says becomes a schedule that fits.
        seated: placements that stand, together with those of all parents: they are kept, and hold
            their room before anything else is placed.
        rule: the order, with free starts.
    """
    timelines = occupied(table)
    kept = seated or {}
    for placement in kept.values():
        occupy(timelines, placement)
    placed: dict[int, Placement | None] = dict(kept)
    ready = {i: placement.ready_ms for i, placement in kept.items()}
    wanted = chosen or {}
    due = (None,) * len(table.requests) if fixed_starts else due_ms(table)
    for i in _order(table, rule, fixed_starts=fixed_starts, first=wanted):
        if i in kept:
            continue
        ready[i] = table.requests[i].earliest_start_ms
        if not fixed_starts:
            ready[i] = max([ready[i], *(_end(table, p, placed, ready) for p in _parents(table, i))])
        preferred = [offer for offer in table.offers[i] if wanted.get(i) == offer.bid]
        tries = [(preferred, due[i]), (table.offers[i], due[i]), (table.offers[i], None)]
        best = None
        for offers, by in tries if due[i] is not None else tries[:2]:
            best = best or _best(table, offers, ready[i], timelines, fixed=fixed_starts, due_ms=by)
        placed[i] = best
        if best is not None:
            occupy(timelines, best)
    return schedule_of(table, placed, ready)


def schedule_of(
    table: OfferTable, placed: Mapping[int, Placement | None], ready: Mapping[int, int]
) -> Schedule:
    """Returns the schedule with its objective summed."""
    every = range(len(table.requests))
    placements = tuple(placed[i] for i in every)
    return Schedule(
        placements=placements,
        ready_ms=tuple(ready[i] for i in every),
        objective_microusd=sum(
            table.penalty(i) if placement is None else placement.cost_microusd
            for i, placement in enumerate(placements)
        ),
    )


def occupied(table: OfferTable) -> list[Timeline]:
    """Returns one timeline per room, holding what runs now."""
    timelines = []
    for room in table.rooms:
        timeline = Timeline(room.limit)
        for until_ms, amount in room.running:
            timeline.take(0, until_ms, amount)
        timelines.append(timeline)
    return timelines


def occupy(timelines: list[Timeline], placement: Placement, *, sign: int = 1) -> None:
    """Takes the placement's room, or gives it back with sign -1."""
    for room, amount in placement.offer.takes:
        timelines[room].take(placement.start_ms, placement.end_ms, sign * amount)


def earliest_start(offer: Offer, ready_ms: int, timelines: list[Timeline]) -> int | None:
    """Returns the first moment from ready_ms on with room for the whole lease, or None."""
    start_ms = ready_ms
    while True:
        before = start_ms
        for room, amount in offer.takes:
            clear = timelines[room].conflict_end(start_ms, start_ms + offer.expected_ms, amount)
            if clear is None:
                return None
            start_ms = clear
        if start_ms == before:
            return start_ms


def has_room(offer: Offer, start_ms: int, timelines: list[Timeline]) -> bool:
    """Whether the lease has room from start_ms to its end."""
    return all(
        timelines[room].conflict_end(start_ms, start_ms + offer.expected_ms, amount) == start_ms
        for room, amount in offer.takes
    )


def _best(
    table: OfferTable,
    offers: Iterable[Offer],
    ready_ms: int,
    timelines: list[Timeline],
    *,
    fixed: bool,
    due_ms: int | None,
) -> Placement | None:
    best: Placement | None = None
    for offer in sorted(offers, key=lambda o: (o.floor_microusd, o.expected_ms, o.bid)):
        if best is not None and offer.floor_microusd > best.cost_microusd:
            break  # waiting only adds to the floor
        start = ready_ms if fixed else earliest_start(offer, ready_ms, timelines)
        if start is None or (fixed and not has_room(offer, start, timelines)):
            continue
        end = start + offer.expected_ms
        if any(by is not None and end > by for by in (offer.latest_end_ms, due_ms)):
            continue
        cost = table.cost(offer, start - ready_ms)
        found = Placement(offer=offer, start_ms=start, ready_ms=ready_ms, cost_microusd=cost)
        if best is None or _rank(found) < _rank(best):
            best = found
    return best


def _rank(placement: Placement) -> tuple[int, int, int]:
    return (placement.cost_microusd, placement.end_ms, placement.offer.bid)


def _parents(table: OfferTable, request: int) -> tuple[int, ...]:
    return table.graph.parents[request]


def _end(
    table: OfferTable,
    request: int,
    placed: Mapping[int, Placement | None],
    ready: Mapping[int, int],
) -> int:
    """When a parent ends; one that nobody serves is taken to need its reference duration."""
    placement = placed[request]
    if placement is None:
        return ready[request] + table.requests[request].duration_ms
    return placement.end_ms


def _order(
    table: OfferTable, rule: Rule, *, fixed_starts: bool, first: Mapping[int, int]
) -> list[int]:
    """Parents first with free starts; with fixed ones those already chosen first."""
    every = range(len(table.requests))

    def rank(i: int) -> tuple[float, ...]:
        request, tail = table.requests[i], table.graph.tail_ms[i]
        if rule is Rule.SHORTEST:
            value = max(1, request.value_of_time_microusd_per_hour)
            return (-request.priority, request.duration_ms / value, -tail, i)
        if rule is Rule.LEAST_SLACK:
            return (-request.priority, table.graph.slack_ms[i], request.duration_ms, i)
        if rule is Rule.LATEST_START:
            latest = request.latest_finish_ms
            return (-request.priority, inf if latest is None else latest - tail, -tail, i)
        return (-request.priority, -tail, i)

    if fixed_starts:
        return sorted(every, key=lambda i: (i not in first, rank(i)))
    missing = [len(parents) for parents in table.graph.parents]
    children: list[list[int]] = [[] for _ in every]
    for i in every:
        for parent in _parents(table, i):
            children[parent].append(i)
    open_requests = [(rank(i), i) for i in every if missing[i] == 0]
    heapify(open_requests)
    order: list[int] = []
    while open_requests:
        _, i = heappop(open_requests)
        order.append(i)
        for child in children[i]:
            missing[child] -= 1
            if missing[child] == 0:
                heappush(open_requests, (rank(child), child))
    return order
