"""What is to be scheduled: a graph of tasks with a finish time, and machines that can be had."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.domain.units import MILLIS, lease_cost_microusd


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One step: what it holds while it runs, how long, and what it waits for.

    Attributes:
        task_id: unique in a workload.
        duration_ms: on a machine of performance 1000; at least 1.
        cpu_millis, memory_bytes, gpu_count: held from its start to its end.
        parents: task_ids that must end first.
        earliest_start_ms: after the plan's time, before dependencies.
        latest_finish_ms: after the plan's time; None leaves the workload's deadline alone.
        machines: names of the types that it may use; None for any.
    """

    task_id: str
    duration_ms: int
    cpu_millis: int = 1000
    memory_bytes: int = 0
    gpu_count: int = 0
    parents: tuple[str, ...] = ()
    earliest_start_ms: int = 0
    latest_finish_ms: int | None = None
    machines: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineType:
    """A CU that can be had whole, any number of times unless a quantity is given.

    Attributes:
        name: unique in a workload.
        cpu_millis, memory_bytes, gpu_count: what tasks on one can hold together.
        price_microusd_per_hour: of one.
        performance_millis: speed, 1000 being the one durations are given for.
        startup_ms: billed before the first task's start.
        ready_ms: no task can start on one before this moment after the plan's time.
        minimum_ms: billed at least.
        billing_step_ms: billed time is rounded up to a multiple of this.
        quantity: how many at once, or None for any number.
    """

    name: str
    cpu_millis: int
    memory_bytes: int
    gpu_count: int = 0
    price_microusd_per_hour: int
    performance_millis: int = 1000
    startup_ms: int = 0
    ready_ms: int = 0
    minimum_ms: int = 0
    billing_step_ms: int = 1
    quantity: int | None = None

    def duration_ms(self, task: Task) -> int:
        """Returns how long the task takes here, rounded up."""
        return -(-task.duration_ms * MILLIS // self.performance_millis)

    def billed_ms(self, span_ms: int) -> int:
        """Returns the billed time of one whose tasks span so long: max(startup + span, minimum)."""
        billed = max(self.startup_ms + span_ms, self.minimum_ms)
        return -(-billed // self.billing_step_ms) * self.billing_step_ms

    def cost_microusd(self, span_ms: int) -> int:
        """Returns the bill of one whose tasks span so long, rounded half-even once."""
        return lease_cost_microusd(self.price_microusd_per_hour, self.billed_ms(span_ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Tasks, machine types and the moment by which all must have ended.

    Attributes:
        tasks: ids unique, parents known, no cycle.
        machines: names unique.
        deadline_ms: after the plan's time.
    """

    tasks: tuple[Task, ...]
    machines: tuple[MachineType, ...]
    deadline_ms: int
    index: Mapping[str, int] = field(init=False, repr=False, compare=False)
    parents: tuple[tuple[int, ...], ...] = field(init=False, repr=False, compare=False)
    children: tuple[tuple[int, ...], ...] = field(init=False, repr=False, compare=False)
    order: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        problems = [*_task_problems(self.tasks), *_machine_problems(self.machines)]
        if problems:
            raise InvalidInputError(problems)
        index = {task.task_id: i for i, task in enumerate(self.tasks)}
        parents = tuple(tuple(sorted({index[p] for p in t.parents})) for t in self.tasks)
        children: list[list[int]] = [[] for _ in self.tasks]
        for i, before in enumerate(parents):
            for p in before:
                children[p].append(i)
        object.__setattr__(self, "index", index)
        object.__setattr__(self, "parents", parents)
        object.__setattr__(self, "children", tuple(map(tuple, children)))
        object.__setattr__(self, "order", _topological(self.tasks, parents, children))


def _task_problems(tasks: Sequence[Task]) -> list[Problem]:
    known = Counter(task.task_id for task in tasks)
    found = [
        Problem(where="Task.task_id", value=name, what="two tasks with one id", remedy="rename one")
        for name in sorted(known)
        if known[name] > 1
    ]
    for task in tasks:
        where = f"Task {task.task_id!r}"
        found += [
            Problem(
                where=f"{where}.parents",
                value=parent,
                what="no such task in this workload",
                remedy="name a task of it, or leave out what has already ended",
            )
            for parent in task.parents
            if parent not in known
        ]
        if not (task.cpu_millis or task.memory_bytes or task.gpu_count):
            found.append(
                Problem(
                    where=where,
                    value="0",
                    what="holds neither cores nor memory nor GPUs",
                    remedy="give what it holds: what holds nothing needs no CU",
                )
            )
        if task.duration_ms < 1:
            found.append(
                Problem(
                    where=f"{where}.duration_ms",
                    value=str(task.duration_ms),
                    what="below 1",
                    remedy="give at least a millisecond: what takes no time would need no room",
                )
            )
    return found


def _machine_problems(machines: Sequence[MachineType]) -> list[Problem]:
    names = Counter(machine.name for machine in machines)
    found = [
        Problem(
            where="MachineType.name", value=name, what="two types of one name", remedy="rename one"
        )
        for name in sorted(names)
        if names[name] > 1
    ]
    for machine in machines:
        for name in ("cpu_millis", "price_microusd_per_hour", "performance_millis"):
            if getattr(machine, name) < (0 if name.startswith("price") else 1):
                found.append(
                    Problem(
                        where=f"MachineType {machine.name!r}.{name}",
                        value=str(getattr(machine, name)),
                        what="too small",
                        remedy="give what the machine really has",
                    )
                )
    return found


def _topological(
    tasks: Sequence[Task], parents: Sequence[Sequence[int]], children: Sequence[Sequence[int]]
) -> tuple[int, ...]:
    missing = [len(before) for before in parents]
    order = [i for i, count in enumerate(missing) if count == 0]
    for i in order:  # grows while it is walked: Kahn's algorithm
        for child in children[i]:
            missing[child] -= 1
            if missing[child] == 0:
                order.append(child)
    if len(order) < len(tasks):
        stuck = sorted(tasks[i].task_id for i, count in enumerate(missing) if count > 0)
        raise InvalidInputError(
            [
                Problem(
                    where="Task.parents",
                    value=", ".join(stuck),
                    what="these wait for one another: a cycle, or behind one",
                    remedy="remove one dependency of the cycle",
                )
            ]
        )
    return tuple(order)
