from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cu_market.dnm.schedule import (
    Budget,
    JointPlan,
    MachineType,
    PlannedCU,
    PlannedStay,
    Task,
    Workload,
)
from cu_market.domain.problem import CUMarketError, InvalidInputError
from cu_market.market.ahead.newsvendor import plan_purchase
from cu_market.sim.ahead import simulate_day
from cu_market.sim.case import Case
from cu_market.sim.inputs import SpotTrace, read_spot, read_workflow, reserved_bytes
from cu_market.sim.paths import tails_ms
from cu_market.sim.policies import BASELINES, static_plan
from cu_market.sim.replay import Replay
from cu_market.sim.risk import choose_spot, falls_per_ms, hurtful_ms, surviving, union_ms
from cu_market.sim.setting import Setting, SpotPrices, Traffic
from cu_market.sim.study import CLAIRVOYANT, POLICIES, study

SMALL = MachineType(
    name="small",
    cpu_millis=1000,
    memory_bytes=4 * 2**30,
    price_microusd_per_hour=3_600_000,
    startup_ms=10_000,
    minimum_ms=60_000,
)
BIG = replace(SMALL, name="big", cpu_millis=4000, price_microusd_per_hour=10_800_000)
TASKS = (
    Task(task_id="a", duration_ms=100_000),
    Task(task_id="b", duration_ms=50_000, parents=("a",)),
    Task(task_id="c", duration_ms=80_000, parents=("a",)),
)
WORK = Workload(tasks=TASKS, machines=(SMALL, BIG), deadline_ms=180_000)
EXACT = {task.task_id: task.duration_ms for task in TASKS}


def one_cu() -> JointPlan:
    starts = {"a": 0, "c": 100_000, "b": 180_000}
    stays = tuple(
        PlannedStay(task_id=t, start_ms=s, end_ms=s + EXACT[t]) for t, s in starts.items()
    )
    cu = PlannedCU(cu_id="cu", machine="small", stays=stays, billed_ms=240_000, cost_microusd=0)
    return JointPlan(cus=(cu,), cost_microusd=0, bound_microusd=0)


def setting(**more: object) -> Setting:
    values: dict[str, object] = {"workload": WORK, "expected_ms": EXACT, "plan": one_cu()}
    return Setting(**(values | more))  # type: ignore[arg-type]


def test_a_plan_that_is_left_alone_takes_what_it_says_and_costs_its_span() -> None:
    outcome = Replay(setting(reacts=False)).run()
    assert outcome.finish_ms == 230_000
    assert outcome.cost_microusd == 1000 * (230 + 10)  # $3.60 an hour: 1000 a second
    assert (outcome.moves, outcome.failed_attempts) == (0, 0)


def test_what_has_not_started_is_moved_where_the_run_would_end_late() -> None:
    outcome = Replay(setting()).run()
    assert outcome.finish_ms == 180_000
    assert outcome.moves == 1
    assert {stay.task_id: stay.cu_id for stay in outcome.stays}["b"] != "small#1"
    # One CU for 180 s and one for 50 s, both with their start-up.
    assert outcome.cost_microusd == 1000 * (190 + 60)


def test_spot_that_falls_away_is_billed_and_its_task_runs_again_on_demand() -> None:
    trace = SpotTrace(gap_ms=60_000, available=(True, False, False, False, False, False, False))
    outcome = Replay(setting(reacts=False, spot_cus=frozenset({"cu"}), trace=trace)).run()
    assert outcome.failed_attempts == 1
    assert outcome.finish_ms == 60_000 + 230_000
    assert outcome.cost_microusd == 350 * (60 + 10) + 1000 * (230 + 10)
    first = outcome.stays[0]
    assert (first.has_failed, first.is_spot, first.end_ms) == (True, True, 60_000)


