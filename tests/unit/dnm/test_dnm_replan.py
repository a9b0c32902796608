"""What is left of a run, planned anew: who moves, who waits, and when one more CU is bought."""

from __future__ import annotations

from dataclasses import replace

from cu_market.dnm.renegotiation import HeldCU, Place, Replanner, Spread
from cu_market.dnm.schedule import MachineType, Task, Workload

SMALL = MachineType(
    name="small",
    cpu_millis=2000,
    memory_bytes=4 * 2**30,
    price_microusd_per_hour=80_000,
    startup_ms=45_000,
    minimum_ms=60_000,
)
SINGLE = replace(SMALL, name="single", cpu_millis=1000, price_microusd_per_hour=78_000)
HOUR = 3_600_000


def task(name: str, duration_ms: int, *parents: str) -> Task:
    return Task(task_id=name, duration_ms=duration_ms, memory_bytes=2**30, parents=parents)


def replanner(
    *tasks: Task, deadline_ms: int = HOUR, bill_microusd: int = 80_000, sigma: float = 0.0
) -> Replanner:
    workload = Workload(tasks=tasks, machines=(SMALL, SINGLE), deadline_ms=deadline_ms)
    spreads = {each.task_id: Spread(sigma=sigma) for each in tasks} if sigma else {}
    return Replanner(workload, spreads=spreads, bill_microusd=bill_microusd)


def held(*stays: tuple[str, int, int], cu_id: str = "had", machine: str = "small") -> HeldCU:
    return HeldCU(cu_id=cu_id, machine=machine, stays=stays)


def at(cu_id: str, start_ms: int, machine: str = "small") -> Place:
    return Place(cu_id=cu_id, machine=machine, start_ms=start_ms)


def test_with_nothing_left_there_is_nothing_to_place() -> None:
    assert replanner(task("a", 1000)).revise(0, [held(("a", 0, 1000))], {}, []) == {}


def test_a_step_stays_where_it_is_planned_while_that_is_as_cheap() -> None:
    asked = replanner(task("a", 600_000), task("b", 600_000, "a"))
    places = {"b": at("had", 600_000)}
    assert asked.revise(0, [held(("a", 0, 600_000))], places, []) == places


def test_behind_a_step_that_runs_on_one_waits_while_that_is_in_time() -> None:
    asked = replanner(task("a", 600_000), task("x", 600_000), task("b", 600_000))
    running = held(("a", 0, 900_000), ("x", 0, 900_000))
    found = asked.revise(700_000, [running], {"b": at("had", 600_000)}, ["b"])
    assert found == {"b": at("had", 900_000)}


def test_a_small_slip_is_cheaper_than_one_more_cu() -> None:
    asked = replanner(
        task("a", 600_000), task("x", 600_000), task("b", 600_000), deadline_ms=1_200_000
    )
    running = held(("a", 0, 610_000), ("x", 0, 610_000))
    found = asked.revise(605_000, [running], {"b": at("had", 600_000)}, ["b"])
    assert found["b"].cu_id == "had"


def test_a_large_slip_buys_a_cu_of_the_size_that_is_needed() -> None:
    asked = replanner(
        task("a", 600_000), task("x", 600_000), task("b", 600_000), deadline_ms=1_200_000
    )
    running = held(("a", 0, 1_200_000), ("x", 0, 1_200_000))
    found = asked.revise(600_000, [running], {"b": at("had", 600_000)}, ["b"])
    assert found["b"].cu_id != "had"
    assert (found["b"].machine, found["b"].start_ms) == ("single", 600_000)


def test_what_is_ready_starts_where_there_is_room_for_as_long_anyway() -> None:
    asked = replanner(task("a", 900_000), task("b", 300_000))
    found = asked.revise(100_000, [held(("a", 0, 900_000))], {"b": at("had", 500_000)}, ["b"])
    assert found == {"b": at("had", 100_000)}


def test_what_is_not_ready_keeps_its_planned_start() -> None:
    asked = replanner(task("a", 900_000), task("p", 200_000), task("b", 300_000, "p"))
    running = held(("a", 0, 900_000), ("p", 0, 200_000))
    found = asked.revise(100_000, [running], {"b": at("had", 200_000)}, [])
    assert found == {"b": at("had", 200_000)}


def test_a_cu_that_stood_idle_for_longer_than_a_start_costs_is_not_gone_on_with() -> None:
    asked = replanner(task("a", 100_000), task("b", 600_000))
    idle = held(("a", 0, 100_000), machine="small")
    (place,) = asked.revise(2_000_000, [idle], {"b": at("had", 2_000_000)}, ["b"]).values()
    assert place.cu_id != "had"


def test_a_spread_has_a_step_start_sooner() -> None:
    some = (task("a", 1_000_000), task("x", 1_000_000), task("b", 1_000_000))
    places = {"b": at("later", 1_900_000)}
    running = held(("a", 0, 1_000_000), ("x", 0, 1_000_000))
    exact = replanner(*some, deadline_ms=2_100_000).revise(0, [running], places, ["b"])
    wary = replanner(*some, deadline_ms=2_100_000, sigma=0.3).revise(0, [running], places, ["b"])
    assert exact["b"].start_ms >= 1_000_000
    assert wary["b"].start_ms < 1_000_000


def test_a_step_that_runs_again_after_an_attempt_that_failed_is_placed() -> None:
    asked = replanner(task("a", 600_000))
    found = asked.revise(300_000, [held(("a", 0, 300_000))], {"a": at("had", 300_000)}, ["a"])
    assert found == {"a": at("had", 300_000)}


def test_a_cu_that_is_to_be_bought_waits_for_half_of_the_time_that_it_can() -> None:
    asked = replanner(replace(task("r", HOUR), cpu_millis=2000), task("a", 600_000))
    running = held(("r", 0, HOUR))
    (place,) = asked.revise(10_000, [running], {"a": at("new", 10_000, "single")}, ["a"]).values()
    assert (place.cu_id, place.start_ms) == ("new", 10_000 + (HOUR - 610_000) // 2)


def test_while_nothing_runs_nothing_is_waited_for() -> None:
    (place,) = replanner(task("a", 600_000)).revise(0, [], {"a": at("new", 0)}, ["a"]).values()
    assert (place.cu_id, place.start_ms) == ("new", 0)


def test_what_waits_for_a_cu_that_is_bought_later_keeps_its_own_time() -> None:
    asked = replanner(task("a", 600_000), task("b", 600_000, "a"), deadline_ms=1_200_000)
    places = {"a": at("new", 0, "single"), "b": at("new", 600_000, "single")}
    assert asked.revise(0, [], places, ["a"]) == places
