"""Joint plans and their bounds against brute force over every start, partition and type.

The brute force shares no code with the planner but the records: times are small whole numbers, so
that every start can be tried.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cu_market.dnm.programs.solve import InProcessSolver
from cu_market.dnm.schedule import Budget, MachineType, Task, Workload, flaws, plan_workload

PRICE = 3_600_000  # one micro-dollar a millisecond


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    """Up to four tasks of one to four milliseconds on up to three types, one of which holds all."""
    count = draw(st.integers(1, 4))
    tasks = tuple(
        Task(
            task_id=f"t{i}",
            duration_ms=draw(st.integers(1, 4)),
            cpu_millis=draw(st.integers(1, 2)),
            memory_bytes=draw(st.integers(0, 3)),
            parents=tuple(f"t{j}" for j in range(i) if draw(st.integers(0, 3)) == 0),
            earliest_start_ms=draw(st.sampled_from([0, 0, 1])),
        )
        for i in range(count)
    )
    largest = MachineType(
        name="large",
        cpu_millis=4,
        memory_bytes=6,
        price_microusd_per_hour=draw(st.integers(2, 6)) * PRICE,
        startup_ms=draw(st.integers(0, 2)),
        minimum_ms=draw(st.integers(0, 4)),
    )
    others = tuple(
        MachineType(
            name=f"m{k}",
            cpu_millis=draw(st.integers(1, 3)),
            memory_bytes=draw(st.integers(0, 4)),
            price_microusd_per_hour=draw(st.integers(1, 4)) * PRICE,
            startup_ms=largest.startup_ms,
            minimum_ms=largest.minimum_ms,
        )
        for k in range(draw(st.integers(0, 2)))
    )
    earliest = 0
    for task in tasks:
        earliest = max(earliest, task.earliest_start_ms) + task.duration_ms
    return Workload(
        tasks=tasks,
        machines=(largest, *others),
        deadline_ms=max(4, earliest + draw(st.integers(-4, 1))),
    )


def partitions(items: Sequence[int]) -> Iterator[list[list[int]]]:
    """Every way to put items into groups."""
    if not items:
        yield []
        return
    head, *rest = items
    for groups in partitions(rest):
        yield [[head], *groups]
        for k in range(len(groups)):
            yield [*groups[:k], [head, *groups[k]], *groups[k + 1 :]]


def cheapest_bill(workload: Workload, group: Sequence[int], starts: Sequence[int]) -> int | None:
    """The least bill of one CU for these tasks at these starts, moment by moment."""
    tasks = [workload.tasks[i] for i in group]
    begin = min(starts[i] for i in group)
    end = max(starts[i] + workload.tasks[i].duration_ms for i in group)
    cpu = memory = 0
    for moment in range(begin, end):
        held = [
            t
            for i, t in zip(group, tasks, strict=True)
            if starts[i] <= moment < starts[i] + t.duration_ms
        ]
        cpu = max(cpu, sum(t.cpu_millis for t in held))
        memory = max(memory, sum(t.memory_bytes for t in held))
    bills = [
        m.price_microusd_per_hour // PRICE * max(m.startup_ms + end - begin, m.minimum_ms)
        for m in workload.machines
        if m.cpu_millis >= cpu and m.memory_bytes >= memory
    ]
    return min(bills, default=None)


def optimum(workload: Workload) -> int | None:
    """The least cost of any schedule; None where no schedule ends in time."""
    count = len(workload.tasks)
    best: int | None = None
    known: dict[tuple[tuple[int, int], ...], int | None] = {}
    options = [
        range(t.earliest_start_ms, workload.deadline_ms - t.duration_ms + 1) for t in workload.tasks
    ]
    for starts in itertools.product(*options):
        if any(
            starts[i] < starts[workload.index[p]] + workload.tasks[workload.index[p]].duration_ms
            for i, t in enumerate(workload.tasks)
            for p in t.parents
        ):
            continue
        for groups in partitions(range(count)):
            total = 0
            for group in groups:
                key = tuple((i, starts[i]) for i in group)
                if key not in known:
                    known[key] = cheapest_bill(workload, group, starts)
                bill = known[key]
                total = total + bill if bill is not None else 10**9
            best = total if best is None else min(best, total)
    return best if best is not None and best < 10**9 else None


@settings(max_examples=150, deadline=None)
@given(workloads())
def test_the_optimum_is_met_and_no_bound_is_above_it(workload: Workload) -> None:
    check_against_brute_force(workload)


@pytest.mark.by_hand
@pytest.mark.timeout(3600)
@settings(max_examples=1000, deadline=None, derandomize=True, database=None)
@given(workloads())
def test_a_thousand_bounds_and_plans_against_brute_force(workload: Workload) -> None:
    check_against_brute_force(workload)


def check_against_brute_force(workload: Workload) -> None:
    best = optimum(workload)
    plan = plan_workload(
        workload, solver=InProcessSolver(), budget=Budget(limit_seconds=600, rounds=600, gap=0.0)
    )
    assert not flaws(workload, plan)
    if best is None:
        assert plan.unplaced
        return
    assert not plan.unplaced
    assert plan.bound_microusd <= best
    assert plan.cost_microusd == best
