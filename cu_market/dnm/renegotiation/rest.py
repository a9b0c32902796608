"""What is left of a run, as a workload of its own: what runs stands, what waits is to be placed.

A CU that is had stays on its type. What it ran is one stay that holds next to nothing, so that its
bill goes on from its first start; what it runs are stays until their expected ends.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from cu_market.dnm.renegotiation.draft import HeldCU
from cu_market.dnm.schedule.workload import MachineType, Task, Workload

HORIZON = 4
"""Times the deadline, or now where that is later: no plan of what is left goes on for so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What is left.

    Attributes:
        workload: first the tasks that stand, in the order of held; then the steps that wait.
        standing: how many stand.
        held: the CUs that are had, with the tasks that stand as their stays.
    """

    workload: Workload
    standing: int
    held: tuple[HeldCU, ...]


def rest_of(
    workload: Workload,
    machines: Sequence[MachineType],
    now_ms: int,
    held: Sequence[HeldCU],
    waiting: Collection[str],
) -> Rest:
    """Returns what is left of a workload.

    Args:
        workload: all of the run, with expected durations.
        machines: types that may be bought; those of held CUs are among them.
        now_ms: after the run's start.
        held: with all that they ran and run; what ends later than now still runs.
        waiting: steps that have not started, or start again.
    """
    stays: list[HeldCU] = []
    tasks: list[Task] = []
    for cu in held:
        own = _standing(cu, now_ms)
        stays.append(replace(cu, stays=own))
        tasks += [_task(workload, stay, cu.machine) for stay in own]
    known = {task.task_id for task in tasks} | set(waiting)
    standing = len(tasks)
    for task in workload.tasks:
        if task.task_id in waiting:
            parents = tuple(p for p in task.parents if p in known)
            soonest = max(now_ms, task.earliest_start_ms)
            tasks.append(replace(task, parents=parents, earliest_start_ms=soonest))
    horizon = HORIZON * max(now_ms, workload.deadline_ms)
    return Rest(
        workload=Workload(tasks=tuple(tasks), machines=tuple(machines), deadline_ms=horizon),
        standing=standing,
        held=tuple(stays),
    )


def _standing(cu: HeldCU, now_ms: int) -> tuple[tuple[str, int, int], ...]:
    """Returns what runs, and before it what ran as one stay from the CU's first start on."""
    runs = [stay for stay in cu.stays if stay[2] > now_ms]
    first = min(start for _, start, _ in cu.stays)
    until = min(s for _, s, _ in runs) if runs else max(end for _, _, end in cu.stays)
    past = [(f"\0{cu.cu_id}", first, max(first + 1, until))] if first < until or not runs else []
    return (*past, *runs)


def _task(workload: Workload, stay: tuple[str, int, int], machine: str) -> Task:
    name, start, end = stay
    index = workload.index.get(name)
    held = Task(task_id=name, duration_ms=1, cpu_millis=0, memory_bytes=1)
    if index is not None:
        held = replace(workload.tasks[index], parents=(), latest_finish_ms=None)
    return replace(held, duration_ms=max(1, end - start), machines=frozenset((machine,)))
