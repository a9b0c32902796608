"""A lower bound for free starts that knows that requests must wait for one another's room.

Sets
    i in I            requests;  b the offers of i;  r in R rooms;  t in T buckets of time
    p before i        parents

Parameters
    m_ib, e_ib        money and expected loss; time there;  a_ib,r  what the offer takes of r
    v_i, k_i          value of time; reference time plus slack: delay counts beyond it
    ES_i, E_i         earliest start and end with nobody in the way
    Q_rt              room

A schedule's cost is sum_i m_ib + v_i max(0, w_i + e_ib - k_i), where i waits w_i = s_i - ready_i
and ready_i, the latest of its parents' ends f_p, is at most ES_i + sum_p (f_p - E_p). For prices
pi_rt >= 0 of room and 0 <= theta_i <= v_i of waiting with theta_i >= sum_{c after i} theta_c, every
schedule costs at least

    sum_i min_b ( m_ib + min_w (v_i max(0, w + e_ib - k_i) - theta_i w)
                  + min_s ( theta_i (s - ES_i) - sum_c theta_c (s + e_ib - E_i)
                            + sum_rt pi_rt a_ib,r |[s, s + e_ib) in t| ) )
    - sum_rt pi_rt Q_rt |t|

(weak duality). A request without parents waits exactly w = s - ES, so that its start alone decides:
theta does not occur, and v takes its place in the condition. The inner functions are piecewise
linear, so finitely many w and s decide, and all is computed in whole numbers from prices that are
multiples of 2^-SHIFT. Good prices come from the duals of the linear program in which shares x_ibs
of starts replace the choice; bad ones only make the bound weak.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

from cu_market.dnm.offers import Offer, OfferTable
from cu_market.dnm.placement.construction import Schedule
from cu_market.dnm.programs.linear import LinearAnswer, LinearProgram, LinearRow, LinearSolver
from cu_market.dnm.schedule.certificate import Density
from cu_market.domain.units import MS_PER_HOUR

SHIFT = 64
MOST_BUCKETS = 40
MOST_COLUMNS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingPrices:
    """Any prices, in micro-dollars times MS_PER_HOUR.

    Attributes:
        edges: of the buckets, in milliseconds.
        rooms: by (room, bucket): of a unit for a millisecond.
        waiting: by request: of a millisecond.
    """

    edges: tuple[int, ...]
    rooms: Mapping[tuple[int, int], float]
    waiting: Mapping[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Earliest:
    """Earliest starts and ends with nobody in the way, and children, by request."""

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    children: tuple[tuple[int, ...], ...]


def waiting_bound(
    table: OfferTable, schedule: Schedule, solver: LinearSolver, *, limit_seconds: float
) -> int:
    """Returns a lower bound of every schedule that serves all; 0 where it is not worth computing.

    Args:
        table: the input.
        schedule: a known one, which says how far time must be looked at.
        solver: its duals become prices.
        limit_seconds: of the solver.
    """
    if not all(table.offers) or not table.requests:
        return 0
    edges = _edges(table, schedule)
    earliest = _earliest(table)
    program = _program(table, edges, earliest)
    if program is None:
        return 0
    linear, rooms, waits = program
    answer = solver.solve_linear(linear, limit_seconds=limit_seconds)
    prices = _prices(table, edges, rooms, waits, answer)
    return certify_waiting(table, prices)


def certify_waiting(table: OfferTable, prices: WaitingPrices) -> int:
    """Returns the bound at these prices in whole micro-dollars, at least 0.

    Of schedules that serve all: with free starts a request can always wait, and one that leaves a
    request out is never preferred, whatever waiting costs.
    """
    earliest = _earliest(table)
    count = len(table.requests)
    rooms = {key: _whole(value) for key, value in prices.rooms.items()}
    theta = [_whole(prices.waiting.get(i, 0.0)) for i in range(count)]
    for i in range(count):
        value = table.requests[i].value_of_time_microusd_per_hour << SHIFT
        theta[i] = min(theta[i], value) if table.graph.parents[i] else value
    for i in table.graph.order:  # parents first: children share what their parent's price allows
        total = sum(theta[c] for c in earliest.children[i])
        if total > theta[i]:
            for c in earliest.children[i]:
                theta[c] = theta[c] * theta[i] // total
    total = -sum(
        value * _held(table, room, prices.edges[t], prices.edges[t + 1])
        for (room, t), value in rooms.items()
    )
    for i in range(count):
        later = sum(theta[c] for c in earliest.children[i])
        total += min(
            (offer.fixed_microusd * MS_PER_HOUR << SHIFT)
            + _inner(table, offer, prices.edges, rooms, theta[i], later, earliest)
            for offer in table.offers[i]
        )
    exact = (total >> SHIFT) // MS_PER_HOUR - count  # each delay's own rounding is allowed for
    return max(0, exact)


def _whole(value: float) -> int:
    return round(value * 2**SHIFT) if isfinite(value) and 0 < value < 2.0**80 else 0


def _held(table: OfferTable, room: int, begin: int, end: int) -> int:
    """Returns the room's amount times milliseconds in the bucket."""
    what = table.rooms[room]
    taken = sum(
        amount * max(0, min(until, end) - begin) for until, amount in what.running if until > begin
    )
    return what.limit * (end - begin) - taken


