"""Rounds of removal and reinsertion: compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cu_market.dnm.schedule.bundle import FAR
from cu_market.dnm.schedule.compiled import compiled, kept_on_disk, sources
from cu_market.dnm.schedule.search.arrays import Array, Log, Problem, State, Work
from cu_market.dnm.schedule.search.draws import below
from cu_market.dnm.schedule.search.insertion import (
    NOWHERE,
    best_spot,
    free_number,
    put_on,
    take_off,
)
from cu_market.dnm.schedule.search.loads import cheapest_for, load_of, settle
from cu_market.dnm.schedule.search.neighbourhoods import choose, rank_removed


@compiled
def write_windows(problem: Problem, state: State, work: Work, count: int) -> None:
    """Writes earliest start and latest end of the first removed tasks, in topological order."""
    tasks, near, stays, windows = problem.tasks, problem.near, state.stays, work.windows
    for k in range(count):
        i = work.removed[k]
        early = tasks[i].earliest
        for at in range(tasks[i].parents, tasks[i].children):
            parent = near[at]
            if stays[parent].cu < 0:
                early = max(early, windows[parent].early + tasks[parent].shortest)
            else:
                early = max(early, stays[parent].end)
        windows[i].early = early
    for k in range(count - 1, -1, -1):
        i = work.removed[k]
        late = tasks[i].latest
        for at in range(tasks[i].children, tasks[i].relatives):
            child = near[at]
            if stays[child].cu < 0:
                late = min(late, windows[child].late - tasks[child].shortest)
            else:
                late = min(late, stays[child].start)
        windows[i].late = late


@compiled
def _has_missing_relative(problem: Problem, stays: Array, i: int) -> bool:
    task = problem.tasks[i]
    for at in range(task.parents, task.relatives):  # noqa: SIM110 (there is no any() here)
        if stays[problem.near[at]].cu < 0:
            return True
    return False


@compiled
def _remember(touched: Array, count: int, cu: int) -> int:
    for k in range(count):
        if touched[k] == cu:
            return count
    touched[count] = cu
    return count + 1


@compiled
def split_idle(problem: Problem, state: State, work: Work, cu: int) -> int:
    """Gives up a CU over a time in which nothing runs where starting another is no dearer.

    Returns the number of the CU that has what comes later, or NOWHERE.
    """
    held, stays = state.cus[cu], state.stays
    own = held.kind
    base, count = load_of(problem.tasks, state, work, cu)
    for k in range(count - 1):
        if (
            work.moments[base + k].cpu
            or work.moments[base + k].memory
            or work.moments[base + k].gpus
        ):
            continue
        apart = _bill_of(problem, state, work.moments, base, base + k, held.head, own)
        apart += _bill_of(
            problem, state, work.moments, base + k + 1, base + count - 1, held.head, own
        )
        if apart > held.cost:
            continue
        before = held.head
        while stays[stays[before].following].start < work.moments[base + k].time:
            before = stays[before].following
        other = free_number(state)
        state.cus[other].head = stays[before].following
        stays[before].following = -1
        i = state.cus[other].head
        while i >= 0:
            stays[i].cu = other
            i = stays[i].following
        settle(problem, state, work, cu, own)
        settle(problem, state, work, other, own)
        return other
    return NOWHERE


@compiled
def _bill_of(
    problem: Problem, state: State, moments: Array, first: int, last: int, head: int, own: int
) -> int:
    """Returns the bill of what is held from one moment to another, a quarter of FAR for none."""
    cpu, memory, gpus = 0, 0, 0
    for k in range(first, last):
        cpu = max(cpu, moments[k].cpu)
        memory = max(memory, moments[k].memory)
        gpus = max(gpus, moments[k].gpus)
    kinds = problem.kinds
    if kinds[own].quantity >= 0:
        return FAR // 4  # one unit more would be needed
    span = moments[last].time - moments[first].time
    cost, _ = cheapest_for(problem, state, head, own, cpu, memory, gpus, span)
    return min(cost, FAR // 4)


@compiled
def one_round(problem: Problem, state: State, work: Work, widest: int, draws: Array) -> bool:
    """Takes tasks off and puts them back, in place; returns whether every one found a place."""
    removed, queue, windows, touched = work.removed, work.queue, work.windows, work.touched
    tasks = problem.tasks
    count = choose(problem, state, work, widest, draws)
    is_ranked = rank_removed(problem, state, work, count, draws)
    changed = 0
    for k in range(count):
        changed = _remember(touched, changed, take_off(state, removed[k]))
    left_over = 0
    for k in range(changed):
        cu = touched[k]
        if state.cus[cu].head >= 0:
            settle(problem, state, work, cu, state.cus[cu].kind)
            touched[left_over] = cu
            left_over += 1
    changed = left_over
    manner = below(draws, 4)
    for k in range(count):
        windows[removed[k]].is_late = manner == 1 or (manner == 2 and below(draws, 2) == 1)
    blinks = (0, 0, 20, 20, 100, 300)[below(draws, 6)]
    may_buy = below(draws, 6) > 0
    for k in range(1, count):  # into topological order
        i, at = removed[k], k
        while at > 0 and tasks[removed[at - 1]].place > tasks[i].place:
            removed[at] = removed[at - 1]
            at -= 1
        removed[at] = i
    write_windows(problem, state, work, count)
    for k in range(count):
        i, at = removed[k], k
        if not is_ranked:
            windows[i].rank = windows[i].late - tasks[i].shortest
        while at > 0 and windows[queue[at - 1]].rank > windows[i].rank:
            queue[at] = queue[at - 1]
            at -= 1
        queue[at] = i
    for k in range(count):
        i = queue[k]
        room = windows[i]
        sign = -1 if room.is_late else 1
        cu, kind, start, end = best_spot(
            problem, state, work, i, room.early, room.late, sign, blinks, may_buy, draws
        )
        if cu == NOWHERE and blinks > 0:
            cu, kind, start, end = best_spot(
                problem, state, work, i, room.early, room.late, sign, 0, may_buy, draws
            )
        if cu == NOWHERE:
            return False
        state.stays[i].start = start
        state.stays[i].end = end
        changed = _remember(touched, changed, put_on(problem, state, work, i, cu, kind))
        left = count - k - 1
        at = 0
        while removed[at] != i:
            at += 1
        for behind in range(at, left):
            removed[behind] = removed[behind + 1]
        if left and _has_missing_relative(problem, state.stays, i):
            write_windows(problem, state, work, left)
    for k in range(changed):
        cu = touched[k]
        while cu >= 0:
            cu = split_idle(problem, state, work, cu)
    return True


@compiled
def copy_state(source: State, target: State) -> None:
    """Makes the target equal to the source."""
    for i in range(source.stays.shape[0]):
        target.stays[i] = source.stays[i]
    target.most[0] = source.most[0]
    for cu in range(source.most[0]):
        target.cus[cu] = source.cus[cu]


@compiled
def cost_of_all(state: State) -> int:
    """Returns the whole bill."""
    total = 0
    for cu in range(state.most[0]):
        if state.cus[cu].head >= 0:
            total += state.cus[cu].cost
    return total


@compiled
def write_log(log: Log, state: State) -> None:
    """Writes a schedule over the oldest entry."""
    entry = log.written[0] % log.cus.shape[0]
    log.written[0] += 1
    for i in range(state.stays.shape[0]):
        stay = state.stays[i]
        log.cus[entry, i] = stay.cu
        log.starts[entry, i] = stay.start
        log.kinds[entry, i] = state.cus[stay.cu].kind


def _compiled_rounds(texts: str) -> Callable[..., None]:
    """Returns the rounds; kept on disk by what they close over, the texts of all that they call."""

    @kept_on_disk
    def run(
        problem: Problem,
        current: State,
        trial: State,
        best: State,
        work: Work,
        log: Log,
        draws: Any,
        widest: int,
        done: int,
        upto: int,
        rounds: int,
        deviation: float,
        near_best: float,
    ) -> None:
        """Does rounds from done to upto of so many.

        Args:
            problem: what is given.
            current, best: where the search stands; are changed.
            trial: room for a schedule.
            work: room to work in.
            log: takes the good schedules.
            draws: state of the sequence.
            widest: tasks that a round takes off at most.
            done, upto, rounds: see above.
            deviation: a round may be this share dearer than the best at first, and none at last.
            near_best: schedules that are at most this share dearer than the best are logged.
        """
        assert len(texts) > 0
        if done == 0:
            for cu in range(current.most[0]):
                settle(problem, current, work, cu, current.cus[cu].kind)
            copy_state(current, best)
        cost, best_cost = cost_of_all(current), cost_of_all(best)
        for number in range(done, upto):
            copy_state(current, trial)
            if not one_round(problem, trial, work, widest, draws):
                continue
            found = cost_of_all(trial)
            allowed = best_cost * (1 + deviation * (1 - number / rounds))
            if found <= cost or found < allowed:
                is_new = found != cost
                copy_state(trial, current)
                cost = found
                if is_new and found < best_cost * (1 + near_best):
                    write_log(log, trial)
                if found < best_cost:
                    copy_state(trial, best)
                    best_cost = found
            elif cost > allowed:
                copy_state(best, current)
                cost = best_cost

    return run


run_rounds = _compiled_rounds(sources())
