"""Gives a CU up over a time in which nothing runs where starting another is no dearer: compiled."""

from __future__ import annotations

from cu_market.dnm.compiled import Array, compiled
from cu_market.dnm.schedule.bundle import FAR
from cu_market.dnm.schedule.search.arrays import Problem, State, Work
from cu_market.dnm.schedule.search.insertion import NOWHERE, free_number
from cu_market.dnm.schedule.search.loads import cheapest_for, load_of, settle


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
