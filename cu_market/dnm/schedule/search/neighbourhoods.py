"""Which tasks a round takes off, and in which order they are put back: compiled."""

from __future__ import annotations

from cu_market.dnm.compiled import Array, compiled
from cu_market.dnm.compiled.draws import below, ratio
from cu_market.dnm.schedule.search.arrays import Problem, State, Work
from cu_market.dnm.schedule.search.insertion import comes_before


@compiled
def choose(problem: Problem, state: State, work: Work, widest: int, draws: Array) -> int:
    """Writes work.removed; returns how many tasks these are: at most the widest, mostly half."""
    most = widest if below(draws, 3) == 0 else widest // 2
    manner = below(draws, 9)
    if manner < 4:
        return _near_cus(state, work, draws, 2 + below(draws, 2), most)
    if manner < 6:
        return _slice(state, work, draws, most)
    if manner < 7:
        return _relatives(problem, work, draws, most)
    if manner < 8:
        return _scattered(state, work, draws, most)
    return _whole_cus(state, work, draws, most)


@compiled
def _near_cus(state: State, work: Work, draws: Array, many: int, most: int) -> int:
    """The tasks of some CUs: a drawn one, and those nearest to it in time with some noise.

    Of too many, those around one moment, so that all these CUs have room there.
    """
    stays, cus, keys, distance = state.stays, state.cus, work.keys, work.distance
    there = 0
    for cu in range(state.most[0]):
        if cus[cu].head >= 0:
            keys[there] = cu
            there += 1
    chosen = cus[keys[below(draws, there)]]
    for k in range(there):
        other = cus[keys[k]]
        gap = max(0, other.first - chosen.last, chosen.first - other.last)
        apart = abs(other.first - chosen.first) + abs(other.last - chosen.last)
        distance[k] = (gap + apart) * (0.2 + ratio(draws))
    count = 0
    for k in range(min(many, there)):
        nearest = k
        for other in range(k + 1, there):
            if distance[other] < distance[nearest]:
                nearest = other
        distance[k], distance[nearest] = distance[nearest], distance[k]
        keys[k], keys[nearest] = keys[nearest], keys[k]
        i = cus[keys[k]].head
        while i >= 0:
            work.removed[count] = i
            count += 1
            i = stays[i].following
    if count <= most:
        return count
    removed = work.removed
    middle = stays[removed[below(draws, count)]].start
    for k in range(most):
        nearest = k
        for other in range(k + 1, count):
            apart = abs(stays[removed[other]].start - middle)
            least = abs(stays[removed[nearest]].start - middle)
            if apart < least or (apart == least and removed[other] < removed[nearest]):
                nearest = other
        removed[k], removed[nearest] = removed[nearest], removed[k]
    return most


@compiled
def _whole_cus(state: State, work: Work, draws: Array, most: int) -> int:
    """All that some CUs have, however much that is of the first: so that one may be given up."""
    stays, cus, keys = state.stays, state.cus, work.keys
    there = 0
    for cu in range(state.most[0]):
        if cus[cu].head >= 0:
            keys[there] = cu
            there += 1
    count = 0
    for k in range(min(there, 3)):
        other = k + below(draws, there - k)
        keys[k], keys[other] = keys[other], keys[k]
        size = 0
        i = cus[keys[k]].head
        while i >= 0:
            size += 1
            i = stays[i].following
        if k > 0 and count + size > most:
            break
        i = cus[keys[k]].head
        while i >= 0:
            work.removed[count] = i
            count += 1
            i = stays[i].following
    return count


@compiled
def _slice(state: State, work: Work, draws: Array, most: int) -> int:
    """What starts next after a drawn task."""
    stays, removed = state.stays, work.removed
    removed[0] = below(draws, stays.shape[0])
    many = min(stays.shape[0], 4 + below(draws, most // 2))
    for count in range(1, many):
        following = -1
        for i in range(stays.shape[0]):
            is_later = comes_before(stays, removed[count - 1], i)
            if is_later and (following < 0 or comes_before(stays, i, following)):
                following = i
        if following < 0:
            return count
        removed[count] = following
    return many


@compiled
def _relatives(problem: Problem, work: Work, draws: Array, most: int) -> int:
    """A task and those around it in the graph."""
    removed, count, k = work.removed, 1, 0
    removed[0] = below(draws, problem.tasks.shape[0])
    while k < count:
        task = problem.tasks[removed[k]]
        for at in range(task.parents, task.relatives):
            if count == most // 2:
                return count
            if below(draws, 2) == 1:
                count = _with(removed, count, problem.near[at])
        k += 1
    return count


@compiled
def _scattered(state: State, work: Work, draws: Array, most: int) -> int:
    count = 0
    tasks = state.stays.shape[0]
    for _ in range(min(tasks, 3 + below(draws, most // 3))):
        count = _with(work.removed, count, below(draws, tasks))
    return count


@compiled
def _with(numbers: Array, count: int, number: int) -> int:
    """Appends a number that is not there yet; returns how many there are."""
    for k in range(count):
        if numbers[k] == number:
            return count
    numbers[count] = number
    return count + 1


@compiled
def leave_fixed(problem: Problem, work: Work, count: int) -> int:
    """Keeps what may be moved of work.removed; returns how many tasks these are."""
    left = 0
    for k in range(count):
        i = work.removed[k]
        if not problem.tasks[i].is_fixed:
            work.removed[left] = i
            left += 1
    return left


@compiled
def rank_removed(problem: Problem, state: State, work: Work, count: int, draws: Array) -> bool:
    """Ranks the removed tasks by latest start, as they stood, or by size, with noise.

    Returns False where the order is that of the latest starts which what stands leaves.
    """
    manner = below(draws, 4)
    if manner == 0:
        return False
    horizon = 1
    for i in range(problem.tasks.shape[0]):
        horizon = max(horizon, problem.tasks[i].latest)
    noise = ratio(draws) * 0.3 * horizon
    for k in range(count):
        i = work.removed[k]
        task = problem.tasks[i]
        if manner == 1:
            value = task.latest - task.shortest
        elif manner == 2:
            value = state.stays[i].start
        else:
            value = -(task.cpu * task.shortest // 1000)
        work.windows[i].rank = value + noise * ratio(draws)
    return True
