"""A CU of the plan while it is being planned: tasks side by side and one after another.

A bundle has no machine type of its own: it is always on the type that holds it at least cost. So a
task may join where it makes the CU larger, and a CU that has lost a task becomes smaller, without
any move of their own for that.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from typing import NamedTuple

from cu_market.dnm.schedule.workload import MachineType, Workload
from cu_market.domain.units import MS_PER_HOUR, divide_half_even

FAR = 2**62
"""Later than anything, and dearer."""

Load = tuple[int, int, int]
"""cpu_millis, memory_bytes, gpu_count."""


class Stay(NamedTuple):
    """A task's time on a CU."""

    start_ms: int
    end_ms: int
    task: int


class Bundle(NamedTuple):
    """Tasks on one CU.

    Attributes:
        stays: by start, then end, then task.
        first_ms, last_ms: first start and last end.
        peak: largest load at any moment, by dimension.
        mask: bit k: type k may host every task here.
        machine: index of the type.
        cost: its bill, times MS_PER_HOUR, so that nothing is rounded while comparing.
        times, used: used[k] is held from times[k] until times[k + 1]; nothing after the last.
    """

    stays: tuple[Stay, ...]
    first_ms: int
    last_ms: int
    peak: Load
    mask: int
    machine: int
    cost: int
    times: tuple[int, ...]
    used: tuple[Load, ...]


