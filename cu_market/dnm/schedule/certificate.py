"""A lower bound of every schedule's bill from prices for capacity over time, in whole numbers.

Sets
    t in T        buckets of time
    j in J        machine types
    i in I        tasks

Parameters
    pi_td >= 0    price of a unit of dimension d (cores, memory, GPUs) for a millisecond in t
    lam_pc >= 0   price of a millisecond by which child c would start before parent p has ended

Let every CU sell what it has at these prices. If no CU of any type could earn more than its bill,
whatever its interval,

    sum_t q_jt |[a, b) in t|  <=  bill_j(b - a)      for all j and a < b,
    q_jt = sum_d cap_jd pi_td

then the bill of a schedule is at least what its CUs earn, which is at least what its tasks pay, and
each pays at least its cheapest start:

    bound = sum_i min_s ( sum_t w_it |[s, s + d_i) in t| + s (sum_c lam_ic - sum_p lam_pi) )
            + sum_pc lam_pc d_p,      w_it = sum_d load_id pi_td

(weak duality of the linear relaxation over all CU intervals). Both conditions need checking at
finitely many points, because both sides are piecewise linear. Prices that let some CU earn too much
are lowered for all until it does not. So any prices give a valid bound; those of a linear program
give a good one. Prices are whole multiples of 2^-SHIFT.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from cu_market.dnm.schedule.bundle import Catalogue
from cu_market.dnm.schedule.packing import Windows
from cu_market.dnm.schedule.workload import MachineType
from cu_market.domain.units import MS_PER_HOUR

SHIFT = 40
DIMENSIONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Any prices; negative ones count as 0.

    Attributes:
        edges: the buckets' edges in milliseconds, rising.
        capacity: by bucket and dimension: micro-dollars x MS_PER_HOUR a unit and millisecond.
        precedence: by (parent, child): micro-dollars x MS_PER_HOUR a millisecond.
    """

    edges: tuple[int, ...]
    capacity: tuple[tuple[float, float, float], ...]
    precedence: Mapping[tuple[int, int], float]


class Density:
    """The integral of a step function, in whole numbers."""

    def __init__(self, edges: Sequence[int], values: Sequence[int]) -> None:
        self._edges, self._values = edges, values
        self._sums = [0]
        for (a, b), value in zip(pairwise(edges), values, strict=True):
            self._sums.append(self._sums[-1] + (b - a) * value)

    def until(self, at: int) -> int:
        """Returns the integral from the first edge to that moment; nothing is paid outside."""
        if at <= self._edges[0]:
            return 0
        if at >= self._edges[-1]:
            return self._sums[-1]
        k = bisect_right(self._edges, at) - 1
        return self._sums[k] + (at - self._edges[k]) * self._values[k]


def certify(catalogue: Catalogue, windows: Windows, prices: Prices) -> int:
    """Returns a bound in whole micro-dollars that no schedule's bill is below; at least 0.

    Each CU's own rounding to a micro-dollar is allowed for.
    """
    capacity = [[_whole(value) for value in bucket] for bucket in prices.capacity]
    precedence = {edge: _whole(value) for edge, value in prices.precedence.items()}
    numerator, denominator = _lowering(catalogue.machines, prices.edges, capacity)
    total = 0
    pull = [0] * len(catalogue.loads)
    for (parent, child), value in precedence.items():
        if value and parent in catalogue.workload.parents[child]:
            pull[parent] += value
            pull[child] -= value
            total += value * catalogue.fastest(parent)
    for i in range(len(catalogue.loads)):
        total += _cheapest_start(catalogue, windows, prices.edges, capacity, pull[i], i)
    exact = total * numerator // (denominator << SHIFT)  # micro-dollars x MS_PER_HOUR, rounded down
    return max(0, exact // MS_PER_HOUR - len(catalogue.loads))


def _whole(value: float) -> int:
    return round(value * 2**SHIFT) if 0 < value < 2.0**80 else 0


def _lowering(
    machines: Sequence[MachineType], edges: Sequence[int], capacity: Sequence[Sequence[int]]
) -> tuple[int, int]:
    """Returns the largest fraction at most 1 of the prices at which no CU earns too much."""
    numerator, denominator = 1, 1
    for m in machines:
        size = (m.cpu_millis, m.memory_bytes, m.gpu_count)
        density = [sum(a * p for a, p in zip(size, bucket, strict=True)) for bucket in capacity]
        for earned, bill in _intervals(m, edges, density):
            if earned * numerator > bill * denominator:
                numerator, denominator = bill, earned
    return numerator, denominator


def _intervals(
    m: MachineType, edges: Sequence[int], density: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """Yields (earned, bill) of intervals among which the largest earned / bill is.

    The bill does not depend on spans shorter than flat, so earning longest is best among those, and
    an interval of that length is best with one end on an edge. Of the longer ones the best has both
    ends on edges.
    """
    price = m.price_microusd_per_hour << SHIFT
    total = Density(edges, density)
    flat = max(m.minimum_ms - m.startup_ms, 1)
    short_bill = price * max(m.minimum_ms, m.startup_ms + flat)
    for edge in edges:
        for begin in (edge, edge - flat):
            yield total.until(begin + flat) - total.until(begin), short_bill
    sums = [total.until(edge) for edge in edges]
    for i, begin in enumerate(edges):
        for j in range(i + 1, len(edges)):
            span = edges[j] - begin
            if span > flat:
                yield sums[j] - sums[i], price * (m.startup_ms + span)


def _cheapest_start(
    catalogue: Catalogue,
    windows: Windows,
    edges: Sequence[int],
    capacity: Sequence[Sequence[int]],
    pull: int,
    task: int,
) -> int:
    """Returns the least that the task pays over all its starts and speeds."""
    load = catalogue.loads[task]
    density = [sum(a * p for a, p in zip(load, bucket, strict=True)) for bucket in capacity]
    paid = Density(edges, density)
    earliest, latest = windows.earliest[task], windows.latest[task]
    best: int | None = None
    for mask in catalogue.speeds:
        allowed = mask & catalogue.masks[task]
        if not allowed:
            continue
        takes = catalogue.duration(task, allowed)
        last = latest - takes
        starts = {earliest, last}
        starts.update(edge for edge in edges if earliest < edge < last)
        starts.update(edge - takes for edge in edges if earliest < edge - takes < last)
        for start in starts:
            if earliest <= start <= last:
                value = paid.until(start + takes) - paid.until(start) + start * pull
                if best is None or value < best:
                    best = value
    return best or 0
