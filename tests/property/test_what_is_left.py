"""Replans of random runs at a random moment: they can be run, and are the same for any order."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from joint_workloads import SIZES, graphs

from cu_market.dnm.renegotiation import HeldCU, Place, Replanner, Spread
from cu_market.dnm.schedule import (
    Budget,
    JointPlan,
    Task,
    Workload,
    plan_workload,
)


class Moment:
    """A run as it is at some time: what was started ran late or ended early.

    Args:
        plan: what was planned.
        at_ms: the time.
        factors: how long each step runs, of its forecast.
    """

    def __init__(
        self, workload: Workload, plan: JointPlan, at_ms: int, factors: dict[str, float]
    ) -> None:
        self.ends: dict[str, int] = {}
        self.places: dict[str, Place] = {}
        started: dict[str, list[tuple[str, int, int]]] = {}
        homes = {stay.task_id: (cu, stay) for cu in plan.cus for stay in cu.stays}
        for i in workload.order:
            task = workload.tasks[i]
            cu, stay = homes[task.task_id]
            is_free = all(self.ends.get(p, at_ms) < at_ms for p in task.parents)
            takes = stay.end_ms - stay.start_ms
            if stay.start_ms < at_ms and is_free:
                runs = max(1, round(takes * factors[task.task_id]))
                end = stay.start_ms + runs
                if stay.end_ms <= at_ms:  # something may have followed in its room
                    end = min(end, stay.end_ms)
                self.ends[task.task_id] = end
                started.setdefault(cu.cu_id, []).append((task.task_id, stay.start_ms, end))
            else:
                self.places[task.task_id] = Place(
                    cu_id=cu.cu_id, machine=cu.machine, start_ms=stay.start_ms
                )
        machines = {cu.cu_id: cu.machine for cu in plan.cus}
        self.held = [
            HeldCU(cu_id=name, machine=machines[name], stays=tuple(stays))
            for name, stays in started.items()
        ]
        self.ready = [
            name
            for name in self.places
            if all(self.ends.get(p, at_ms + 1) <= at_ms for p in task_of(workload, name).parents)
        ]


def task_of(workload: Workload, name: str) -> Task:
    return workload.tasks[workload.index[name]]


@settings(max_examples=80, deadline=None)
@given(
    graphs(least=2),
    st.sampled_from([100_000, 700_000, 2_000_000]),
    st.floats(0.0, 1.0),
    st.randoms(use_true_random=False),
    st.sampled_from([0.0, 0.3]),
)
def test_what_is_left_is_planned_where_it_can_run(
    tasks: tuple[Task, ...], deadline_ms: int, share: float, draws: random.Random, sigma: float
) -> None:
    workload = Workload(tasks=tasks, machines=SIZES, deadline_ms=deadline_ms)
    budget = Budget(limit_seconds=600, rounds=20, gap=0.0)
    plan = plan_workload(workload, solver=None, budget=budget)
    if plan.unplaced:
        return
    at_ms = round(share * plan.finish_ms)
    factors = {task.task_id: draws.uniform(0.3, 3.0) for task in tasks}
    moment = Moment(workload, plan, at_ms, factors)
    spreads = {task.task_id: Spread(sigma=sigma) for task in tasks} if sigma else {}

    def revise() -> dict[str, Place]:
        asked = Replanner(workload, spreads=spreads, bill_microusd=plan.cost_microusd)
        return asked.revise(at_ms, moment.held, moment.places, moment.ready)

    found = revise()
    assert set(found) == set(moment.places)
    check(workload, moment, at_ms, found)
    draws.shuffle(moment.ready)
    moment.places = dict(sorted(moment.places.items(), key=lambda _: draws.random()))
    assert revise() == found


def check(
    workload: Workload,
    moment: Moment,
    at_ms: int,
    found: dict[str, Place],
) -> None:
    """Each step once, from now on, after its parents, and no CU holds more than it has."""
    ends = dict(moment.ends)
    for name, place in found.items():
        ends[name] = place.start_ms + task_of(workload, name).duration_ms
        assert place.start_ms >= at_ms
    for name, place in found.items():
        for parent in task_of(workload, name).parents:
            assert ends[parent] <= place.start_ms
    machines = {machine.name: machine for machine in workload.machines}
    types = {cu.cu_id: cu.machine for cu in moment.held}
    spans: dict[str, list[tuple[int, str]]] = {
        cu.cu_id: [(start, name) for name, start, end in cu.stays if end > at_ms]
        for cu in moment.held
    }
    for name, place in found.items():
        assert types.setdefault(place.cu_id, place.machine) == place.machine
        spans.setdefault(place.cu_id, []).append((place.start_ms, name))
    for cu_id, there in spans.items():
        machine = machines[types[cu_id]]
        for moment_ms, _ in there:
            now = max(moment_ms, at_ms)
            holding = [task_of(workload, n) for start, n in there if start <= now < ends[n]]
            assert sum(task.cpu_millis for task in holding) <= machine.cpu_millis
            assert sum(task.memory_bytes for task in holding) <= machine.memory_bytes
