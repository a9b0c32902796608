"""Ready steps over a pool of CUs: room first, then waiting, then one more CU."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cu_market.dnm.renegotiation import BusyCU, Decision, Dispatcher, Spread
from cu_market.dnm.schedule import MachineType, Task, Workload

SMALL = MachineType(
    name="small",
    cpu_millis=2000,
    memory_bytes=4 * 2**30,
    price_microusd_per_hour=80_000,
    startup_ms=45_000,
    minimum_ms=60_000,
)
SINGLE = replace(SMALL, name="single", cpu_millis=1000, price_microusd_per_hour=55_000)
LARGE = replace(SMALL, name="large", cpu_millis=32_000, price_microusd_per_hour=1_000_000)


def tasks(*durations_ms: int, cpu_millis: int = 1000) -> tuple[Task, ...]:
    return tuple(
        Task(task_id=f"t{k}", duration_ms=d, cpu_millis=cpu_millis, memory_bytes=2**30)
        for k, d in enumerate(durations_ms)
    )


def dispatcher(some: tuple[Task, ...], deadline_ms: int, *machines: MachineType) -> Dispatcher:
    workload = Workload(tasks=some, machines=machines or (SMALL, SINGLE), deadline_ms=deadline_ms)
    return Dispatcher(workload, spreads={})


def busy(*running: tuple[str, int], last_ms: int = 0) -> BusyCU:
    return BusyCU(cu_id="a", machine=SMALL, running=running, last_ms=last_ms)


def test_room_within_a_cus_time_is_taken_before_the_planned_start() -> None:
    found = dispatcher(tasks(50_000, 100_000), 10**7).decide(
        0, [busy(("t1", 100_000))], ["t0"], {"t0": 700_000}, ["t0"]
    )
    assert found == [Decision(task_id="t0", cu_id="a")]


def test_what_would_have_a_cu_for_longer_waits_for_its_planned_start() -> None:
    asked = dispatcher(tasks(300_000, 100_000), 10**7)
    held, planned = [busy(("t1", 100_000))], {"t0": 700_000}
    assert asked.decide(0, held, ["t0"], planned, ["t0"]) == [
        Decision(task_id="t0", wake_ms=700_000)
    ]
    late = [busy(("t1", 800_000))]
    assert asked.decide(700_000, late, ["t0"], planned, ["t0"]) == [
        Decision(task_id="t0", cu_id="a")
    ]


def test_a_due_step_waits_for_room_that_comes_within_the_tolerance() -> None:
    some = tasks(1_000_000, 100_000, 100_000)
    asked = dispatcher(some, 1_000_000)  # due at once
    held = [busy(("t1", 15_000), ("t2", 900_000))]
    (found,) = asked.decide(0, held, ["t0"], {"t0": 0}, ["t0"])
    assert found == Decision(task_id="t0", wake_ms=60_001)


def test_what_is_late_already_waits_for_room_no_longer_than_a_late_step_may() -> None:
    asked = dispatcher(tasks(1_000_000, 100_000, 100_000), 1_000_000)  # due at 0
    near = [busy(("t1", 215_000), ("t2", 900_000))]
    (found,) = asked.decide(200_000, near, ["t0"], {"t0": 0}, ["t0"])
    assert found == Decision(task_id="t0", wake_ms=220_001)
    far = [busy(("t1", 225_000), ("t2", 900_000))]
    (found,) = asked.decide(200_000, far, ["t0"], {"t0": 0}, ["t0"])
    assert found.machine is not None


def test_a_due_step_buys_a_cu_where_room_would_come_too_late() -> None:
    asked = dispatcher(tasks(1_000_000, 100_000, 100_000), 1_000_000)
    held = [busy(("t1", 500_000), ("t2", 900_000))]
    (found,) = asked.decide(0, held, ["t0"], {"t0": 0}, ["t0"])
    assert found.machine is SINGLE  # nobody else would fill the other core


def test_two_due_steps_share_a_new_cu_of_two_cores() -> None:
    asked = dispatcher(tasks(900_000, 900_000), 900_000, SINGLE, SMALL, LARGE)
    first, second = asked.decide(0, [], ["t1", "t0"], {"t0": 0, "t1": 0}, ["t0", "t1"])
    assert first.machine is SMALL
    assert second == Decision(task_id="t1", cu_id=first.cu_id)


def test_work_that_comes_once_a_cu_would_be_over_does_not_fill_it() -> None:
    first = tasks(16_000)[0]
    later = Task(task_id="later", duration_ms=10**6, cpu_millis=1000, memory_bytes=2**30)
    asked = dispatcher((first, later), 1_016_000)
    waiting = ["t0", "later"]
    (far,) = asked.decide(0, [], ["t0"], {"t0": 0, "later": 16_000}, waiting)
    assert far.machine is SINGLE
    (near,) = asked.decide(0, [], ["t0"], {"t0": 0, "later": 0}, waiting)
    assert near.machine is SMALL


def test_what_follows_within_the_least_billed_time_fills_a_cu() -> None:
    first = tasks(1_000)[0]
    after = [
        Task(task_id=f"c{k}", duration_ms=13_000, cpu_millis=1000, memory_bytes=1, parents=("t0",))
        for k in range(3)
    ]
    names = ["t0", *(task.task_id for task in after)]
    asked = dispatcher((first, *after), 14_000)
    (found,) = asked.decide(0, [], ["t0"], dict.fromkeys(names, 0), names)
    assert found.machine is SMALL


def test_room_that_a_more_urgent_step_waits_for_is_not_promised_twice() -> None:
    asked = dispatcher(tasks(1_000_000, 999_000, 100_000, 100_000), 1_000_000)
    held = [busy(("t2", 10_000), ("t3", 900_000))]
    first, second = asked.decide(0, held, ["t0", "t1"], {"t0": 0, "t1": 0}, ["t0", "t1"])
    assert first.task_id == "t0"
    assert first.wake_ms is not None
    assert second.machine is not None


def test_a_spread_makes_a_step_due_sooner() -> None:
    some = tasks(100_000)
    workload = Workload(tasks=some, machines=(SMALL,), deadline_ms=1_000_000)
    exact = Dispatcher(workload, spreads={}).due_ms["t0"]
    wary = Dispatcher(workload, spreads={"t0": Spread(sigma=0.3)}).due_ms["t0"]
    assert (exact, wary) == (900_000, 900_000 - 96_000)


@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=8),
    st.lists(st.integers(1, 400), max_size=4),
    st.integers(1, 1500),
    st.randoms(use_true_random=False),
)
def test_decisions_fit_and_do_not_depend_on_the_order_of_what_is_told(
    waits: list[int], runs: list[int], deadline: int, order: object
) -> None:
    some = tasks(*(1000 * d for d in (*waits, *runs)))
    ready = [t.task_id for t in some[: len(waits)]]
    running = [t.task_id for t in some[len(waits) :]]
    held = [
        replace(busy(*((name, 1000 * runs[len(running[:k])]) for name in running[k : k + 2])))
        for k in range(0, len(running), 2)
    ]
    held = [replace(cu, cu_id=f"cu{k}") for k, cu in enumerate(held)]
    asked = dispatcher(some, 1000 * deadline)
    planned = dict.fromkeys(ready, 0)
    found = asked.decide(0, held, ready, planned, ready)
    order.shuffle(ready)  # type: ignore[attr-defined]
    order.shuffle(held)  # type: ignore[attr-defined]
    assert asked.decide(0, held, ready, planned, ready) == found
    assert sorted(d.task_id for d in found) == sorted(ready)
    cores = {cu.cu_id: 1000 * len(cu.running) for cu in held}
    sizes = {cu.cu_id: cu.machine.cpu_millis for cu in held}
    for decision in found:
        if decision.machine is not None:
            assert decision.cu_id is not None
            sizes[decision.cu_id] = decision.machine.cpu_millis
        if decision.cu_id is not None:
            cores[decision.cu_id] = cores.get(decision.cu_id, 0) + 1000
        else:
            assert decision.wake_ms is not None
            assert decision.wake_ms > 0
    assert all(cores[name] <= sizes[name] for name in cores)
