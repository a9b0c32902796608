"""The time-indexed linear relaxation: prices of capacity over time, from which a bound is proved.

Sets
    i in I            tasks
    s in S_i          starts of i in its window: at its ends, and where a stay begins or ends on an
                      edge of a bucket; between two of them everything below is linear in the start,
                      so that any real start is a mean of two
    t in T            buckets of time
    j in J            machine types, without those that a fraction of another one replaces

Parameters
    |i,s in t|        how long a stay of i from s overlaps t, in milliseconds
    p_j, U_j, N_j     price a millisecond; billed start-up; minimum billed

Variables
    x_is >= 0         share of start s
    u_jt >= 0         units of j that run in t, on average
    s_jt >= 0         units of j that are started with t
    b_j >= 0          billed time of all units of j

Objective
    min  sum_j p_j b_j

Constraints
    placed            sum_s x_is = 1                                           for each i
    covered           sum_j cap_jd |t| u_jt >= sum_is load_id |i,s in t| x_is  for each t, d
    started           s_jt >= u_jt - u_j,t-1                                   for each j, t
    billed            b_j >= sum_t |t| u_jt + U_j sum_t s_jt                   for each j
    minimum           b_j >= N_j sum_t s_jt                                    for each j
    precedence        sum_s s x_cs >= sum_s (s + d_p) x_ps                     for each p before c

It knows neither whole machines nor who stands where. Its duals are only prices: the bound is proved
from them in certificate.py, whatever a solver said.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from itertools import pairwise

from cu_market.dnm.programs.linear import LinearAnswer, LinearProgram, LinearRow, LinearSolver
from cu_market.dnm.schedule.bundle import Catalogue
from cu_market.dnm.schedule.certificate import Prices, certify
from cu_market.dnm.schedule.packing import Windows
from cu_market.dnm.schedule.workload import MachineType

MOST_BUCKETS = 48
FEWEST_BUCKETS = 6
MOST_STARTS = 5_000
"""Of more starts, time is cut more coarsely: a recorded workflow of 229 tasks had the same bound by
2,700 starts in 0.2 s and by 9,000 in 2.4 s, half of what a plan may take."""


def bound_microusd(
    catalogue: Catalogue,
    windows: Windows,
    solver: LinearSolver | None,
    *,
    limit_seconds: float,
    buckets: int = MOST_BUCKETS,
) -> int:
    """Returns a proven lower bound of every schedule's bill; a weak one without a solver."""
    edges = bucket_edges(catalogue, windows, buckets)
    while buckets > FEWEST_BUCKETS and _count_starts(catalogue, windows, edges) > MOST_STARTS:
        buckets = max(FEWEST_BUCKETS, buckets * 3 // 4)
        edges = bucket_edges(catalogue, windows, buckets)
    flat = certify(catalogue, windows, flat_prices(catalogue, edges))
    if solver is None or len(edges) < 2:
        return flat
    program, names = relax(catalogue, windows, edges)
    answer = solver.solve_linear(program, limit_seconds=limit_seconds)
    prices = read_prices(catalogue, edges, names, answer)
    return max(flat, certify(catalogue, windows, prices))


def bucket_edges(catalogue: Catalogue, windows: Windows, most: int) -> tuple[int, ...]:
    """Returns at most so many buckets' edges: where windows and sure stays begin and end.

    Of more such moments, those that share the tasks' work most evenly.
    """
    weights: dict[int, int] = {}
    for i, load in enumerate(catalogue.loads):
        takes = catalogue.fastest(i)
        earliest, latest = windows.earliest[i], windows.latest[i]
        weight = max(1, load[0] * takes)
        for moment in (earliest, latest, earliest + takes, latest - takes):
            weights[moment] = weights.get(moment, 0) + weight
    moments = sorted(weights)
    if len(moments) <= most + 1:
        return tuple(moments)
    total, seen, kept = sum(weights.values()), 0, [moments[0]]
    for moment in moments[1:-1]:
        seen += weights[moment]
        if seen * most >= total * len(kept):
            kept.append(moment)
    return (*kept[:most], moments[-1])


def flat_prices(catalogue: Catalogue, edges: tuple[int, ...]) -> Prices:
    """Returns prices that do not change over time: what cores alone can be had for at least."""
    rate = min((m.price_microusd_per_hour / m.cpu_millis for m in catalogue.machines), default=0.0)
    buckets = max(0, len(edges) - 1)
    return Prices(edges=edges, capacity=((rate, 0.0, 0.0),) * buckets, precedence={})


class Names:
    """Where the relaxation's rows are.

    Attributes:
        covered: row by (bucket, dimension).
        precedence: row by (parent, child).
        units: what each dimension was divided by.
    """

    def __init__(self) -> None:
        self.covered: dict[tuple[int, int], int] = {}
        self.precedence: dict[tuple[int, int], int] = {}
        self.units: tuple[int, int, int] = (1000, 2**30, 1)


def relax(
    catalogue: Catalogue, windows: Windows, edges: tuple[int, ...]
) -> tuple[LinearProgram, Names]:
    """Returns the program and where its rows are. Time is in buckets' lengths and seconds."""
    names = Names()
    machines = _irreplaceable(catalogue.machines)
    lengths = [b - a for a, b in pairwise(edges)]
    costs: list[float] = []
    uppers: list[float | None] = []
    rows: list[LinearRow] = []
    covered: dict[tuple[int, int], list[tuple[int, float]]] = {}
    times: list[list[tuple[int, float]]] = []
    for i, load in enumerate(catalogue.loads):
        takes = catalogue.fastest(i)
        first = len(costs)
        starts = _starts(windows.earliest[i], windows.latest[i] - takes, takes, edges)
        for start in starts:
            for t, share in _overlaps(start, takes, edges):
                for d in range(3):
                    if load[d]:
                        amount = -share * load[d] / names.units[d]
                        covered.setdefault((t, d), []).append((len(costs), amount))
            costs.append(0.0)
            uppers.append(1.0)
        columns = tuple(range(first, len(costs)))
        ones = (1.0,) * len(columns)
        rows.append(LinearRow(columns=columns, coefficients=ones, lower=1.0, upper=1.0))
        times.append([(c, s / 1000) for c, s in zip(columns, starts, strict=True)])
    for m in machines:
        _add_machine(m, lengths, costs, uppers, rows, covered, names)
    for key in sorted(covered):
        terms = covered[key]
        names.covered[key] = len(rows)
        rows.append(_row(terms, lower=0.0))
    for child, parents in enumerate(catalogue.workload.parents):
        for parent in parents:
            names.precedence[parent, child] = len(rows)
            terms = [*times[child], *((c, -s) for c, s in times[parent])]
            rows.append(_row(terms, lower=catalogue.fastest(parent) / 1000))
    program = LinearProgram(costs=tuple(costs), uppers=tuple(uppers), rows=tuple(rows))
    return program, names


def read_prices(
    catalogue: Catalogue, edges: tuple[int, ...], names: Names, answer: LinearAnswer
) -> Prices:
    """Returns the duals as prices: of a unit and millisecond, times MS_PER_HOUR."""

    def dual(row: int | None) -> float:
        return answer.duals[row] if row is not None and row < len(answer.duals) else 0.0

    capacity = []
    for t, (a, b) in enumerate(pairwise(edges)):
        prices = [dual(names.covered.get((t, d))) / names.units[d] / (b - a) for d in range(3)]
        capacity.append((prices[0], prices[1], prices[2]))
    precedence = {edge: dual(row) / 1000 for edge, row in names.precedence.items()}
    return Prices(edges=edges, capacity=tuple(capacity), precedence=precedence)


def _add_machine(
    m: MachineType,
    lengths: list[int],
    costs: list[float],
    uppers: list[float | None],
    rows: list[LinearRow],
    covered: Mapping[tuple[int, int], list[tuple[int, float]]],
    names: Names,
) -> None:
    size = (m.cpu_millis, m.memory_bytes, m.gpu_count)
    first = len(costs)
    billed, unit, started = first, first + 1, first + 1 + len(lengths)
    costs.append(1000.0 * m.price_microusd_per_hour)
    costs += [0.0] * (2 * len(lengths))
    uppers += [None] * (1 + 2 * len(lengths))
    for t in range(len(lengths)):
        for d in range(3):
            if size[d] and (t, d) in covered:
                covered[t, d].append((unit + t, size[d] / names.units[d]))
        before = [(unit + t - 1, 1.0)] if t else []
        rows.append(_row([(started + t, 1.0), (unit + t, -1.0), *before], lower=0.0))
    runs = [(unit + t, -length / 1000) for t, length in enumerate(lengths)]
    starts = range(started, started + len(lengths))
    rows.append(
        _row([(billed, 1.0), *runs, *((s, -m.startup_ms / 1000) for s in starts)], lower=0.0)
    )
    if m.minimum_ms > m.startup_ms:
        rows.append(_row([(billed, 1.0), *((s, -m.minimum_ms / 1000) for s in starts)], lower=0.0))


def _row(terms: list[tuple[int, float]], *, lower: float) -> LinearRow:
    return LinearRow(
        columns=tuple(c for c, _ in terms), coefficients=tuple(a for _, a in terms), lower=lower
    )


def _irreplaceable(machines: tuple[MachineType, ...]) -> list[MachineType]:
    """Leaves out types that a fraction of a larger one of the same terms replaces at no more."""
    kept: list[MachineType] = []
    for m in sorted(machines, key=lambda m: (-m.cpu_millis, -m.memory_bytes, m.name)):
        if not any(_replaces(k, m) for k in kept):
            kept = [k for k in kept if not _replaces(m, k)]
            kept.append(m)
    return kept


def _replaces(a: MachineType, b: MachineType) -> bool:
    """Whether some fraction of a has all that b has and costs no more."""
    share = a.price_microusd_per_hour
    return (
        a.startup_ms <= b.startup_ms
        and a.minimum_ms <= b.minimum_ms
        and a.cpu_millis * b.price_microusd_per_hour >= b.cpu_millis * share
        and a.memory_bytes * b.price_microusd_per_hour >= b.memory_bytes * share
        and a.gpu_count * b.price_microusd_per_hour >= b.gpu_count * share
    )


def _starts(earliest: int, last: int, takes: int, edges: tuple[int, ...]) -> list[int]:
    found = {earliest, max(earliest, last)}
    for edge in edges:
        for start in (edge, edge - takes):
            if earliest < start < last:
                found.add(start)
    return sorted(found)


def _count_starts(catalogue: Catalogue, windows: Windows, edges: tuple[int, ...]) -> int:
    takes = [catalogue.fastest(i) for i in range(len(catalogue.loads))]
    return sum(
        len(_starts(begin, end - takes[i], takes[i], edges))
        for i, (begin, end) in enumerate(zip(windows.earliest, windows.latest, strict=True))
    )


def _overlaps(start: int, takes: int, edges: tuple[int, ...]) -> list[tuple[int, float]]:
    """Returns (bucket, share of the bucket) of every bucket that a stay overlaps."""
    end = start + takes
    t = max(0, bisect_right(edges, start) - 1)
    found: list[tuple[int, float]] = []
    while t + 1 < len(edges) and edges[t] < end:
        a, b = edges[t], edges[t + 1]
        over = min(end, b) - max(start, a)
        if over > 0:
            found.append((t, over / (b - a)))
        t += 1
    return found