def test_tails_and_when_the_loss_of_a_cu_would_hurt() -> None:
    assert tails_ms(TASKS, EXACT) == {"a": 180_000, "b": 50_000, "c": 80_000}
    (cu,) = one_cu().cus
    tails = tails_ms(TASKS, EXACT)
    # Starts at 0, 100 and 180 s; from the end of 240 s less its tail on, each has no time left.
    assert hurtful_ms(cu, 240_000, tails) == [
        (60_000, 100_000),
        (160_000, 180_000),
        (190_000, 230_000),
    ]
    assert hurtful_ms(cu, 300_000, tails) == []


def test_a_risk_is_taken_where_spot_hardly_ever_falls() -> None:
    often = SpotTrace(gap_ms=60_000, available=(True, False) * 10)
    assert falls_per_ms(often) == 10 / (10 * 60_000)
    assert choose_spot(one_cu(), WORK, EXACT, often) == frozenset()
    seldom = SpotTrace(gap_ms=60_000, available=(True,) * 10_000 + (False,))
    assert choose_spot(one_cu(), WORK, EXACT, seldom) == {"cu"}
    assert union_ms([(0, 10), (5, 20), (30, 40), (32, 35)]) == 30


def test_every_policy_runs_every_task_once_and_the_market_is_never_dearest() -> None:
    case = Case(name="w", tasks=TASKS, machines=(SMALL, BIG), replays=3)
    found = study(case, POLICIES, solver=None, budget=Budget(rounds=50), clock=lambda: 0.0)
    policies = found["policies"]
    assert set(policies) == set(POLICIES) - {"static-spot"}
    assert policies["market"]["finish_seconds"] <= found["deadline_seconds"]
    assert policies["market"]["cost_usd"] == min(
        p["cost_usd"] for p in policies.values() if p["late_ratio"] == 0
    )
    assert found["lower_bound_usd"] <= policies["market"]["cost_usd"]


def test_greedy_joins_what_runs_and_buys_where_that_is_cheaper() -> None:
    plan = BASELINES["greedy"](WORK)
    assert plan is not None
    assert sorted(stay.task_id for cu in plan.cus for stay in cu.stays) == ["a", "b", "c"]
    assert plan.finish_ms == 180_000
    # c follows a on its CU for 80 s more; b beside it takes one of its own, start-up included.
    assert plan.cost_microusd == 1000 * (190 + 60)


def test_whoever_knew_the_truth_is_in_time_and_the_bound_holds_at_any_error() -> None:
    case = Case(name="w", tasks=TASKS, machines=(SMALL, BIG), runtime_error=0.5, replays=4)
    found = study(
        case, ["market", CLAIRVOYANT], solver=None, budget=Budget(rounds=50), clock=lambda: 0.0
    )
    known = found["policies"][CLAIRVOYANT]
    assert (known["late_ratio"], known["moves"]) == (0, 0)
    assert found["lower_bound_usd"] <= known["cost_usd"]


def test_equal_seeds_give_equal_figures() -> None:
    case = Case(name="w", tasks=TASKS, machines=(SMALL, BIG), runtime_error=1.0, replays=6, plans=3)
    budget = Budget(rounds=20)

    def figures(each: Case) -> object:
        return study(each, ["market"], solver=None, budget=budget, clock=lambda: 0.0)

    assert figures(case) == figures(case)
    alone = replace(case, reacts=False)  # what reacts may end alike whatever was forecast
    assert figures(alone) == figures(alone)
    assert figures(alone) != figures(replace(alone, seed=1))


def test_static_is_one_machine_that_holds_the_peak() -> None:
    plan = static_plan(TASKS, (SMALL, BIG))
    assert [cu.machine for cu in plan.cus] == ["big"]
    assert plan.finish_ms == 180_000
    assert set(BASELINES) < set(POLICIES)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"data": []}))
    for read in (read_workflow, read_spot):
        with pytest.raises(InvalidInputError, match="cannot be read"):
            read(path)


