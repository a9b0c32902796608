"""Takes tasks off and puts them where the bill grows least, as packing.best_spot: compiled."""

from __future__ import annotations

from cu_market.dnm.compiled import Array, compiled, inlined
from cu_market.dnm.compiled.draws import below
from cu_market.dnm.schedule.bundle import FAR
from cu_market.dnm.schedule.packing import MOST_TYPES
from cu_market.dnm.schedule.search.arrays import Problem, State, Work
from cu_market.dnm.schedule.search.loads import (
    cost_of,
    first_fit,
    has_unit,
    last_fit,
    load_of,
    longest_for,
    may_host,
    settle,
)

NEW, NOWHERE = -1, -2
"""In place of a CU's number."""


@compiled
def comes_before(stays: Array, i: int, j: int) -> bool:
    """Order of stays: by start, end, task."""
    if stays[i].start != stays[j].start:
        return stays[i].start < stays[j].start
    if stays[i].end != stays[j].end:
        return stays[i].end < stays[j].end
    return i < j


@compiled
def take_off(state: State, i: int) -> int:
    """Takes a task off its CU, which is to be settled, and returns the CU."""
    stays = state.stays
    cu = stays[i].cu
    held = state.cus[cu]
    if held.head == i:
        held.head = stays[i].following
    else:
        before = held.head
        while stays[before].following != i:
            before = stays[before].following
        stays[before].following = stays[i].following
    stays[i].cu = -1
    stays[i].following = -1
    return cu


@compiled
def put_on(problem: Problem, state: State, work: Work, i: int, cu: int, kind: int) -> int:
    """Puts a task, whose times are set, on a CU, and settles it; returns the CU's number."""
    if cu == NEW:
        cu = free_number(state)
    stays, held = state.stays, state.cus[cu]
    stays[i].cu = cu
    before = held.head
    if before < 0 or comes_before(stays, i, before):
        stays[i].following = before
        held.head = i
    else:
        while stays[before].following >= 0 and comes_before(stays, stays[before].following, i):
            before = stays[before].following
        stays[i].following = stays[before].following
        stays[before].following = i
    settle(problem, state, work, cu, kind)
    return cu


@compiled
def free_number(state: State) -> int:
    """Returns a number that no CU has. There is one: no more CUs than tasks are ever had."""
    for cu in range(state.most[0]):
        if state.cus[cu].head < 0:
            return cu
    cu = state.most[0]
    state.most[0] += 1
    state.cus[cu].head = -1  # what is beyond was left by another schedule
    return cu


@compiled
def best_spot(
    problem: Problem,
    state: State,
    work: Work,
    i: int,
    earliest: int,
    latest: int,
    sign: int,
    blinks: int,
    may_buy: bool,
    draws: Array,
) -> tuple[int, int, int, int]:
    """Returns (CU, NEW or NOWHERE; type; start; end) of where the bill grows least.

    Equal growth goes to the earlier start (the later one where the sign is -1), then to the CU of
    the lower number, a new one last. In so many of 1000 cases a CU is not looked at ("blinks":
    Christiaens and Vanden Berghe, "Slack induction by string removals for vehicle routing
    problems", 2020).
    """
    kinds, cus = problem.kinds, state.cus
    best, best_start, rank = FAR, FAR, FAR
    found, found_kind, found_end = NOWHERE, -1, 0
    for speed in range(problem.takes.shape[0]):
        takes = problem.takes[speed, i]
        begin, last = max(earliest, problem.ready[speed]), latest - takes
        if takes < 0 or begin > last:
            continue
        start = last if sign < 0 else begin
        alone, alone_kind = _alone(problem, state, i, speed, start, takes)
        is_skipped = blinks > 0 and state.most[0] > 0 and below(draws, 1000) < blinks
        is_had = alone_kind >= 0 and may_buy and not is_skipped
        if is_had and (alone, sign * start, FAR) < (best, best_start, rank):
            best, best_start, rank = alone, sign * start, FAR
            found, found_kind, found_end = NEW, alone_kind, start + takes
        for cu in range(state.most[0]):
            held = cus[cu]
            if held.head < 0 or kinds[held.kind].speed != speed:
                continue
            if blinks > 0 and below(draws, 1000) < blinks:
                continue
            least = held.last - held.first
            if problem.is_uniform:
                # Its own type is the cheapest of those that it could become.
                least += max(0, begin + takes - held.last) + max(0, held.first - last)
                growth = cost_of(kinds[held.kind], least) - held.cost
                if (growth, sign * start, cu) >= (best, best_start, rank):
                    continue
            more, signed, kind = _join(
                problem, state, work, cu, i, speed, takes, begin, last, least, best, sign
            )
            if kind >= 0 and (more, signed, cu) < (best, best_start, rank):
                best, best_start, rank = more, signed, cu
                found, found_kind, found_end = cu, kind, sign * signed + takes
    return found, found_kind, sign * best_start, found_end


