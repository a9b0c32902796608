"""Ways of running a workflow, each as a plan of CUs: what the market's joint plan is held against.

static: the cheapest type that holds the peaks of the earliest-start schedule, or where none does
the largest; its list schedule, longest tail first, sets the finish. right-sized: the cheapest
single machine that meets the deadline. one-per-step: each task on the cheapest CU of its own.
round-robin: tasks in turn on as many of the cheapest type that holds any task as the widest moment
needs. greedy: each task at its earliest start, in free room of a CU that runs anyway or on the
cheapest new CU, and nothing is moved afterwards. skypilot-like: one CU a step, chosen by price an
hour since every step is taken to last for one, unless its kind is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from cu_market.dnm.programs.linear import LinearSolver
from cu_market.dnm.programs.solve import Clock
from cu_market.dnm.schedule import (
    Budget,
    JointPlan,
    MachineType,
    PlannedCU,
    PlannedStay,
    Task,
    Workload,
    plan_workload,
)
from cu_market.dnm.schedule.bundle import Stay, peak_of, profile
from cu_market.dnm.schedule.packing import windows
from cu_market.dnm.schedule.seeds import finish_ms, list_schedule, meets
from cu_market.sim.paths import tails_ms

FOREVER_MS = 10**12

SKYPILOT_LIKE = "skypilot-like"

NOTHING: Mapping[str, int] = MappingProxyType({})


def static_plan(tasks: Sequence[Task], machines: Sequence[MachineType]) -> JointPlan:
    """Returns the plan of a machine bought for the peak, kept for the whole run.

    Where no type holds the peak, people buy the largest: the most cores and memory of those that
    hold each task, and of equal ones the cheapest.

    Args:
        tasks: some type holds each of them (``sim.recorded.problems_of`` says where none does).
        machines: types that can be had.
    """
    workload = Workload(tasks=tuple(tasks), machines=tuple(machines), deadline_ms=FOREVER_MS)
    starts = windows(workload, [task.duration_ms for task in tasks]).earliest
    stays = [
        Stay(start, start + task.duration_ms, i)
        for i, (start, task) in enumerate(zip(starts, tasks, strict=True))
    ]
    loads = [(t.cpu_millis, t.memory_bytes, 0) for t in tasks]
    cpu, memory, _ = peak_of(profile(stays, loads)[1])
    holding = [m for m in machines if m.cpu_millis >= cpu and m.memory_bytes >= memory]
    if holding:
        best = min(holding, key=lambda m: (m.price_microusd_per_hour, m.name))
    else:
        best = max(
            _holding_each(tasks, machines),
            key=lambda m: (m.cpu_millis, m.memory_bytes, -m.price_microusd_per_hour, m.name),
        )
    hosts = list_schedule(workload, best, 1)
    assert hosts is not None  # it holds each of them
    return _plan_of(workload, best, hosts)


def _holding_each(tasks: Sequence[Task], machines: Sequence[MachineType]) -> list[MachineType]:
    """Returns the types that hold each of the tasks, if not all at once."""
    cpu, memory = max(t.cpu_millis for t in tasks), max(t.memory_bytes for t in tasks)
    return [m for m in machines if m.cpu_millis >= cpu and m.memory_bytes >= memory]


def right_sized_plan(workload: Workload) -> JointPlan | None:
    """Returns the cheapest single machine's plan that meets the deadline, or None."""
    found = []
    for machine in workload.machines:
        hosts = list_schedule(workload, machine, 1)
        if hosts is not None and meets(workload, hosts):
            found.append((machine.cost_microusd(finish_ms(hosts)), machine.name, machine, hosts))
    if not found:
        return None
    _, _, machine, hosts = min(found, key=lambda each: each[:2])
    return _plan_of(workload, machine, hosts)


def one_per_step_plan(workload: Workload) -> JointPlan:
    """Returns each task on the cheapest CU of its own."""
    return _one_each(workload, lambda task: _cheapest_for(workload.machines, task))


def skypilot_like_plan(workload: Workload, known_ms: Mapping[str, int] = NOTHING) -> JointPlan:
    """Returns each task on a CU of its own: the cheapest for as long as its kind is known to take,
    else the one of the lowest price an hour.

    Args:
        workload: what is to run.
        known_ms: what is known of durations, by task.
    """
    by_hour = [replace(m, startup_ms=0, minimum_ms=3_600_000) for m in workload.machines]
    named = {machine.name: machine for machine in workload.machines}

    def choose(task: Task) -> MachineType:
        takes = known_ms.get(task.task_id)
        if takes is None:
            return named[_cheapest_for(by_hour, task).name]
        return _cheapest_for(workload.machines, replace(task, duration_ms=takes))

    return _one_each(workload, choose)


def _one_each(workload: Workload, choose: Callable[[Task], MachineType]) -> JointPlan:
    starts = windows(workload, [task.duration_ms for task in workload.tasks]).earliest
    cus = []
    for k, (task, start) in enumerate(zip(workload.tasks, starts, strict=True)):
        machine = choose(task)
        cus.append(_cu(f"{machine.name}/{k}", machine, [(task.task_id, start, task.duration_ms)]))
    return _joint(cus, "one CU a step")


