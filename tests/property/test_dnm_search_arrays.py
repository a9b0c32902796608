"""The compiled rounds against the packing that they are a copy of, in whole numbers."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from joint_workloads import workloads

from cu_market.dnm.compiled.draws import draws_from
from cu_market.dnm.schedule.bundle import Catalogue
from cu_market.dnm.schedule.construction import inserted
from cu_market.dnm.schedule.packing import Packing
from cu_market.dnm.schedule.packing import best_spot as best_spot_of
from cu_market.dnm.schedule.search import search
from cu_market.dnm.schedule.search.arrays import (
    log_for,
    no_state,
    packing_of,
    problem_of,
    state_of,
    work_for,
)
from cu_market.dnm.schedule.search.insertion import NEW, NOWHERE, best_spot, put_on, take_off
from cu_market.dnm.schedule.search.loads import settle
from cu_market.dnm.schedule.search.rounds import run_rounds
from cu_market.dnm.schedule.workload import MachineType, Task, Workload


def whole(workload: Workload) -> Packing | None:
    """A packing of every task, or None where insertion leaves some out."""
    packing = inserted(Catalogue(workload))
    return None if len(packing.where) < 2 or min(packing.where) < 0 else packing


@settings(max_examples=150, deadline=None)
@given(workloads(), st.data())
def test_a_task_goes_where_the_packing_would_put_it(
    workload: Workload, data: st.DataObject
) -> None:
    packing = whole(workload)
    if packing is None:
        return
    problem, state = problem_of(packing), state_of(packing)
    work, draws = work_for(len(packing.where)), draws_from(1)
    for cu in range(len(packing.bundles)):
        settle(problem, state, work, cu, state.cus[cu]["kind"])
        assert state.cus[cu]["cost"] == list(packing.bundles.values())[cu].cost
    i = data.draw(st.integers(0, len(packing.where) - 1))
    is_late = data.draw(st.booleans())
    earliest, latest = packing.windows.earliest[i], packing.windows.latest[i]
    keys = list(packing.bundles)
    packing.remove([i])
    cu = take_off(state, i)
    if state.cus[cu]["head"] >= 0:
        settle(problem, state, work, cu, state.cus[cu]["kind"])
    expected = best_spot_of(packing, i, earliest, latest, is_late=is_late)
    sign = -1 if is_late else 1
    found, kind, start, end = best_spot(
        problem, state, work, i, earliest, latest, sign, 0, True, draws
    )
    if expected is None:
        assert found == NOWHERE
        return
    assert (start, end) == expected.stay[:2]
    assert found == (NEW if expected.key < 0 else keys.index(expected.key))
    state.stays[i]["start"], state.stays[i]["end"] = start, end
    cu = put_on(problem, state, work, i, found, kind)
    held = state.cus[cu]
    assert (held["kind"], held["cost"]) == (expected.bundle.machine, expected.bundle.cost)
    assert (held["cpu"], held["memory"], held["gpus"]) == expected.bundle.peak


@settings(max_examples=60, deadline=None)
@given(workloads(), st.integers(1, 2**40))
def test_after_any_round_the_arrays_are_a_schedule_of_the_cost_that_they_say(
    workload: Workload, seed: int
) -> None:
    packing = whole(workload)
    if packing is None:
        return
    count = len(packing.where)
    problem, current = problem_of(packing), state_of(packing)
    best, trial, work = no_state(count), no_state(count), work_for(count)
    log, draws = log_for(count, 10), draws_from(seed)
    known = packing.cost
    for done in range(0, 60, 3):
        run_rounds(
            problem, current, trial, best, work, log, draws, 40, done, done + 3, 60, 0.5, 0.5
        )
        for state in (current, best):
            found = packing_of(packing, state)
            there = state.cus[: state.most[0]]
            assert found.cost == there["cost"][there["head"] >= 0].sum()
            check(found)
        assert packing_of(packing, best).cost <= known
        known = packing_of(packing, best).cost


def check(packing: Packing) -> None:
    """Every task in its window, after its parents, and what CUs hold within their types."""
    workload = packing.catalogue.workload
    for i, stay in enumerate(packing.stays):
        assert stay is not None
        assert packing.windows.earliest[i] <= stay.start_ms
        assert stay.end_ms <= packing.windows.latest[i]
        for parent in workload.parents[i]:
            before = packing.stays[parent]
            assert before is not None
            assert before.end_ms <= stay.start_ms
    for bundle in packing.bundles.values():
        size = packing.catalogue.sizes[bundle.machine]
        assert all(held <= most for held, most in zip(bundle.peak, size, strict=True))


@settings(max_examples=20, deadline=None)
@given(workloads(), st.integers(1, 1000))
def test_equal_draws_give_equal_schedules(workload: Workload, seed: int) -> None:
    packing = whole(workload)
    if packing is None:
        return
    first = search(packing, rounds=200, is_over=lambda: False, seed=seed)
    again = search(packing, rounds=200, is_over=lambda: False, seed=seed)
    assert first.best.stays == again.best.stays
    assert first.best.cost <= packing.cost
    assert first.rounds == again.rounds == 200


@settings(max_examples=60, deadline=None)
@given(workloads(), st.integers(1, 1000), st.data())
def test_what_is_fixed_stays_where_it_stands(
    workload: Workload, seed: int, data: st.DataObject
) -> None:
    packing = whole(workload)
    if packing is None:
        return
    fixed = data.draw(st.sets(st.integers(0, len(packing.where) - 1)))
    found = search(packing, rounds=200, is_over=lambda: False, seed=seed, fixed=fixed).best
    check(found)
    assert found.cost <= packing.cost
    for i in fixed:
        assert found.stays[i] == packing.stays[i]


def test_a_search_that_the_clock_ends_says_so() -> None:
    packing = inserted(Catalogue(two_tasks()))
    found = search(packing, rounds=10**9, is_over=lambda: True)
    assert found.is_cut
    assert 0 < found.rounds < 10**9
    assert found.best.cost <= packing.cost


def two_tasks() -> Workload:
    return Workload(
        tasks=(Task(task_id="a", duration_ms=1000), Task(task_id="b", duration_ms=1000)),
        machines=(
            MachineType(
                name="m", cpu_millis=1000, memory_bytes=2**30, price_microusd_per_hour=36_000
            ),
        ),
        deadline_ms=10_000,
    )


def test_bills_beyond_what_64_bits_hold_are_compared_in_larger_units() -> None:
    year_ms = 365 * 24 * 3_600_000
    tasks = tuple(Task(task_id=f"t{k}", duration_ms=year_ms - 1000 * k) for k in range(40))
    small = MachineType(
        name="small", cpu_millis=1000, memory_bytes=0, price_microusd_per_hour=10**9
    )
    large = MachineType(
        name="large", cpu_millis=40_000, memory_bytes=0, price_microusd_per_hour=2 * 10**9
    )
    workload = Workload(tasks=tasks, machines=(small, large), deadline_ms=3 * year_ms)
    packing = inserted(Catalogue(workload))
    assert packing.cost >= 2**62
    found = search(packing, rounds=2000, is_over=lambda: False).best
    check(found)
    assert found.cost <= packing.cost
    (only,) = found.bundles.values()
    assert workload.machines[only.machine].name == "large"