def _inner(
    table: OfferTable,
    offer: Offer,
    edges: Sequence[int],
    rooms: Mapping[tuple[int, int], int],
    theta: int,
    later: int,
    earliest: _Earliest,
) -> int:
    """Returns the inner minima over waiting and starts, times MS_PER_HOUR << SHIFT."""
    i, takes = offer.request, offer.expected_ms
    request, first = table.requests[i], earliest.starts[i]
    value = request.value_of_time_microusd_per_hour << SHIFT
    free = _free(table, offer)
    is_root = not table.graph.parents[i]
    density = [
        sum(amount * rooms.get((room, t), 0) for room, amount in offer.takes)
        for t in range(len(edges) - 1)
    ]
    paid = Density(edges, density)
    starts = {first, first + max(0, free)}
    starts.update(edge for edge in edges if edge > first)
    starts.update(edge - takes for edge in edges if edge - takes > first)
    best: int | None = None
    for start in starts:
        end = start + takes
        waited = start - first
        found = value * max(0, waited - free) if is_root else theta * waited
        found += paid.until(end) - paid.until(start) - later * (end - earliest.ends[i])
        if best is None or found < best:
            best = found
    waiting = 0 if is_root else (-theta * free if free > 0 else value * -free)
    return (best or 0) + waiting


def _free(table: OfferTable, offer: Offer) -> int:
    """Returns how long the request could wait for the offer at no cost; below 0 if it is slow."""
    reference = table.requests[offer.request].duration_ms
    return reference + table.graph.slack_ms[offer.request] - offer.expected_ms


def _earliest(table: OfferTable) -> _Earliest:
    starts = [request.earliest_start_ms for request in table.requests]
    ends = [0] * len(starts)
    children: list[list[int]] = [[] for _ in starts]
    for i in table.graph.order:
        for p in table.graph.parents[i]:
            starts[i] = max(starts[i], ends[p])
            children[p].append(i)
        takes = min((o.expected_ms for o in table.offers[i]), default=0)
        ends[i] = starts[i] + takes
    return _Earliest(starts=tuple(starts), ends=tuple(ends), children=tuple(map(tuple, children)))