class Catalogue:
    """The machine types of a workload, and which of them is cheapest for what.

    Types that another one of the same speed and terms beats in every dimension at no higher price
    are left out, unless a task or a quantity names them.

    Args:
        workload: whose types and tasks.
    """

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.machines = _undominated(workload)
        self.loads: list[Load] = [
            (task.cpu_millis, task.memory_bytes, task.gpu_count) for task in workload.tasks
        ]
        self.masks = [self._mask(i) for i in range(len(workload.tasks))]
        self.speeds = self._speeds()
        self._cached: dict[tuple[Load, int], tuple[int, ...]] = {}
        # Read a million times a second of search: tuples, not attributes of records.
        self.prices = tuple(m.price_microusd_per_hour for m in self.machines)
        self.sizes = tuple((m.cpu_millis, m.memory_bytes, m.gpu_count) for m in self.machines)
        self.terms = tuple((m.startup_ms, m.minimum_ms, m.billing_step_ms) for m in self.machines)
        self.is_uniform = len(set(self.terms)) == 1

    def cost(self, machine: int, span_ms: int) -> int:
        """Returns price x billed time: micro-dollars times MS_PER_HOUR."""
        startup_ms, least_ms, step_ms = self.terms[machine]
        billed_ms = startup_ms + span_ms  # as MachineType.billed_ms
        if billed_ms < least_ms:
            billed_ms = least_ms
        if step_ms != 1:
            billed_ms = -(-billed_ms // step_ms) * step_ms
        return self.prices[machine] * billed_ms

    def longest(self, machine: int, cost: int) -> int:
        """Returns the longest span whose cost is at most that; below 0 where none is."""
        startup_ms, least_ms, step_ms = self.terms[machine]
        if not self.prices[machine]:
            return FAR
        billed_ms = cost // self.prices[machine] // step_ms * step_ms
        return billed_ms - startup_ms if billed_ms >= least_ms else -1

    def holding(self, peak: Load, mask: int) -> tuple[int, ...]:
        """Returns the types of the mask that hold the load, the cheapest an hour first."""
        key = (peak, mask)
        found = self._cached.get(key)
        if found is None:
            cpu, memory, gpus = peak
            found = tuple(
                k
                for k, m in enumerate(self.machines)
                if mask >> k & 1
                and cpu <= m.cpu_millis
                and memory <= m.memory_bytes
                and gpus <= m.gpu_count
            )
            if self.is_uniform and all(self.machines[k].quantity is None for k in found):
                found = found[:1]  # the cheapest an hour is the cheapest for any time
            self._cached[key] = found
        return found

    def cheapest(
        self, peak: Load, mask: int, span_ms: int, own: int | None = None
    ) -> tuple[int, int] | None:
        """Returns (cost, type) of the cheapest type that holds the load so long, or None.

        Types that are counted are left out, but for the one that the CU has already.
        """
        best: tuple[int, int] | None = None
        for k in self.holding(peak, mask):
            if self.machines[k].quantity is not None and k != own:
                continue
            found = (self.cost(k, span_ms), k)
            if best is None or found < best:
                best = found
        return best

    def duration(self, task: int, mask: int) -> int:
        """Returns the task's time on the types of the mask, which are all of one speed."""
        kind = self.machines[(mask & -mask).bit_length() - 1]
        return kind.duration_ms(self.workload.tasks[task])

    def fastest(self, task: int) -> int:
        """Returns the task's shortest time on any type that may host it; 0 where none may."""
        own = self.masks[task]
        return min(
            (self.duration(task, mask & own) for mask in self.speeds if mask & own), default=0
        )

    def _mask(self, task: int) -> int:
        allowed = self.workload.tasks[task].machines
        cpu, memory, gpus = self.loads[task]
        return sum(
            1 << k
            for k, m in enumerate(self.machines)
            if (allowed is None or m.name in allowed)
            and cpu <= m.cpu_millis
            and memory <= m.memory_bytes
            and gpus <= m.gpu_count
        )

    def _speeds(self) -> tuple[int, ...]:
        """One mask per (performance, ready moment): the types whose tasks can be exchanged."""
        found: dict[tuple[int, int], int] = {}
        for k, m in enumerate(self.machines):
            key = (-m.performance_millis, m.ready_ms)
            found[key] = found.get(key, 0) | 1 << k
        return tuple(found[key] for key in sorted(found))


def _undominated(workload: Workload) -> tuple[MachineType, ...]:
    named = {name for task in workload.tasks for name in task.machines or ()}
    kept: list[MachineType] = []
    for m in sorted(workload.machines, key=_order):
        is_free = m.name not in named and m.quantity is None
        if not (is_free and any(_dominates(k, m) for k in kept if k.name not in named)):
            kept.append(m)
    return tuple(kept)


def _order(m: MachineType) -> tuple[object, ...]:
    return (m.price_microusd_per_hour, -m.cpu_millis, -m.memory_bytes, -m.gpu_count, m.name)


def _dominates(a: MachineType, b: MachineType) -> bool:
    """Whether a does what b does: as fast, as soon, no dearer, nothing smaller, any number."""
    return (
        a.quantity is None
        and a.performance_millis == b.performance_millis
        and a.cpu_millis >= b.cpu_millis
        and a.memory_bytes >= b.memory_bytes
        and a.gpu_count >= b.gpu_count
        and a.startup_ms <= b.startup_ms
        and a.ready_ms == b.ready_ms
        and a.minimum_ms <= b.minimum_ms
        and a.billing_step_ms == b.billing_step_ms
    )


def make(
    catalogue: Catalogue, stays: Sequence[Stay], mask: int, own: int | None = None
) -> Bundle | None:
    """Returns the stays as one CU on its cheapest type; None where no type holds them.

    Args:
        catalogue: the types.
        stays: at least one; times are those of the mask's speed.
        mask: types of one speed.
        own: a type of which one unit is had already; other counted types are left out.
    """
    for stay in stays:
        mask &= catalogue.masks[stay.task]
    times, used = profile(stays, catalogue.loads)
    found = catalogue.cheapest(peak_of(used), mask, times[-1] - times[0], own)
    return None if found is None else on_machine(sorted(stays), times, used, mask, found)


def on_machine(
    stays: Sequence[Stay],
    times: tuple[int, ...],
    used: tuple[Load, ...],
    mask: int,
    choice: tuple[int, int],
) -> Bundle:
    """Returns the stays, in their order, as one CU on the chosen (cost, type)."""
    cost, kind = choice
    return Bundle(tuple(stays), times[0], times[-1], peak_of(used), mask, kind, cost, times, used)


def profile(
    stays: Sequence[Stay], loads: Sequence[Load]
) -> tuple[tuple[int, ...], tuple[Load, ...]]:
    """Returns (times, used) as Bundle has them; what ends at a moment is gone then."""
    changes: dict[int, list[int]] = {}
    for start, end, task in stays:
        cpu, memory, gpus = loads[task]
        begun = changes.setdefault(start, [0, 0, 0])
        begun[0], begun[1], begun[2] = begun[0] + cpu, begun[1] + memory, begun[2] + gpus
        ended = changes.setdefault(end, [0, 0, 0])
        ended[0], ended[1], ended[2] = ended[0] - cpu, ended[1] - memory, ended[2] - gpus
    cpu = memory = gpus = 0
    used: list[Load] = []
    times = sorted(changes)
    for moment in times:
        c, m, g = changes[moment]
        cpu, memory, gpus = cpu + c, memory + m, gpus + g
        used.append((cpu, memory, gpus))
    return tuple(times), tuple(used)


def profile_with(
    bundle: Bundle, start: int, end: int, load: Load
) -> tuple[tuple[int, ...], tuple[Load, ...]]:
    """Returns the bundle's (times, used) once a load is held from start to end as well."""
    times, used = list(bundle.times), list(bundle.used)
    for moment in (start, end):
        k = bisect_left(times, moment)
        if k == len(times) or times[k] != moment:
            times.insert(k, moment)
            used.insert(k, used[k - 1] if k else (0, 0, 0))
    cpu, memory, gpus = load
    for k in range(bisect_left(times, start), bisect_left(times, end)):
        held = used[k]
        used[k] = (held[0] + cpu, held[1] + memory, held[2] + gpus)
    return tuple(times), tuple(used)


def without(catalogue: Catalogue, bundle: Bundle, gone: Collection[int]) -> Bundle | None:
    """Returns the bundle without these tasks, on its cheapest type; None where none is left."""
    kept = [stay for stay in bundle.stays if stay.task not in gone]
    if not kept:
        return None
    times, used = bundle.times, list(bundle.used)
    for start, end, task in bundle.stays:
        if task in gone:
            cpu, memory, gpus = catalogue.loads[task]
            for k in range(bisect_left(times, start), bisect_left(times, end)):
                held = used[k]
                used[k] = (held[0] - cpu, held[1] - memory, held[2] - gpus)
    moments = {moment for stay in kept for moment in stay[:2]}
    held_from = [(t, u) for t, u in zip(times, used, strict=True) if t in moments]
    times, left = tuple(t for t, _ in held_from), tuple(u for _, u in held_from)
    span = times[-1] - times[0]
    found = catalogue.cheapest(peak_of(left), bundle.mask, span, bundle.machine)
    assert found is not None  # what held more holds less
    return on_machine(kept, times, left, bundle.mask, found)


def peak_of(used: Sequence[Load]) -> Load:
    """Returns the largest of each dimension."""
    cpu, memory, gpus = zip(*used, strict=True)
    return max(cpu), max(memory), max(gpus)


def first_fit(bundle: Bundle, begin: int, last: int, takes: int, room: Load) -> int | None:
    """Returns the earliest start in [begin, last] at which no more than room is held throughout."""
    if begin > last:
        return None
    times, used = bundle.times, bundle.used
    cpu, memory, gpus = room
    start, k = begin, max(0, bisect_right(times, begin) - 1)
    while k < len(times) and times[k] < start + takes:
        held = used[k]
        is_full = held[0] > cpu or held[1] > memory or held[2] > gpus
        if is_full and times[k + 1] > start:  # the last entry holds nothing: there is a next one
            start = times[k + 1]
            if start > last:
                return None
        k += 1
    return start


def last_fit(bundle: Bundle, begin: int, last: int, takes: int, room: Load) -> int | None:
    """Returns the latest start in [begin, last] at which no more than room is held throughout."""
    if begin > last:
        return None
    times, used = bundle.times, bundle.used
    cpu, memory, gpus = room
    end = last + takes
    k = bisect_left(times, end) - 1
    while k >= 0 and (k + 1 == len(times) or times[k + 1] > end - takes):
        held = used[k]
        if (held[0] > cpu or held[1] > memory or held[2] > gpus) and times[k] < end:
            end = times[k]
            if end - takes < begin:
                return None
        k -= 1
    return end - takes


def microusd(cost: int) -> int:
    """Returns a cost of bundles in whole micro-dollars, rounded half-even."""
    return divide_half_even(cost, MS_PER_HOUR)