def test_a_cu_is_bought_ahead_only_where_waiting_costs_more() -> None:
    startups = [170_000, 180_000, 190_000]
    hour = 3_600_000
    dear = plan_purchase(startups, price_microusd_per_hour=hour, value_of_time_microusd_per_hour=0)
    assert dear is None
    bought = plan_purchase(
        startups, price_microusd_per_hour=hour, value_of_time_microusd_per_hour=9 * hour
    )
    assert bought is not None
    assert bought.lead_ms == 190_000
    assert bought.holding_microusd == 10 * 1000  # ready 10 s early on average, $3.60 an hour
    assert bought.waiting_saved_microusd == 180 * 9000
    unlikely = plan_purchase(
        startups,
        price_microusd_per_hour=9 * hour,
        value_of_time_microusd_per_hour=hour,
        probability_permille=100,
    )
    assert unlikely is None


def test_a_day_of_a_schedule_bought_ahead_waits_less_for_little_more() -> None:
    day = simulate_day(seed=1)
    assert day["wait_ratio"] <= 0.3
    assert day["cost_ratio"] <= 1.1
    assert day["ahead"]["bought"] == day["ahead"]["used"]


ERRING = replace(WORK, deadline_ms=600_000)


def test_a_task_that_outgrows_its_memory_starts_again_with_what_the_forecaster_gives() -> None:
    tasks = tuple(replace(task, memory_bytes=2**30) for task in TASKS)
    outcome = Replay(
        setting(
            workload=replace(ERRING, tasks=tasks),
            reserved={"b": 2**29},
            peaks={"b": 2**30 - 1, "c": 2**29},
        )
    ).run()
    lost, again = (stay for stay in outcome.stays if stay.task_id == "b")
    assert (lost.has_failed, again.has_failed) == (True, False)
    assert lost.end_ms - lost.start_ms == 25_000  # half of its time
    assert lost.memory_bytes == 2**29 < 2**30 <= again.memory_bytes
    assert again.end_ms - again.start_ms == 50_000
    assert again.start_ms >= lost.end_ms
    assert outcome.failed_attempts == 1


def test_by_a_plan_what_outgrew_its_memory_runs_on_a_cu_of_its_own() -> None:
    outcome = Replay(setting(reacts=False, reserved={"b": 2**20}, peaks={"b": 2**30})).run()
    attempts = [stay for stay in outcome.stays if stay.task_id == "b"]
    assert [stay.has_failed for stay in attempts] == [True] * (len(attempts) - 1) + [False]
    first, *retries = (stay.cu_id for stay in attempts)
    assert first not in retries
    assert len(set(retries)) == 1
    assert outcome.failed_attempts == len(retries) > 1  # doubled until it fits


def test_what_no_type_has_room_for_is_told() -> None:
    with pytest.raises(CUMarketError, match="task 'b' needs more memory"):
        Replay(setting(reserved={"b": 2**30}, peaks={"b": 2**40})).run()


def test_bytes_between_locations_are_counted_once() -> None:
    stays = [PlannedStay(task_id="a", start_ms=0, end_ms=100_000)]
    others = [
        PlannedStay(task_id="b", start_ms=100_000, end_ms=150_000),
        PlannedStay(task_id="c", start_ms=100_000, end_ms=180_000),
    ]
    plan = JointPlan(
        cus=tuple(
            PlannedCU(cu_id=n, machine=n, stays=tuple(held), billed_ms=0, cost_microusd=0)
            for n, held in (("small", stays), ("big", others))
        ),
        cost_microusd=0,
        bound_microusd=0,
    )
    moved = {("a", "b"): 7, ("a", "c"): 5}
    apart = Traffic(moved=moved, locations={"small": "here", "big": "there"})
    together = Traffic(moved=moved, locations={"small": "here", "big": "here"})
    assert Replay(setting(plan=plan, traffic=apart)).run().egress_bytes == 12
    assert Replay(setting(plan=plan, traffic=together)).run().egress_bytes == 0


