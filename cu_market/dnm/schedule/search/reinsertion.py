"""Tasks are taken off their CUs and put back, one after the other, each where the bill grows least:
compiled.

A task's window is what its placed relatives leave: from its parents' ends to the last start from
which its children still meet their times.
"""

from __future__ import annotations

from cu_market.dnm.compiled import Array, compiled
from cu_market.dnm.compiled.draws import below
from cu_market.dnm.schedule.search.arrays import Problem, State, Work
from cu_market.dnm.schedule.search.insertion import NOWHERE, best_spot, put_on, take_off
from cu_market.dnm.schedule.search.loads import settle

BLINKS = (0, 0, 20, 20, 100, 300)
"""In how many of 1000 cases insertion does not look at a CU; one is drawn a round."""

FRUGAL_EVERY = 4
"""In one round of so many nothing is bought: what was taken off must fit into what is left."""


@compiled
def take_off_removed(problem: Problem, state: State, work: Work, count: int) -> int:
    """Takes the removed tasks off; writes work.touched, the CUs that are left of theirs, and
    returns how many these are."""
    changed = 0
    for k in range(count):
        changed = _remember(work.touched, changed, take_off(state, work.removed[k]))
    left = 0
    for k in range(changed):
        cu = work.touched[k]
        if state.cus[cu].head >= 0:
            settle(problem, state, work, cu, state.cus[cu].kind)
            work.touched[left] = cu
            left += 1
    return left


@compiled
def put_back(
    problem: Problem, state: State, work: Work, count: int, changed: int, draws: Array
) -> int:
    """Puts the removed tasks back in the order of work.queue.

    Returns how many CUs stand in work.touched then, or NOWHERE where a task found no place.
    """
    removed, windows = work.removed, work.windows
    manner = below(draws, 4)
    for k in range(count):
        windows[removed[k]].is_late = manner == 1 or (manner == 2 and below(draws, 2) == 1)
    blinks = BLINKS[below(draws, len(BLINKS))]
    may_buy = below(draws, FRUGAL_EVERY) > 0
    for k in range(count):
        i = work.queue[k]
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
            return NOWHERE
        state.stays[i].start = start
        state.stays[i].end = end
        changed = _remember(work.touched, changed, put_on(problem, state, work, i, cu, kind))
        left = count - k - 1
        _forget(removed, left, i)
        if left and _has_missing_relative(problem, state.stays, i):
            write_windows(problem, state, work, left)
    return changed


@compiled
def queue_removed(problem: Problem, work: Work, count: int, is_ranked: bool) -> None:
    """Writes work.queue: the removed tasks by their ranks, else by the latest start that is left;
    of equal ones in topological order."""
    queue, windows = work.queue, work.windows
    for k in range(count):
        i, at = work.removed[k], k
        if not is_ranked:
            windows[i].rank = windows[i].late - problem.tasks[i].shortest
        while at > 0 and windows[queue[at - 1]].rank > windows[i].rank:
            queue[at] = queue[at - 1]
            at -= 1
        queue[at] = i


@compiled
def sort_removed(problem: Problem, work: Work, count: int) -> None:
    """Brings the removed tasks into topological order."""
    removed, tasks = work.removed, problem.tasks
    for k in range(1, count):
        i, at = removed[k], k
        while at > 0 and tasks[removed[at - 1]].place > tasks[i].place:
            removed[at] = removed[at - 1]
            at -= 1
        removed[at] = i


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
def _forget(numbers: Array, left: int, number: int) -> None:
    """Takes a number out, the order of the others as it was."""
    at = 0
    while numbers[at] != number:
        at += 1
    for behind in range(at, left):
        numbers[behind] = numbers[behind + 1]