@inlined
def _alone(
    problem: Problem, state: State, i: int, speed: int, start: int, takes: int
) -> tuple[int, int]:
    """Returns (cost, type) of a CU of its own, type -1 where there is none."""
    kinds = problem.kinds
    best, chosen = FAR, -1
    for k in range(kinds.shape[0]):
        if kinds[k].speed != speed or not problem.allowed[i, k]:
            continue
        if kinds[k].quantity < 0 or has_unit(kinds, state, k, start, start + takes, -1):
            cost = cost_of(kinds[k], takes)
            if cost < best:
                best, chosen = cost, k
            if problem.is_uniform:
                break
    return best, chosen


@inlined
def _join(
    problem: Problem,
    state: State,
    work: Work,
    cu: int,
    i: int,
    speed: int,
    takes: int,
    begin: int,
    last: int,
    least: int,
    limit: int,
    sign: int,
) -> tuple[int, int, int]:
    """Returns (growth, signed start, type) on one CU, type -1 where the growth is above the limit.

    On one type only three starts can be best: one that leaves the CU's first start and last end as
    they are, the nearest one after them, the nearest one before them.
    """
    held, task = state.cus[cu], problem.tasks[i]
    first, final, cost = held.first, held.last, held.cost
    best, best_start, chosen = FAR, 0, -1
    base, count = 0, -1
    tried = 0
    for k in range(held.kind, problem.kinds.shape[0]):
        kind = problem.kinds[k]
        if kind.speed != speed or not problem.allowed[i, k]:
            continue
        dearer = cost_of(kind, least) - cost
        if dearer > limit or (chosen >= 0 and dearer == limit) or tried == MOST_TYPES:
            break  # types are in the order of their prices
        # A dearer type is not larger in everything: it must hold what is there already, too.
        if held.cpu > kind.cpu or held.memory > kind.memory or held.gpus > kind.gpus:
            continue
        if problem.is_restricted and not may_host(problem.allowed, state.stays, held.head, k):
            continue
        tried += 1
        cpu, memory, gpus = kind.cpu - task.cpu, kind.memory - task.memory, kind.gpus - task.gpus
        is_roomy = held.cpu <= cpu and held.memory <= memory and held.gpus <= gpus
        if count < 0 and not is_roomy:
            base, count = load_of(problem.tasks, state, work, cu)
        span = longest_for(kind, limit + cost)
        for way in range(3):
            if way == 0:
                low, high = max(begin, first), min(last, final - takes)
            elif way == 1:
                low, high = max(begin, final - takes + 1), min(last, first + span - takes)
            else:
                low, high = max(begin, final - span), min(last, first - 1)
            is_first = way == 1 or (way == 0 and sign > 0)
            if low > high:
                continue
            if is_roomy:  # its peak leaves room: at any time
                start = low if is_first else high
            elif is_first:
                start = first_fit(work.moments, base, count, low, high, takes, cpu, memory, gpus)
            else:
                start = last_fit(work.moments, base, count, low, high, takes, cpu, memory, gpus)
            if start < 0:
                continue
            begun, ended = min(first, start), max(final, start + takes)
            more = cost_of(kind, ended - begun) - cost
            is_better = chosen < 0 or (more, sign * start) < (best, best_start)
            if (
                more <= limit
                and is_better
                and (kind.quantity < 0 or has_unit(problem.kinds, state, k, begun, ended, cu))
            ):
                best, best_start, chosen, limit = more, sign * start, k, more
            if way == 0:
                break
    return best, best_start, chosen
