"""With exact forecasts a replay is the plan: it costs and ends as the plan says."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from joint_workloads import SIZES, graphs

from cu_market.dnm.schedule import Budget, Task, Workload, plan_workload
from cu_market.sim.replay import Replay
from cu_market.sim.setting import Setting


@settings(max_examples=150, deadline=None)
@given(graphs(), st.sampled_from([100_000, 700_000, 2_000_000, 7_200_000]))
def test_an_exact_replay_is_its_plan(tasks: tuple[Task, ...], deadline_ms: int) -> None:
    workload = Workload(tasks=tasks, machines=SIZES, deadline_ms=deadline_ms)
    budget = Budget(limit_seconds=600, rounds=40, gap=0.0)
    plan = plan_workload(workload, solver=None, budget=budget)
    assume(not plan.unplaced)
    exact = {task.task_id: task.duration_ms for task in tasks}
    outcome = Replay(Setting(workload=workload, expected_ms=exact, plan=plan)).run()
    planned = {stay.task_id: stay.start_ms for cu in plan.cus for stay in cu.stays}
    assert {stay.task_id: stay.start_ms for stay in outcome.stays} == planned
    assert (outcome.cost_microusd, outcome.finish_ms) == (plan.cost_microusd, plan.finish_ms)
    assert (outcome.moves, outcome.failed_attempts) == (0, 0)
