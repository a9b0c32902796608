"""What a CU holds over time, and where there is room on it: compiled."""

from __future__ import annotations

from typing import Any

from cu_market.dnm.compiled import Array, compiled, inlined
from cu_market.dnm.schedule.bundle import FAR
from cu_market.dnm.schedule.search.arrays import MOMENTS, Problem, State, Work

NEVER = -1
"""No start: times count from the plan's, so none is below 0."""


@compiled
def cost_of(kind: Any, span: int) -> int:
    """Returns the bill of a type had so long, as Catalogue.cost."""
    billed = max(kind.startup + span, kind.minimum)
    if kind.step != 1:
        billed = -(-billed // kind.step) * kind.step
    return kind.price * billed


@compiled
def longest_for(kind: Any, cost: int) -> int:
    """Returns the longest span whose bill is at most that, as Catalogue.longest."""
    if kind.price == 0 or cost >= FAR:
        return FAR // 4
    billed = cost // kind.price
    if kind.step != 1:
        billed = billed // kind.step * kind.step
    return billed - kind.startup if billed >= kind.minimum else -1


@compiled
def write_load(
    tasks: Array, stays: Array, head: int, ends: Array, moments: Array, base: int
) -> int:
    """Writes the load over time of the CU whose first stay is head; returns how many moments.

    What ends at a moment is gone then; after the last moment nothing is held.
    """
    count = 0
    i = head
    while i >= 0:
        k = count
        while k > 0 and stays[ends[k - 1]].end > stays[i].end:
            ends[k] = ends[k - 1]
            k -= 1
        ends[k] = i
        count += 1
        i = stays[i].following
    cpu, memory, gpus = 0, 0, 0
    written = 0
    i = head
    k = 0
    while k < count:
        time = stays[ends[k]].end
        if i >= 0 and stays[i].start < time:
            time = stays[i].start
        while i >= 0 and stays[i].start == time:
            cpu += tasks[i].cpu
            memory += tasks[i].memory
            gpus += tasks[i].gpus
            i = stays[i].following
        while k < count and stays[ends[k]].end == time:
            gone = tasks[ends[k]]
            cpu -= gone.cpu
            memory -= gone.memory
            gpus -= gone.gpus
            k += 1
        moment = moments[base + written]
        moment.time = time
        moment.cpu = cpu
        moment.memory = memory
        moment.gpus = gpus
        written += 1
    return written


@inlined
def load_of(tasks: Array, state: State, work: Work, cu: int) -> tuple[int, int]:
    """Returns where in work.moments the load of a CU begins, and of how many moments it is.

    Written anew only where the CU has changed. Numbers and no view of an array are returned: each
    view costs an atomic count of its references, as much as all else here.
    """
    if work.kept[cu].version == state.cus[cu].version:
        return cu * MOMENTS, work.kept[cu].count
    spare = work.kept.shape[0] * MOMENTS
    count = write_load(tasks, state.stays, state.cus[cu].head, work.ends, work.moments, spare)
    if count > MOMENTS:
        return spare, count
    base = cu * MOMENTS
    for k in range(count):
        work.moments[base + k] = work.moments[spare + k]
    work.kept[cu].version = state.cus[cu].version
    work.kept[cu].count = count
    return base, count


@compiled
def first_fit(
    moments: Array,
    base: int,
    count: int,
    begin: int,
    last: int,
    takes: int,
    cpu: int,
    memory: int,
    gpus: int,
) -> int:
    """Returns the earliest start in [begin, last] at which no more is held throughout."""
    if begin > last:
        return NEVER
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if moments[base + middle].time <= begin:
            low = middle + 1
        else:
            high = middle
    k = max(0, low - 1)
    start = begin
    while k < count and moments[base + k].time < start + takes:
        held = moments[base + k]
        is_full = held.cpu > cpu or held.memory > memory or held.gpus > gpus
        if is_full and moments[base + k + 1].time > start:  # the last one holds nothing
            start = moments[base + k + 1].time
            if start > last:
                return NEVER
        k += 1
    return start


@compiled
def last_fit(
    moments: Array,
    base: int,
    count: int,
    begin: int,
    last: int,
    takes: int,
    cpu: int,
    memory: int,
    gpus: int,
) -> int:
    """Returns the latest start in [begin, last] at which no more is held throughout."""
    if begin > last:
        return NEVER
    end = last + takes
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if moments[base + middle].time < end:
            low = middle + 1
        else:
            high = middle
    k = low - 1
    while k >= 0 and (k + 1 == count or moments[base + k + 1].time > end - takes):
        held = moments[base + k]
        is_full = held.cpu > cpu or held.memory > memory or held.gpus > gpus
        if is_full and held.time < end:
            end = held.time
            if end - takes < begin:
                return NEVER
        k -= 1
    return end - takes


@compiled
def may_host(allowed: Array, stays: Array, head: int, kind: int) -> bool:
    """Whether every task of a CU may be on a type, whatever its size."""
    i = head
    while i >= 0:
        if not allowed[i, kind]:
            return False
        i = stays[i].following
    return True


@compiled
def has_unit(kinds: Array, state: State, kind: int, first: int, last: int, but: int) -> bool:
    """Whether one more unit of a type is left for [first, last), one CU not counted."""
    quantity = kinds[kind].quantity
    if quantity < 0:
        return True
    startup = kinds[kind].startup
    first -= startup
    for other in range(-1, state.most[0]):
        point = first
        if other >= 0:
            held = state.cus[other]
            if other == but or held.head < 0 or held.kind != kind:
                continue
            point = held.first - startup
            if point <= first or point >= last:
                continue
        units = 0
        for cu in range(state.most[0]):
            held = state.cus[cu]
            if cu != but and held.head >= 0 and held.kind == kind:
                units += held.first - startup <= point < held.last
        if units >= quantity:
            return False
    return True


@compiled
def settle(problem: Problem, state: State, work: Work, cu: int, own: int) -> None:
    """Writes peak, times, type and bill of a CU whose stays have changed: the cheapest type.

    Of counted types only the own one is looked at.
    """
    held = state.cus[cu]
    work.version[0] += 1
    held.version = work.version[0]
    base, count = load_of(problem.tasks, state, work, cu)
    cpu, memory, gpus = 0, 0, 0
    for k in range(count):
        cpu = max(cpu, work.moments[base + k].cpu)
        memory = max(memory, work.moments[base + k].memory)
        gpus = max(gpus, work.moments[base + k].gpus)
    held.cpu = cpu
    held.memory = memory
    held.gpus = gpus
    held.first = work.moments[base].time
    held.last = work.moments[base + count - 1].time
    cost, chosen = cheapest_for(
        problem, state, held.head, own, cpu, memory, gpus, held.last - held.first
    )
    held.kind = chosen
    held.cost = cost


@compiled
def cheapest_for(
    problem: Problem, state: State, head: int, own: int, cpu: int, memory: int, gpus: int, span: int
) -> tuple[int, int]:
    """Returns (cost, type) of the cheapest type of its speed that holds so much, or (FAR, own)."""
    kinds = problem.kinds
    best, chosen = FAR, own
    for k in range(kinds.shape[0]):
        kind = kinds[k]
        if kind.speed != kinds[own].speed or (kind.quantity >= 0 and k != own):
            continue
        if kind.cpu < cpu or kind.memory < memory or kind.gpus < gpus:
            continue
        if not problem.is_restricted or may_host(problem.allowed, state.stays, head, k):
            cost = cost_of(kind, span)
            if cost < best:
                best, chosen = cost, k
            if problem.is_uniform:
                break  # the cheapest an hour is the cheapest for any time
    return best, chosen
