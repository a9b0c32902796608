"""Joint plans: always verified, never above one machine, the same in any order of arrival."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joint_workloads import GIB, machines_of, tasks_of, workloads

from cu_market.dnm.programs.linear import LinearAnswer, LinearProgram
from cu_market.dnm.programs.solve import InProcessSolver
from cu_market.dnm.schedule import (
    Budget,
    JointPlan,
    MachineType,
    Task,
    Workload,
    flaws,
    plan_workload,
)
from cu_market.dnm.schedule.bundle import FAR, Catalogue, Stay, make, without
from cu_market.dnm.schedule.certificate import Prices, certify
from cu_market.dnm.schedule.packing import empty
from cu_market.dnm.schedule.seeds import finish_ms, list_schedule, meets
from cu_market.domain.problem import InvalidInputError

BUDGET = Budget(limit_seconds=600, rounds=600, gap=0.0)


def planned(workload: Workload, solver: object = None) -> JointPlan:
    return plan_workload(workload, solver=solver, budget=BUDGET)  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(workloads())
def test_every_plan_passes_the_independent_checker(workload: Workload) -> None:
    check_plan(workload)


@pytest.mark.by_hand
@pytest.mark.timeout(3600)
@settings(max_examples=10_000, deadline=None, derandomize=True, database=None)
@given(workloads())
def test_ten_thousand_plans_pass_the_independent_checker(workload: Workload) -> None:
    check_plan(workload)


def check_plan(workload: Workload) -> None:
    plan = planned(workload)
    assert not flaws(workload, plan)
    for machine in workload.machines:
        if machine.quantity is None:
            alone = list_schedule(workload, machine, 1)
            if alone is not None and meets(workload, alone):
                assert not plan.unplaced
                first = min(stay.start_ms for host in alone for stay in host)
                assert plan.cost_microusd <= machine.cost_microusd(finish_ms(alone) - first)


@settings(max_examples=20, deadline=None)
@given(workloads(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_changes_nothing(workload: Workload, random: object) -> None:
    tasks, machines = list(workload.tasks), list(workload.machines)
    random.shuffle(tasks)  # type: ignore[attr-defined]
    random.shuffle(machines)  # type: ignore[attr-defined]
    mixed = Workload(tasks=tuple(tasks), machines=tuple(machines), deadline_ms=workload.deadline_ms)
    first, second = planned(workload), planned(mixed)
    assert first.cus == second.cus
    assert set(first.unplaced) == set(second.unplaced)


@settings(max_examples=20, deadline=None)
@given(
    workloads(),
    st.lists(st.floats(0, 1e12), min_size=3, max_size=12),
    st.lists(st.integers(1, 3_000_000), min_size=2, max_size=6, unique=True),
)
def test_any_prices_give_a_bound_below_every_plan(
    workload: Workload, values: list[float], moments: list[int]
) -> None:
    plan = planned(workload)
    if plan.unplaced:
        return
    catalogue = Catalogue(workload)
    edges = tuple(sorted(moments))
    triples = [tuple(values[(3 * t + d) % len(values)] for d in range(3)) for t in range(9)]
    prices = Prices(
        edges=edges,
        capacity=tuple((c, m / 2**30, g) for c, m, g in triples[: len(edges) - 1]),
        precedence={
            (p, c): values[(p + c) % len(values)]
            for c, parents in enumerate(workload.parents)
            for p in parents
        },
    )
    assert certify(catalogue, empty(catalogue).windows, prices) <= plan.cost_microusd


class Hostile:
    """Answers every program with one value and one dual everywhere, or fails."""

    def __init__(self, value: float, dual: float, *, is_dead: bool) -> None:
        self.value, self.dual, self.is_dead = value, dual, is_dead

    def solve_linear(
        self, program: LinearProgram, *, limit_seconds: float, gap: float = 0.0
    ) -> LinearAnswer:
        if self.is_dead:
            return LinearAnswer(failure="died", is_cut=True)
        return LinearAnswer(
            solver="liar",
            values=(self.value,) * len(program.costs),
            duals=(self.dual,) * len(program.rows),
        )


HOSTILE = st.builds(
    Hostile,
    st.sampled_from([0.0, 0.5, 1.0, -7.0, 1e9]),
    st.sampled_from([0.0, 1.0, -1.0, 1e200, float("inf"), float("nan")]),
    is_dead=st.booleans(),
)


@settings(max_examples=20, deadline=None)
@given(workloads(), HOSTILE)
def test_a_hostile_solver_changes_nothing_but_the_gap(workload: Workload, solver: Hostile) -> None:
    plan, alone = planned(workload, solver), planned(workload)
    assert not flaws(workload, plan)
    assert (plan.cus, plan.unplaced) == (alone.cus, alone.unplaced)


def test_the_checker_sees_every_kind_of_tampering() -> None:
    machine = MachineType(
        name="m", cpu_millis=2000, memory_bytes=GIB, price_microusd_per_hour=3_600_000
    )
    workload = Workload(
        tasks=(
            Task(task_id="a", duration_ms=10),
            Task(task_id="b", duration_ms=10, parents=("a",)),
            Task(task_id="c", duration_ms=10, cpu_millis=2000),
        ),
        machines=(replace(machine, quantity=1),),
        deadline_ms=100,
    )
    plan = planned(workload, InProcessSolver())
    [cu] = plan.cus
    assert not flaws(workload, plan)
    a, b, c = sorted(cu.stays, key=lambda stay: stay.task_id)

    def told(*cus: object, **changes: object) -> str:
        changed = replace(plan, **({"cus": cus or plan.cus} | changes))  # type: ignore[arg-type]
        return " ".join(map(str, flaws(workload, changed)))

    assert "costs 30, not 1" in told(cost_microusd=1)
    assert "bound 31 above cost 30" in told(bound_microusd=31)
    assert "neither placed nor named" in told(replace(cu, stays=(a, b)))
    assert "unknown, or twice" in told(replace(cu, stays=(a, b, c, c)))
    assert "no such type" in told(replace(cu, machine="x"))
    assert "bill is 30 ms" in told(replace(cu, billed_ms=1))
    assert "too late" in told(replace(cu, stays=(a, b, replace(c, start_ms=95, end_ms=105))))
    assert "too early" in told(replace(cu, stays=(replace(a, start_ms=-5, end_ms=5), b, c)))
    assert "stays 11, takes 10" in told(replace(cu, stays=(replace(a, end_ms=11), b, c)))
    moved = replace(b, start_ms=a.start_ms, end_ms=a.end_ms)
    assert "a ends at" in told(replace(cu, stays=(a, moved, c)))
    crowded = replace(c, start_ms=a.start_ms, end_ms=a.end_ms)
    assert "cpu_millis: 3000 held" in told(replace(cu, stays=(a, b, crowded)))
    other = replace(cu, cu_id="m#2", stays=(replace(c, start_ms=b.start_ms, end_ms=b.end_ms),))
    assert "2 units at" in told(replace(cu, stays=(a, b)), other)


def test_bad_input_is_told_all_at_once() -> None:
    with pytest.raises(InvalidInputError) as caught:
        Workload(
            tasks=(
                Task(task_id="a", duration_ms=0, cpu_millis=0),
                Task(task_id="a", duration_ms=1, parents=("z",)),
            ),
            machines=(
                MachineType(name="m", cpu_millis=0, memory_bytes=1, price_microusd_per_hour=-1),
            ),
            deadline_ms=1,
        )
    assert [problem.where for problem in caught.value.problems] == [
        "Task.task_id",
        "Task 'a'",
        "Task 'a'.duration_ms",
        "Task 'a'.parents",
        "MachineType 'm'.cpu_millis",
        "MachineType 'm'.price_microusd_per_hour",
    ]
    with pytest.raises(InvalidInputError, match="a cycle"):
        Workload(
            tasks=(
                Task(task_id="a", duration_ms=1, parents=("b",)),
                Task(task_id="b", duration_ms=1, parents=("a",)),
            ),
            machines=(),
            deadline_ms=1,
        )


@settings(max_examples=200, deadline=None)
@given(machines_of(), st.integers(0, 10**12))
def test_the_longest_time_for_a_cost_costs_no_more_and_the_next_moment_does(
    machines: tuple[MachineType, ...], cost: int
) -> None:
    catalogue = Catalogue(Workload(tasks=(), machines=machines, deadline_ms=1))
    for kind in range(len(catalogue.machines)):
        span = catalogue.longest(kind, cost)
        if span < 0:
            assert catalogue.cost(kind, 0) > cost
        elif span < FAR:
            assert catalogue.cost(kind, span) <= cost < catalogue.cost(kind, span + 1)
        else:
            assert not catalogue.prices[kind]


@settings(max_examples=100, deadline=None)
@given(tasks_of(), st.lists(st.integers(0, 5), min_size=9, max_size=9), st.sets(st.integers(0, 8)))
def test_a_cu_without_some_tasks_is_the_cu_of_the_others(
    tasks: tuple[Task, ...], starts: list[int], gone: set[int]
) -> None:
    large = MachineType(
        name="m0",
        cpu_millis=64_000,
        memory_bytes=512 * GIB,
        gpu_count=16,
        price_microusd_per_hour=9_000_000,
    )
    small = replace(large, name="m1", cpu_millis=8_000, price_microusd_per_hour=1_000_000)
    catalogue = Catalogue(Workload(tasks=tasks, machines=(large, small), deadline_ms=10**9))
    stays = [
        Stay(10_000 * starts[i], 10_000 * starts[i] + catalogue.fastest(i), i)
        for i in range(len(tasks))
    ]
    whole = make(catalogue, stays, catalogue.speeds[0])
    assert whole is not None
    kept = [stay for stay in stays if stay.task not in gone]
    expected = make(catalogue, kept, catalogue.speeds[0]) if kept else None
    assert without(catalogue, whole, gone) == expected