def test_spot_costs_what_the_catalogue_says_and_else_the_ratio() -> None:
    trace = SpotTrace(gap_ms=10**9, available=(True, True))
    prices = SpotPrices(permille=350, by_type={"big": 1})
    for machine, cost in ((SMALL, 350 * (230 + 10)), (BIG, 0)):
        plan = replace(one_cu(), cus=(replace(one_cu().cus[0], machine=machine.name),))
        outcome = Replay(
            setting(plan=plan, reacts=False, spot_cus={"cu"}, trace=trace, spot=prices)
        ).run()
        assert outcome.cost_microusd == cost
    assert prices.least_permille([SMALL, BIG]) == 0
    assert prices.least_permille([SMALL]) == 350
    assert SpotPrices(permille=1000).least_permille([]) == 1000


def test_a_spot_cu_that_falls_while_it_stands_idle_is_billed_to_its_last_end() -> None:
    starts = {"a": 0, "b": 500_000, "c": 500_000}
    stays = tuple(
        PlannedStay(task_id=t, start_ms=s, end_ms=s + EXACT[t]) for t, s in starts.items()
    )
    cu = PlannedCU(cu_id="cu", machine="big", stays=stays, billed_ms=0, cost_microusd=0)
    plan = JointPlan(cus=(cu,), cost_microusd=0, bound_microusd=0)
    trace = SpotTrace(gap_ms=200_000, available=(True, False, False, False, False))
    outcome = Replay(
        setting(
            workload=ERRING,
            plan=plan,
            reacts=False,
            spot_cus={"cu"},
            trace=trace,
            spot=SpotPrices(permille=1000),
        )
    ).run()
    assert outcome.failed_attempts == 0
    assert outcome.cost_microusd == 3000 * (100 + 10) + 3000 * (80 + 10)


def test_clairvoyant_takes_spot_that_stays_and_no_other() -> None:
    trace = SpotTrace(gap_ms=100_000, available=(True, True, False, True))
    plan = one_cu()  # 230 s
    assert surviving(plan, trace, 0) == frozenset()
    assert surviving(plan, trace, 3) == {"cu"}
    assert surviving(plan, trace, 2) == frozenset()


def test_forecasts_of_memory_that_err_fail_attempts_and_a_larger_error_fails_more() -> None:
    tasks = tuple(
        Task(task_id=f"t{k}", duration_ms=60_000, memory_bytes=reserved_bytes(10**9))
        for k in range(30)
    )
    failed = []
    for sigma in (0.0, 0.2, 1.0):
        case = Case(
            name="w",
            tasks=tasks,
            machines=(SMALL, BIG),
            memory_error=sigma,
            peaks={task.task_id: 10**9 for task in tasks},
            replays=10,
        )
        document = study(case, ["market"], solver=None, budget=Budget(rounds=20), clock=lambda: 0.0)
        failed.append(document["policies"]["market"]["failed_attempts"])
    assert failed[0] == 0 < failed[2]
    assert failed[1] < failed[2]


def test_a_policy_without_figures_says_why() -> None:
    case = Case(name="w", tasks=TASKS, machines=(SMALL,), deadline_factor=0.1)
    document = study(
        case, ["static-spot", "right-sized"], solver=None, budget=Budget(), clock=lambda: 0.0
    )
    assert document["policies"] == {}
    assert (document["lower_bound_usd"], document["gap_ratio"]) == (None, None)
    assert [note.split(" is left out")[0] for note in document["notes"]] == [
        "static-spot",
        "right-sized",
    ]


def test_where_no_type_holds_the_peak_static_is_the_largest() -> None:
    tasks = tuple(Task(task_id=f"t{k}", duration_ms=1000) for k in range(9))
    plan = static_plan(tasks, (SMALL, BIG))
    assert [cu.machine for cu in plan.cus] == ["big"]
    assert plan.finish_ms == 3000  # nine on four cores
