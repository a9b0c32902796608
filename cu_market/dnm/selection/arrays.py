"""Every pair of a request and a bid as arrays of whole numbers, and the rooms over time.

The same definitions as in objective.py and feasibility.py, a whole matrix at a time: what is chosen
is checked from the records afterwards, where a difference would show.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cu_market.dnm.graph import analyse
from cu_market.dnm.objective import Surcharges, no_surcharge
from cu_market.dnm.offers import Room, RunningLease, bids_in_order, rooms_of
from cu_market.domain.bid import Bid
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GB, MILLIS, MS_PER_HOUR

Whole = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int32]
INFEASIBLE = np.int64(2**60)
UNSERVED = -1
"""In the place of a bid."""

ROWS_AT_ONCE = 256
"""Requests whose pairs are computed together: what is only needed on the way stays small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The input of a selection with given starts; n requests, m bids, T distinct starts.

    Attributes:
        requests, bids: in canonical order.
        costs: (n, m) micro-dollars; INFEASIBLE where the bid cannot serve the request.
        after_ms: (n,) reference time of what waits for each, until the run's end.
        penalties: (n,) micro-dollars for leaving a request unserved.
        first: (n,) index of the request's start among the distinct starts.
        behind: (n, m) index of the first distinct start at or after the pair's end.
        starts: (T,) distinct starts in milliseconds.
        rooms: those that could be exceeded.
        limits: (R, T) what each room has at each start, in its own unit.
        uses: by bid: (room, (n,) what each request would hold there).
    """

    requests: tuple[ResourceRequest, ...]
    bids: tuple[Bid, ...]
    costs: Whole
    after_ms: Whole
    penalties: Whole
    first: Whole
    behind: Places
    starts: Whole
    rooms: tuple[Room, ...]
    limits: Whole
    uses: tuple[tuple[tuple[int, Whole], ...], ...]

    def uses_in_arrays(self) -> tuple[Whole, Whole, Whole]:
        """Returns uses one after the other: (m + 1,) where each bid's begin, (K,) rooms, and (K, n)
        amounts."""
        every = [use for used in self.uses for use in used]
        begins = np.cumsum([0, *(len(used) for used in self.uses)])
        rooms = np.array([room for room, _ in every], dtype=np.int64)
        amounts = np.zeros((len(every), len(self.requests)), dtype=np.int64)
        for k, (_, each) in enumerate(every):
            amounts[k] = each
        return begins, rooms, amounts


def tabulate(
    requests: Sequence[ResourceRequest],
    bids: Sequence[Bid],
    capacities: Mapping[str, ResourceVector],
    *,
    running: Sequence[RunningLease] = (),
    surcharges: Surcharges = no_surcharge,
) -> Selection:
    """Returns the arrays, in the canonical order of offers.tabulate.

    Surcharges are asked pair by pair, unless they have a method ``table(requests, bids)`` that
    returns what calling them for every pair would: three (n, m) arrays, micro-dollars, expected
    loss in micro-dollars and extra milliseconds.

    Raises:
        InvalidInputError: as offers.tabulate.
    """
    asked = tuple(sorted(requests, key=lambda request: request.request_id))
    offered = bids_in_order(bids, capacities)
    graph = analyse(asked)
    slack = np.asarray(graph.slack_ms, dtype=np.int64)
    after = _whole(tail - r.duration_ms for tail, r in zip(graph.tail_ms, asked, strict=True))
    least = _whole(b.minimum_ms for b in offered)[None, :]
    shape = (len(asked), len(offered))
    costs = np.empty(shape, dtype=np.int64)
    feasible = np.empty(shape, dtype=bool)
    behind = np.empty(shape, dtype=np.int32)
    begin = _whole(r.earliest_start_ms for r in asked)
    starts, first = np.unique(begin, return_inverse=True)
    for begin_row in range(0, len(asked), ROWS_AT_ONCE):
        rows = slice(begin_row, begin_row + ROWS_AT_ONCE)
        some = asked[rows]
        extra_money, losses, extra_ms = _surcharges(some, offered, surcharges)
        takes = np.maximum(1, _takes_ms(some, offered) + extra_ms)
        prices = _prices(some, offered)
        quantity = _whole(r.quantity for r in some)[:, None]
        lease = _per_hour(prices, np.maximum(takes, least))
        spent = lease * quantity + extra_money
        late = takes - _whole(r.duration_ms for r in some)[:, None] - slack[rows, None]
        value = _whole(r.value_of_time_microusd_per_hour for r in some)[:, None]
        costs[rows] = spent + losses + _per_hour(value, np.maximum(late, 0))
        feasible[rows] = _feasible(some, offered, takes, prices, after[rows])
        behind[rows] = np.searchsorted(starts, begin[rows, None] + takes, side="left")
    dearest = int(costs[feasible].max()) if feasible.any() else 0
    costs[~feasible] = INFEASIBLE
    rooms, uses = _rooms(asked, offered, capacities, running, feasible)
    limits = np.zeros((len(rooms), len(starts)), dtype=np.int64)
    for k, room in enumerate(rooms):
        limits[k] = [room.limit_at(int(at)) for at in starts] if room.running else room.limit
    return Selection(
        requests=asked,
        bids=offered,
        costs=costs,
        after_ms=after,
        penalties=np.where(feasible.any(axis=1), 10 * dearest + 1, 0).astype(np.int64),
        first=first.astype(np.int64),
        behind=behind,
        starts=starts,
        rooms=rooms,
        limits=limits,
        uses=uses,
    )


def _takes_ms(requests: Sequence[ResourceRequest], bids: Sequence[Bid]) -> Whole:
    """Returns (n, m) expected milliseconds, start-up included."""
    duration = _whole(r.duration_ms for r in requests)[:, None]
    speed = _whole(b.performance_millis for b in bids)[None, :]
    lasts = -(-duration * MILLIS // speed)
    for i, request in enumerate(requests):
        if request.scaling is not None:
            lasts[i] = [bid.duration_of(request) for bid in bids]
    found: Whole = lasts + _whole(b.profile.startup_ms for b in bids)[None, :]
    return found


def _whole(values: Iterable[int]) -> Whole:
    found: Whole = np.fromiter(values, dtype=np.int64)
    return found


def _per_hour(rates: Whole, times_ms: Whole) -> Whole:
    """Returns what so much an hour comes to, rounded half-even. Whole hours apart: a thousand hours
    at some thousand dollars would overflow."""
    hours, rest_ms = np.divmod(times_ms, MS_PER_HOUR)
    return _half_even(rates * rest_ms, MS_PER_HOUR, beside=rates * hours)


def _half_even(numerator: Whole, denominator: int, *, beside: Whole | int = 0) -> Whole:
    """Returns the quotient rounded half-even, as divide_half_even does.

    Args:
        beside: whole numbers to be added first: they decide with it what is even.
    """
    quotient, rest = np.divmod(numerator, denominator)
    quotient = quotient + beside
    up = (2 * rest > denominator) | ((2 * rest == denominator) & (quotient % 2 == 1))
    rounded: Whole = quotient + up
    return rounded


def _surcharges(
    requests: Sequence[ResourceRequest], bids: Sequence[Bid], surcharges: Surcharges
) -> tuple[Whole, Whole, Whole]:
    table = getattr(surcharges, "table", None)
    if callable(table):
        found: tuple[Whole, Whole, Whole] = table(requests, bids)
        return found
    shape = (len(requests), len(bids))
    money, losses, extra = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    for i, request in enumerate(requests):
        for b, bid in enumerate(bids):
            said = surcharges(request, bid)
            money[i, b], losses[i, b] = said.microusd, said.loss_microusd
            extra[i, b] = said.extra_ms
    return money, losses, extra


def _prices(requests: Sequence[ResourceRequest], bids: Sequence[Bid]) -> Whole:
    cpu = _whole(r.needs.cpu_millis for r in requests)
    memory = _whole(r.needs.memory_bytes for r in requests)
    gpus = _whole(r.needs.gpu_count for r in requests)
    columns = []
    for bid in bids:
        rates = bid.rates
        if rates is None:
            columns.append(np.full(len(requests), bid.price_microusd_per_hour, dtype=np.int64))
            continue
        exact = (
            cpu * (rates.core_microusd_per_hour * (GB // MILLIS))
            + memory * rates.gb_microusd_per_hour
            + gpus * (rates.gpu_microusd_per_hour * GB)
        )
        columns.append(_half_even(exact, GB))
    return np.stack(columns, axis=1) if columns else np.zeros((len(requests), 0), dtype=np.int64)


def _feasible(
    requests: Sequence[ResourceRequest],
    bids: Sequence[Bid],
    takes: Whole,
    prices: Whole,
    after: Whole,
) -> Flags:
    """Returns which pairs feasibility.refusals finds no reason against."""
    far = 2**62
    cpu = _whole(r.needs.cpu_millis for r in requests)
    memory = _whole(r.needs.memory_bytes for r in requests)
    gpus = _whole(r.needs.gpu_count for r in requests)
    quantity = _whole(r.quantity for r in requests)
    most = _whole(
        far if r.max_price_microusd_per_hour is None else r.max_price_microusd_per_hour
        for r in requests
    )
    latest = _whole(far if r.latest_finish_ms is None else r.latest_finish_ms for r in requests)
    begin = _whole(r.earliest_start_ms for r in requests)
    wary = np.array([not r.interruptible for r in requests], dtype=bool)
    careless = np.array([not r.retry_must_fit for r in requests], dtype=bool)
    found = (prices <= most[:, None]) & (begin[:, None] + takes <= latest[:, None])
    for b, bid in enumerate(bids):
        profile = bid.profile
        column = (
            (cpu <= profile.cpu_millis)
            & (memory <= profile.memory_bytes)
            & (gpus <= profile.gpu_count)
        )
        if bid.rates is None:
            column &= quantity <= bid.quantity
        if profile.interruption_millis_per_hour:
            column &= ~wary
            in_time = begin + 2 * takes[:, b] + after <= latest  # a retry fits: latest_end_ms
            column &= in_time | careless
        found[:, b] &= column
    for i, request in enumerate(requests):
        if request.gpu_type or request.providers or request.locations or request.kept:
            found[i] &= [_is_allowed(request, bid) for bid in bids]
    for b, bid in enumerate(bids):
        if bid.valid_until is not None:
            found[:, b] &= [bid.valid_until > request.timestamp for request in requests]
    return np.asarray(found)


def _is_allowed(request: ResourceRequest, bid: Bid) -> bool:
    wanted, profile = request.gpu_type, bid.profile
    return (
        (wanted is None or wanted.lower() == (profile.gpu_type or "").lower())
        and (not request.providers or bid.provider in request.providers)
        and (not request.locations or profile.location in request.locations)
        and (request.kept is None or profile.location == request.kept.location)
    )


def _rooms(
    requests: Sequence[ResourceRequest],
    bids: Sequence[Bid],
    capacities: Mapping[str, ResourceVector],
    running: Sequence[RunningLease],
    feasible: Flags,
) -> tuple[tuple[Room, ...], tuple[tuple[tuple[int, Whole], ...], ...]]:
    """Leaves out rooms that hold every request's largest amount at once."""
    rooms, index = rooms_of(bids, capacities, running)
    quantity = _whole(r.quantity for r in requests)
    held: list[list[tuple[int, Whole]]] = []
    largest = np.zeros((len(rooms), len(requests)), dtype=np.int64)
    needs = {
        name: _whole(getattr(r.needs, name) for r in requests) * quantity
        for name in ("cpu_millis", "memory_bytes", "gpu_count")
    }
    for b, bid in enumerate(bids):
        column: list[tuple[int, Whole]] = []
        for name, amounts in needs.items():
            room = index.get((bid.profile.capacity_id, name))
            if room is not None:
                fixed = getattr(bid.profile.size, name)
                column.append((room, amounts if bid.rates is not None else fixed * quantity))
        if bid.rates is None:
            column.append((index[f"bid {bid.bid_id}", "units"], quantity))
        held.append(column)
        for room, amounts in column:
            largest[room] = np.maximum(largest[room], np.where(feasible[:, b], amounts, 0))
    tight = [
        k
        for k, room in enumerate(rooms)
        if int(largest[k].sum()) > room.limit - sum(amount for _, amount in room.running)
    ]
    place = {room: k for k, room in enumerate(tight)}
    return tuple(rooms[k] for k in tight), tuple(
        tuple((place[room], amounts) for room, amounts in column if room in place)
        for column in held
    )
