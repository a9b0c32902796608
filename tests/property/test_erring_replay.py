"""With forecasts that err, a replay still runs every task once, in order, in room that is paid."""

from __future__ import annotations

import random
from collections import defaultdict

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from joint_workloads import SIZES, graphs

from cu_market.dnm.renegotiation import Spread
from cu_market.dnm.schedule import Budget, Task, Workload, plan_workload
from cu_market.sim.replay import Replay
from cu_market.sim.setting import Setting, Stay


@settings(max_examples=25, deadline=None)
@given(
    graphs(),
    st.sampled_from([100_000, 700_000, 2_000_000]),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_a_replay_whose_forecasts_err_is_a_run(
    tasks: tuple[Task, ...], deadline_ms: int, draws: random.Random, outgrows: bool
) -> None:
    truth = Workload(tasks=tasks, machines=SIZES, deadline_ms=deadline_ms)
    told = {task.task_id: max(1, round(task.duration_ms * draws.uniform(0.4, 2))) for task in tasks}
    guessed = tuple(
        Task(
            task_id=task.task_id,
            duration_ms=told[task.task_id],
            cpu_millis=task.cpu_millis,
            memory_bytes=task.memory_bytes,
            parents=task.parents,
        )
        for task in tasks
    )
    budget = Budget(limit_seconds=600, rounds=20, gap=0.0)
    plan = plan_workload(
        Workload(tasks=guessed, machines=SIZES, deadline_ms=deadline_ms), solver=None, budget=budget
    )
    assume(not plan.unplaced)
    setting = Setting(
        workload=truth,
        expected_ms=told,
        spreads={task.task_id: Spread(sigma=0.3) for task in tasks},
        plan=plan,
        reserved={task.task_id: task.memory_bytes for task in tasks} if outgrows else {},
        peaks={tasks[0].task_id: tasks[0].memory_bytes + 1} if outgrows else {},
    )
    outcome = Replay(setting).run()
    assert outcome == Replay(setting).run()
    assert outcome.failed_attempts == int(outgrows)
    check(truth, outcome.stays)
    assert outcome.cost_microusd == bill(truth, outcome.stays)


def check(workload: Workload, stays: tuple[Stay, ...]) -> None:
    """Each task ends well once, after its parents; no CU holds more than its type has."""
    tasks = {task.task_id: task for task in workload.tasks}
    done = {stay.task_id: stay for stay in stays if not stay.has_failed}
    assert set(done) == set(tasks)
    assert sum(not stay.has_failed for stay in stays) == len(tasks)
    for stay in stays:
        assert all(done[p].end_ms <= stay.start_ms for p in tasks[stay.task_id].parents)
    machines = {machine.name: machine for machine in workload.machines}
    for cu in by_cu(stays).values():
        size = machines[cu[0].machine]
        for moment in cu:
            there = [s for s in cu if s.start_ms <= moment.start_ms < s.end_ms]
            assert sum(tasks[s.task_id].cpu_millis for s in there) <= size.cpu_millis
            assert sum(s.memory_bytes for s in there) <= size.memory_bytes


def bill(workload: Workload, stays: tuple[Stay, ...]) -> int:
    """Each CU from its first start to its last end, recomputed from the attempts."""
    machines = {machine.name: machine for machine in workload.machines}
    return sum(
        machines[cu[0].machine].cost_microusd(
            round(max(s.end_ms for s in cu) - min(s.start_ms for s in cu))
        )
        for cu in by_cu(stays).values()
    )


def by_cu(stays: tuple[Stay, ...]) -> dict[str, list[Stay]]:
    found: dict[str, list[Stay]] = defaultdict(list)
    for stay in stays:
        found[stay.cu_id].append(stay)
    return found
