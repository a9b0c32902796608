"""Latest ends against the critical path method, and whatever the forecasts' spreads."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from joint_workloads import SIZES, graphs

from cu_market.dnm.renegotiation.latest_ends import LatestEnds
from cu_market.dnm.renegotiation.remaining import Spread
from cu_market.dnm.schedule import Task, Workload


def soonest_ends(tasks: tuple[Task, ...], now_ms: int) -> dict[str, int]:
    """By definition; tasks follow their parents."""
    found: dict[str, int] = {}
    for task in tasks:
        found[task.task_id] = task.duration_ms + max([now_ms, *(found[p] for p in task.parents)])
    return found


def ends_of(
    tasks: tuple[Task, ...], deadline_ms: int, now_ms: int, sigma: dict[str, float]
) -> dict[str, int]:
    work = Workload(tasks=tasks, machines=SIZES, deadline_ms=deadline_ms)
    asked = LatestEnds(work, {name: Spread(sigma=s) for name, s in sigma.items()})
    found = asked.at(now_ms, work, [task.duration_ms for task in tasks], {})
    return {task.task_id: found.latest[i] for i, task in enumerate(tasks)}


moments = st.integers(0, 500_000)
deadlines = st.sampled_from([1, 60_000, 700_000, 2_000_000])


@given(graphs(), deadlines, moments)
def test_exact_forecasts_give_the_latest_ends_of_the_critical_path_method(
    tasks: tuple[Task, ...], deadline_ms: int, now_ms: int
) -> None:
    """Each last step has until the deadline, or until it can end; others until a child starts."""
    soonest = soonest_ends(tasks, now_ms)
    expected: dict[str, int] = {}
    for task in reversed(tasks):
        children = [each for each in tasks if task.task_id in each.parents]
        starts = [expected[each.task_id] - each.duration_ms for each in children]
        expected[task.task_id] = min(starts, default=max(deadline_ms, soonest[task.task_id]))
    assert ends_of(tasks, deadline_ms, now_ms, {}) == expected


@given(graphs(), deadlines, moments, st.data())
def test_no_step_is_to_end_sooner_than_it_can_nor_later_than_exact_forecasts_would_allow(
    tasks: tuple[Task, ...], deadline_ms: int, now_ms: int, data: st.DataObject
) -> None:
    sigma = {task.task_id: data.draw(st.floats(0, 1)) for task in tasks}
    soonest = soonest_ends(tasks, now_ms)
    exact = ends_of(tasks, deadline_ms, now_ms, {})
    for name, end in ends_of(tasks, deadline_ms, now_ms, sigma).items():
        assert soonest[name] <= end <= max(exact[name], soonest[name])
