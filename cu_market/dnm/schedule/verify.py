"""Checks a joint plan in whole numbers, from the workload and the plan alone.

Shares no code with what makes plans but the records' own duration and bill: every moment of every
CU is summed anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cu_market.dnm.schedule.joint_plan import JointPlan, PlannedCU, PlannedStay
from cu_market.dnm.schedule.workload import MachineType, Task, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Flaw:
    """One thing wrong with a plan: where (task, CU or type) and what, with its figures."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def flaws(workload: Workload, plan: JointPlan) -> tuple[Flaw, ...]:
    """Returns everything wrong with the plan; empty if it can be committed.

    Checked: every task once, on a type that it may use; how long it takes there; its start after
    its parents' ends, its own earliest start and the type's first moment; its end by its own
    deadline and the workload's; cores, memory and GPUs of every CU and the units of every type at
    every moment; every bill, their sum, and the bound.
    """
    tasks = {task.task_id: task for task in workload.tasks}
    machines = {machine.name: machine for machine in workload.machines}
    found: list[Flaw] = []
    placed: dict[str, PlannedStay] = {}
    for cu in plan.cus:
        machine = machines.get(cu.machine)
        if machine is None or not cu.stays:
            found.append(Flaw(where=cu.cu_id, what=f"no such type, or empty: {cu.machine!r}"))
            continue
        for stay in cu.stays:
            if stay.task_id not in tasks or stay.task_id in placed:
                found.append(Flaw(where=cu.cu_id, what=f"{stay.task_id!r}: unknown, or twice"))
                continue
            placed[stay.task_id] = stay
            found += _stay_flaws(workload, tasks[stay.task_id], machine, stay)
        found += _load_flaws(cu, machine, tasks)
        found += _bill_flaws(cu, machine)
    found += _order_flaws(workload.tasks, placed)
    found += _missing(workload, plan, placed)
    found += _unit_flaws(plan.cus, machines)
    total = sum(cu.cost_microusd for cu in plan.cus)
    if total != plan.cost_microusd:
        found.append(Flaw(where="plan", what=f"costs {total}, not {plan.cost_microusd}"))
    if not plan.unplaced and plan.bound_microusd > total:
        found.append(Flaw(where="plan", what=f"bound {plan.bound_microusd} above cost {total}"))
    return tuple(found)


def _stay_flaws(
    workload: Workload, task: Task, machine: MachineType, stay: PlannedStay
) -> Iterable[Flaw]:
    takes = machine.duration_ms(task)
    if stay.end_ms - stay.start_ms != takes:
        yield Flaw(where=task.task_id, what=f"stays {stay.end_ms - stay.start_ms}, takes {takes}")
    if stay.start_ms < max(task.earliest_start_ms, machine.ready_ms):
        yield Flaw(where=task.task_id, what=f"starts at {stay.start_ms}: too early")
    own = task.latest_finish_ms
    if stay.end_ms > workload.deadline_ms or (own is not None and stay.end_ms > own):
        yield Flaw(where=task.task_id, what=f"ends at {stay.end_ms}: too late")
    if task.machines is not None and machine.name not in task.machines:
        yield Flaw(where=task.task_id, what=f"may not use {machine.name}")


def _order_flaws(tasks: Sequence[Task], placed: dict[str, PlannedStay]) -> Iterable[Flaw]:
    for task in tasks:
        for parent in task.parents:
            if task.task_id in placed and parent in placed:
                start, end = placed[task.task_id].start_ms, placed[parent].end_ms
                if start < end:
                    what = f"starts at {start}, {parent} ends at {end}"
                    yield Flaw(where=task.task_id, what=what)


def _missing(workload: Workload, plan: JointPlan, placed: dict[str, PlannedStay]) -> Iterable[Flaw]:
    for task in workload.tasks:
        if (task.task_id in placed) == (task.task_id in plan.unplaced):
            yield Flaw(where=task.task_id, what="neither placed nor named as unplaced, or both")


def _load_flaws(cu: PlannedCU, machine: MachineType, tasks: dict[str, Task]) -> Iterable[Flaw]:
    for name in ("cpu_millis", "memory_bytes", "gpu_count"):
        changes: dict[int, int] = defaultdict(int)
        for stay in cu.stays:
            amount = getattr(tasks[stay.task_id], name) if stay.task_id in tasks else 0
            changes[stay.start_ms] += amount
            changes[stay.end_ms] -= amount
        held = 0
        for moment in sorted(changes):
            held += changes[moment]
            if held > getattr(machine, name):
                what = f"{name}: {held} held at {moment} ms, {getattr(machine, name)} there"
                yield Flaw(where=cu.cu_id, what=what)
                break


def _bill_flaws(cu: PlannedCU, machine: MachineType) -> Iterable[Flaw]:
    span = cu.end_ms - cu.start_ms
    billed, cost = machine.billed_ms(span), machine.cost_microusd(span)
    if (cu.billed_ms, cu.cost_microusd) != (billed, cost):
        what = f"bill is {billed} ms, {cost}; not {cu.billed_ms} ms, {cu.cost_microusd}"
        yield Flaw(where=cu.cu_id, what=what)


def _unit_flaws(cus: Sequence[PlannedCU], machines: dict[str, MachineType]) -> Iterable[Flaw]:
    names = [cu.cu_id for cu in cus]
    if len(set(names)) != len(names):
        yield Flaw(where="plan", what="two CUs of one cu_id")
    for name, machine in sorted(machines.items()):
        if machine.quantity is None:
            continue
        changes: dict[int, int] = defaultdict(int)
        for cu in cus:
            if cu.machine == name and cu.stays:
                changes[cu.start_ms - machine.startup_ms] += 1
                changes[cu.end_ms] -= 1
        held = 0
        for moment in sorted(changes):
            held += changes[moment]
            if held > machine.quantity:
                what = f"{held} units at {moment} ms, {machine.quantity} there"
                yield Flaw(where=name, what=what)
                break