def _edges(table: OfferTable, schedule: Schedule) -> tuple[int, ...]:
    """Returns at most MOST_BUCKETS buckets' edges: the known schedule's starts and ends."""
    moments = {0}
    for placement in schedule.placements:
        if placement is not None:
            moments |= {placement.start_ms, placement.end_ms}
    ordered = sorted(moments)
    step = max(1, -(-len(ordered) // MOST_BUCKETS))
    last = max(ordered[-1], 1)
    return tuple(sorted({*ordered[::step], last}))


Program = tuple[LinearProgram, dict[tuple[int, int], int], dict[int, int]]


def _program(table: OfferTable, edges: tuple[int, ...], earliest: _Earliest) -> Program | None:
    """Returns the linear program and its rows by (room, bucket) and by waiting request.

    Variables: x_ibs, then per request its waiting w_i and its delay's cost h_i; times in seconds,
    costs in micro-dollars times MS_PER_HOUR.
    """
    costs: list[float] = []
    rows: list[LinearRow] = []
    room_terms: dict[tuple[int, int], list[tuple[int, float]]] = {}
    begins: list[list[tuple[int, float]]] = []
    ends: list[list[tuple[int, float]]] = []
    for i, offers in enumerate(table.offers):
        begins.append([])
        ends.append([])
        for offer in offers:
            for start in _candidates(earliest.starts[i], offer.expected_ms, edges):
                column = len(costs)
                waited = start - earliest.starts[i]
                is_root = not table.graph.parents[i]
                delay = max(0, waited - _free(table, offer)) if is_root else 0
                value = table.requests[i].value_of_time_microusd_per_hour
                costs.append(float(offer.fixed_microusd * MS_PER_HOUR + value * delay))
                begins[i].append((column, start / 1000))
                ends[i].append((column, (start + offer.expected_ms) / 1000))
                _add_rooms(table, offer, start, edges, column, room_terms)
        members = tuple(column for column, _ in begins[i])
        rows.append(_row([(column, 1.0) for column in members], lower=1.0, upper=1.0))
        if len(costs) > MOST_COLUMNS:
            return None
    waits: dict[int, int] = {}
    for i, request in enumerate(table.requests):
        if not table.graph.parents[i]:
            continue
        w, h = len(costs), len(costs) + 1
        costs += [0.0, 1000.0 * request.value_of_time_microusd_per_hour]
        free = (request.duration_ms + table.graph.slack_ms[i]) / 1000
        took = [(c, -(e - b)) for (c, b), (_, e) in zip(begins[i], ends[i], strict=True)]
        rows.append(_row([(h, 1.0), (w, -1.0), *took], lower=-free))
        waits[i] = len(rows)
        offset = -earliest.starts[i] / 1000
        terms = [(w, 1.0), *((c, -b) for c, b in begins[i])]
        for p in table.graph.parents[i]:
            terms += ends[p]
            offset += earliest.ends[p] / 1000
        rows.append(_row(terms, lower=offset))
    numbers: dict[tuple[int, int], int] = {}
    for key in sorted(room_terms):
        room, t = key
        numbers[key] = len(rows)
        length = edges[t + 1] - edges[t]
        there = _held(table, room, edges[t], edges[t + 1]) / length / _unit(table, room)
        rows.append(_row(room_terms[key], upper=there))
    uppers: tuple[float | None, ...] = (None,) * len(costs)
    return LinearProgram(costs=tuple(costs), uppers=uppers, rows=tuple(rows)), numbers, waits


def _row(
    terms: list[tuple[int, float]], *, lower: float | None = None, upper: float | None = None
) -> LinearRow:
    return LinearRow(
        columns=tuple(c for c, _ in terms),
        coefficients=tuple(a for _, a in terms),
        lower=lower,
        upper=upper,
    )


def _candidates(first: int, takes: int, edges: tuple[int, ...]) -> list[int]:
    found = {first, *(e for e in edges if e > first)}
    return sorted(found | {e - takes for e in edges if e - takes > first})


def _unit(table: OfferTable, room: int) -> int:
    return max(1, table.rooms[room].limit)


def _add_rooms(
    table: OfferTable,
    offer: Offer,
    start: int,
    edges: tuple[int, ...],
    column: int,
    terms: dict[tuple[int, int], list[tuple[int, float]]],
) -> None:
    end = start + offer.expected_ms
    for t, (a, b) in enumerate(pairwise(edges)):
        over = min(end, b) - max(start, a)
        if over > 0:
            for room, amount in offer.takes:
                share = over / (b - a) * amount / _unit(table, room)
                terms.setdefault((room, t), []).append((column, share))


def _prices(
    table: OfferTable,
    edges: tuple[int, ...],
    rooms: Mapping[tuple[int, int], int],
    waits: Mapping[int, int],
    answer: LinearAnswer,
) -> WaitingPrices:
    def dual(row: int) -> float:
        return answer.duals[row] if row < len(answer.duals) else 0.0

    return WaitingPrices(
        edges=edges,
        rooms={
            (room, t): -dual(row) / (edges[t + 1] - edges[t]) / _unit(table, room)
            for (room, t), row in rooms.items()
        },
        waiting={i: dual(row) / 1000 for i, row in waits.items()},
    )