def round_robin_plan(workload: Workload) -> JointPlan:
    """Returns the tasks dealt out in turn over a pool of equal CUs."""
    tasks = workload.tasks
    holding = _holding_each(tasks, workload.machines)
    machine = min(holding, key=lambda m: (m.price_microusd_per_hour, m.name))
    starts = windows(workload, [task.duration_ms for task in tasks]).earliest
    widest = _widest(starts, tasks)
    count = max(1, -(-widest // machine.cpu_millis))
    dealt: list[list[tuple[str, int, int]]] = [[] for _ in range(count)]
    for k, i in enumerate(sorted(range(len(tasks)), key=lambda i: (starts[i], i))):
        dealt[k % count].append((tasks[i].task_id, starts[i], tasks[i].duration_ms))
    cus = [_cu(f"{machine.name}/{k}", machine, held) for k, held in enumerate(dealt) if held]
    return _joint(cus, "round robin")


def greedy_plan(workload: Workload) -> JointPlan:
    """Returns each task at its earliest start where it adds least to the bill at that moment."""
    tasks = workload.tasks
    starts = windows(workload, [task.duration_ms for task in tasks]).earliest
    loads = [(t.cpu_millis, t.memory_bytes, t.gpu_count) for t in tasks]
    cus: list[tuple[MachineType, list[Stay]]] = []
    for i in sorted(workload.order, key=lambda i: (starts[i], i)):
        stay = Stay(starts[i], starts[i] + tasks[i].duration_ms, i)
        machine = _cheapest_for(workload.machines, tasks[i])
        options = []
        for k, (held, stays) in enumerate(cus):
            both = [*stays, stay]
            cpu, memory, _ = peak_of(profile(both, loads)[1])
            if cpu <= held.cpu_millis and memory <= held.memory_bytes:
                added = held.cost_microusd(_span_ms(both)) - held.cost_microusd(_span_ms(stays))
                options.append((added, k))
        best = min(options, default=None)
        if best is not None and best[0] <= machine.cost_microusd(tasks[i].duration_ms):
            cus[best[1]][1].append(stay)
        else:
            cus.append((machine, [stay]))
    made = [
        _cu(
            f"{machine.name}/{k}",
            machine,
            [(tasks[s.task].task_id, s.start_ms, s.end_ms - s.start_ms) for s in stays],
        )
        for k, (machine, stays) in enumerate(cus)
    ]
    return _joint(made, "greedy")


def _span_ms(stays: Sequence[Stay]) -> int:
    return max(stay.end_ms for stay in stays) - min(stay.start_ms for stay in stays)


def market_plan(
    workload: Workload, *, solver: LinearSolver | None, budget: Budget, clock: Clock
) -> JointPlan:
    """Returns the production planner's plan; a deadline that forecasts say cannot be met gives way
    to the earliest finish that they allow."""
    takes = {task.task_id: task.duration_ms for task in workload.tasks}
    longest = max(tails_ms(workload.tasks, takes).values(), default=0)
    kept = replace(workload, deadline_ms=max(workload.deadline_ms, longest))
    return plan_workload(kept, solver=solver, budget=budget, clock=clock)


BASELINES: Mapping[str, Callable[[Workload], JointPlan | None]] = {
    "right-sized": right_sized_plan,
    "one-per-step": one_per_step_plan,
    "greedy": greedy_plan,
    "round-robin": round_robin_plan,
    SKYPILOT_LIKE: skypilot_like_plan,
}


def _cheapest_for(machines: Sequence[MachineType], task: Task) -> MachineType:
    """Returns the machine on which the task alone costs least."""
    return min(
        (
            m
            for m in machines
            if m.cpu_millis >= task.cpu_millis and m.memory_bytes >= task.memory_bytes
        ),
        key=lambda m: (m.cost_microusd(m.duration_ms(task)), m.name),
    )


def _plan_of(
    workload: Workload, machine: MachineType, hosts: Sequence[Sequence[Stay]]
) -> JointPlan:
    tasks = workload.tasks
    return _joint(
        [
            _cu(
                f"{machine.name}/{k}",
                machine,
                [(tasks[s.task].task_id, s.start_ms, s.end_ms - s.start_ms) for s in stays],
            )
            for k, stays in enumerate(hosts)
            if stays
        ],
        f"one {machine.name}",
    )


def _cu(name: str, machine: MachineType, held: Sequence[tuple[str, int, int]]) -> PlannedCU:
    stays = tuple(
        PlannedStay(task_id=task_id, start_ms=start, end_ms=start + takes)
        for task_id, start, takes in sorted(held, key=lambda each: (each[1], each[0]))
    )
    span = max(s.end_ms for s in stays) - min(s.start_ms for s in stays)
    return PlannedCU(
        cu_id=name,
        machine=machine.name,
        stays=stays,
        billed_ms=machine.billed_ms(span),
        cost_microusd=machine.cost_microusd(span),
    )


def _joint(cus: Sequence[PlannedCU], found_by: str) -> JointPlan:
    cost = sum(cu.cost_microusd for cu in cus)
    return JointPlan(cus=tuple(cus), cost_microusd=cost, bound_microusd=0, found_by=found_by)


def _widest(starts: Sequence[int], tasks: Sequence[Task]) -> int:
    return max(_levels(starts, tasks), default=0)


def _levels(starts: Sequence[int], tasks: Sequence[Task]) -> Iterator[int]:
    changes = [(start, task.cpu_millis) for start, task in zip(starts, tasks, strict=True)]
    changes += [
        (start + task.duration_ms, -task.cpu_millis)
        for start, task in zip(starts, tasks, strict=True)
    ]
    level = 0
    for _, amount in sorted(changes):
        level += amount
        yield level
