"""With exact forecasts a replay is the plan: it costs and ends as the plan says."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cu_market.dnm.schedule import Budget, MachineType, Task, Workload, plan_workload
from cu_market.sim.replay import Replay
from cu_market.sim.setting import Setting

MACHINES = tuple(
    MachineType(
        name=f"m{cores}",
        cpu_millis=1000 * cores,
        memory_bytes=cores * 2**31,
        price_microusd_per_hour=price,
        startup_ms=45_000,
        minimum_ms=60_000,
        billing_step_ms=1000,
    )
    for cores, price in ((1, 50_000), (2, 76_000), (8, 300_000))
)


@st.composite
def tasks_of(draw: st.DrawFn) -> tuple[Task, ...]:
    return tuple(
        Task(
            task_id=f"t{i}",
            duration_ms=draw(st.sampled_from([1, 999, 10_000, 60_500, 600_000])),
            cpu_millis=1000 * draw(st.integers(1, 4)),
            memory_bytes=draw(st.integers(1, 8)) * 2**29,
            parents=tuple(f"t{j}" for j in range(i) if draw(st.integers(0, 3)) == 0),
        )
        for i in range(draw(st.integers(1, 12)))
    )


@settings(max_examples=150, deadline=None)
@given(tasks_of(), st.sampled_from([100_000, 700_000, 2_000_000, 7_200_000]))
def test_an_exact_replay_is_its_plan(tasks: tuple[Task, ...], deadline_ms: int) -> None:
    workload = Workload(tasks=tasks, machines=MACHINES, deadline_ms=deadline_ms)
    budget = Budget(limit_seconds=600, rounds=40, gap=0.0)
    plan = plan_workload(workload, solver=None, budget=budget)
    assume(not plan.unplaced)
    exact = {task.task_id: task.duration_ms for task in tasks}
    outcome = Replay(Setting(workload=workload, expected_ms=exact, plan=plan)).run()
    planned = {stay.task_id: stay.start_ms for cu in plan.cus for stay in cu.stays}
    assert {stay.task_id: stay.start_ms for stay in outcome.stays} == planned
    assert (outcome.cost_microusd, outcome.finish_ms) == (plan.cost_microusd, plan.finish_ms)
    assert (outcome.moves, outcome.failed_attempts) == (0, 0)
