"""Forecasts by history: what the market has seen before tells it of what it is to run."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from workflow_files import Step, write_workflow

from cu_market.dnm.renegotiation import UNTOLD
from cu_market.dnm.schedule import Budget, MachineType
from cu_market.domain.outline import RunOutline, StepOutline
from cu_market.domain.request import StepIdentity
from cu_market.domain.units import GIB, MIB
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.ledger.memory import InMemoryLedger
from cu_market.market.demand.past import read_past
from cu_market.market.demand.requests import size_run
from cu_market.market.settings import MarketSettings
from cu_market.sim.case import Case
from cu_market.sim.forecasts import Learned
from cu_market.sim.inputs import SpotTrace, read_machines
from cu_market.sim.learning import learn
from cu_market.sim.recorded import Recorded, recorded_file, recorded_run
from cu_market.sim.study import CLAIRVOYANT, study

SMALL = MachineType(
    name="small",
    cpu_millis=2000,
    memory_bytes=4 * GIB,
    price_microusd_per_hour=360_000,
    startup_ms=45_000,
    minimum_ms=60_000,
)
BIG = replace(
    SMALL, name="big", cpu_millis=8000, memory_bytes=16 * GIB, price_microusd_per_hour=1_440_000
)
MACHINES = (SMALL, BIG)


@pytest.fixture
def flow(tmp_path: Path) -> Any:
    def write(name: str, *steps: Step) -> Recorded:
        return recorded_file(write_workflow(tmp_path / f"{name}.json", steps))

    return write


def case_of(recorded: Recorded, learned: Learned | None, **more: Any) -> Case:
    return Case(
        name=recorded.name,
        tasks=recorded.tasks,
        kinds=recorded.kinds,
        peaks=recorded.peaks,
        machines=MACHINES,
        learned=learned,
        **more,
    )


def figures(case: Case, policies: Sequence[str]) -> dict[str, Any]:
    return study(case, policies, solver=None, budget=Budget(rounds=30), clock=lambda: 0.0)


def test_durations_and_memory_follow_the_input_where_they_did(flow: Any) -> None:
    history = flow(
        "history", *(Step("fit", 10.0 * k, k * 10**8, k * 200 * MIB) for k in range(1, 13))
    )
    new = flow("new", Step("fit", 25, 250 * 10**6, 500 * MIB), Step("fit", 95, 950 * 10**6, GIB))
    learned = learn(new, [history], MACHINES)
    less, more = (task.task_id for task in new.tasks)
    expected, reserved = learned.forecasts.expected_ms, learned.forecasts.reserved
    assert expected[less] == pytest.approx(25_000, rel=0.1)
    assert expected[more] == pytest.approx(95_000, rel=0.1)
    assert 500 * MIB <= reserved[less] < reserved[more]
    assert learned.known == {less, more}


def test_a_task_is_forecast_as_a_step_of_a_run_is(flow: Any) -> None:
    history = flow("history", *(Step("fit", 9.0 * k, k * 10**8, k * 99 * MIB) for k in (3, 1, 7)))
    new = flow("new", Step("fit", 10, 4 * 10**8, GIB), Step("load", 10, 4 * 10**8, GIB))
    ledger = InMemoryLedger()
    ledger.keep_usages(history.attempts)
    steps = tuple(
        StepOutline(
            step_key=key, op_name=node, identity=StepIdentity(node=node), input_bytes=4 * 10**8
        )
        for key, node in new.kinds.items()
    )
    demand = size_run(
        RunOutline(run_id="r", job_name="j", steps=steps),
        read_past(ledger, {step.identity for step in steps}),
        now=datetime(2026, 1, 1, tzinfo=UTC),
        settings=MarketSettings(),
    )
    told = learn(new, [history], MACHINES).forecasts
    for request in demand.requests:
        assert told.expected_ms[request.request_id] == request.duration_ms
        assert told.reserved[request.request_id] == request.needs.memory_bytes


def test_the_newest_recording_counts_most(flow: Any) -> None:
    slow = flow("slow", *(Step("fit", 100) for _ in range(10)))
    fast = flow("fast", *(Step("fit", 10) for _ in range(10)))
    new = flow("new", Step("fit", 50))
    by_order = [
        learn(new, history, MACHINES).forecasts.expected_ms["fit_1"]
        for history in ([slow, fast], [fast, slow])
    ]
    assert by_order == [10_000, 100_000]


def test_a_kind_is_known_borrowed_or_unknown(flow: Any) -> None:
    new = flow("new", Step("fit", 10, None, 100 * MIB), Step("load", 10, None, 100 * MIB))
    own = flow("own", Step("load", 7, None, 300 * MIB))
    learned = learn(new, [own], MACHINES)
    told = learned.forecasts
    assert (learned.known, learned.borrowed) == ({"load_2"}, frozenset())
    # Nobody knows fit, and one other kind is no sample: a minute, a gibibyte.
    assert (told.expected_ms["fit_1"], told.reserved["fit_1"]) == (60_000, GIB)
    assert told.spreads["fit_1"] == UNTOLD
    assert told.expected_ms["load_2"] == 7000
    assert told.reserved["load_2"] >= 300 * MIB
    others = flow("others", *(Step(kind, 20, None, 200 * MIB) for kind in ("a", "b", "c")))
    learned = learn(new, [others], MACHINES)
    assert learned.borrowed == {"fit_1", "load_2"}
    assert learned.forecasts.expected_ms["fit_1"] == 20_000
    worth = learned.worth({task.task_id: task.duration_ms for task in new.tasks}, new.peaks)
    assert worth["known_tasks"] == worth["unknown_tasks"] == 0
    assert (worth["recordings"], worth["borrowed_tasks"]) == (1, 2)
    assert worth["duration_ratio_p5"] == worth["duration_ratio_p95"] == 2.0


def test_memory_is_learned_where_it_was_recorded_and_reserved_where_it_is_known(flow: Any) -> None:
    told = flow("told", Step("fit", 10, None, 700 * MIB))
    silent = flow("silent", *(Step("fit", 10) for _ in range(40)))
    new = flow("new", Step("fit", 10, None, 700 * MIB), Step("fit", 10))
    forecasts = learn(new, [told, silent], MACHINES).forecasts
    assert set(forecasts.reserved) == {"fit_1"}
    assert 700 * MIB <= forecasts.reserved["fit_1"] < GIB
    # Peaks that were never recorded are no peaks of nothing.
    assert learn(new, [silent], MACHINES).forecasts.reserved == {"fit_1": GIB}


def test_a_file_whose_peaks_differ_is_no_step_that_fills_what_it_gets(flow: Any) -> None:
    peaks = [400 * MIB] * 9 + [900 * MIB]
    history = flow("history", *(Step("fit", 10, None, peak) for peak in peaks))
    foreseen = learn(history, [history], MACHINES).forecasts.foreseen
    assert {forecast.filled_bytes for forecast in foreseen.values()} == {0}
    assert all(forecast.ladders for forecast in foreseen.values())


def test_what_outgrows_its_forecast_starts_again_with_more(flow: Any) -> None:
    history = flow("history", *(Step("fit", 100, None, 300 * MIB) for _ in range(5)))
    new = flow("new", Step("fit", 100, None, 900 * MIB))
    learned = learn(new, [history], MACHINES)
    document = figures(case_of(new, learned, deadline_factor=5.0), ["market", "static"])
    assert document["forecast"]["outgrown_tasks"] == 1
    assert document["policies"]["market"]["failed_attempts"] >= 1
    assert document["policies"]["static"]["failed_attempts"] == 0
    assert document["forecast"]["memory_ratio_p50"] < 1


def test_a_peak_of_nothing_is_none(flow: Any) -> None:
    recorded = replace(flow("new", Step("fit", 10)), peaks={"fit_1": 0})
    learned = learn(recorded, [recorded], MACHINES)
    assert learned.forecasts.reserved == {}
    assert learned.worth({"fit_1": 10_000}, recorded.peaks)["memory_ratio_p50"] is None


def test_on_spot_every_offset_is_replayed_with_what_was_learned(flow: Any) -> None:
    history = flow("history", *(Step("fit", 100 + k, None, GIB) for k in range(4)))
    trace = SpotTrace(gap_ms=600_000, available=(True, True, False, True))
    learned = learn(history, [history], MACHINES)
    case = case_of(history, learned, trace=trace, replays=4, deadline_factor=4.0)
    document = figures(case, ["market", CLAIRVOYANT])
    market = document["policies"]["market"]
    assert market["replays"] == 4
    assert market["late_ratio"] == 0
    assert document["forecast"]["known_tasks"] == 4


def test_no_more_is_reserved_than_the_largest_type_has(flow: Any) -> None:
    history = flow("history", *(Step("fit", 100, None, 3 * GIB + k * 99 * MIB) for k in range(9)))
    learned = learn(history, [history], (SMALL,))
    assert max(learned.forecasts.reserved.values()) <= SMALL.memory_bytes


def test_a_recording_that_is_the_simulated_one_is_told_as_such(flow: Any, tmp_path: Path) -> None:
    steps = [Step("load", 60, 10**8, GIB), Step("fit", 200, 10**9, GIB, 2, (0,))]
    flow_, other = flow("flow", *steps), flow("other", *steps[:1])
    learned = learn(flow_, [other, flow_], MACHINES)
    document = figures(case_of(flow_, learned), ["market"])
    place = tmp_path / "flow.json"
    note = f"the market has seen this very recording: {place} is in its history"
    assert document["notes"] == [note]
    assert document["forecast"]["recordings"] == 2
    assert figures(case_of(flow_, learn(flow_, [other], MACHINES)), ["market"])["notes"] == []


def test_what_is_known_changes_neither_the_bound_nor_who_knows_all(flow: Any) -> None:
    new = flow("new", *(Step("fit", 100 + k, None, GIB) for k in range(6)))
    other = flow("other", *(Step("fit", 300, None, GIB) for _ in range(6)))
    policies = ["market", CLAIRVOYANT, "one-per-step"]
    exact, learned = (
        figures(case_of(new, told), policies) for told in (None, learn(new, [other], MACHINES))
    )
    assert learned["lower_bound_usd"] == exact["lower_bound_usd"]
    for policy in policies[1:]:
        assert learned["policies"][policy] == exact["policies"][policy]
    assert "forecast" not in exact
    assert learned["policies"]["market"]["replays"] == 1


def test_equal_histories_give_equal_figures_whatever_the_seed(flow: Any) -> None:
    new = flow("new", *(Step("fit", 100 + 9 * k, 10**8 + k, GIB) for k in range(6)))
    other = flow("other", *(Step("fit", 90 + 30 * k, 10**8 + k, GIB) for k in range(6)))
    found = [
        json.dumps(figures(case_of(new, learn(new, [other], MACHINES), seed=seed), ["market"]))
        for seed in (0, 0, 1)
    ]
    assert len(set(found)) == 1


def test_skypilot_like_takes_an_hour_unless_the_kind_is_known(flow: Any) -> None:
    # Cheaper by the hour, dearer for a minute: it is billed for ten at least.
    slow = replace(SMALL, name="slow", price_microusd_per_hour=300_000, minimum_ms=600_000)
    new = flow("new", Step("fit", 60), Step("load", 60))
    other = flow("other", Step("fit", 50))
    case = replace(case_of(new, learn(new, [other], (SMALL, slow))), machines=(SMALL, slow))
    cost = figures(case, ["skypilot-like"])["policies"]["skypilot-like"]["cost_usd"]
    blind = figures(replace(case, learned=None), ["skypilot-like"])["policies"]["skypilot-like"]
    assert cost == pytest.approx(0.36 * 105 / 3600 + 0.3 * 600 / 3600, abs=1e-6)
    assert blind["cost_usd"] == pytest.approx(2 * 0.3 * 600 / 3600, abs=1e-6)


ALIKE = {"late_ratio": 0.0, "late_seconds": 0.0, "failed_attempts": 0.0}
NOWHERE = {"egress_gb": 0.0, "egress_usd": 0.0}
BEFORE = {
    "workflow": "new",
    "deadline_seconds": 260.0,
    "policies": {
        name: {
            "cost_usd": cost,
            "finish_seconds": 260.0,
            **ALIKE,
            "moves": moves,
            **NOWHERE,
            "cost_usd_p95": cost,
            "finish_seconds_p95": 260.0,
            "replays": replays,
        }
        for name, cost, moves, replays in (
            ("market", 0.0305, 0.0, 3),
            ("skypilot-like", 0.035, 0.0, 1),
        )
    },
    "lower_bound_usd": 0.022998,
    "gap_ratio": 0.245967213114754,
    "construction_seconds": 0.0,
    "search_seconds": 0.0,
    "notes": [],
}
"""What was printed before history could be given, with errors of 0.3 and 0.2; no move was one."""


def test_without_history_the_document_is_to_the_byte_what_it_was(flow: Any) -> None:
    new = flow("new", Step("load", 60, None, GIB), Step("fit", 200, None, GIB, 2, (0,)))
    case = case_of(new, None, runtime_error=0.3, memory_error=0.2, replays=3, plans=3)
    assert json.dumps(figures(case, ["market", "skypilot-like"])) == json.dumps(BEFORE)


def measured(key: str, attempt: int, ending: Ending, peak: int, given: int) -> Usage:
    started = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=attempt)
    return Usage(
        run_id="0123456789",
        step_key=key,
        attempt=attempt,
        identity=StepIdentity(code_location="etl", node=key),
        provider="local",
        resource_id="cu",
        started_at=started,
        ended_at=started + timedelta(seconds=9),
        cpu_millis=1000,
        memory_bytes=given,
        measurement=Measurement(
            wall_ms=9000, cpu_ms=9000, peak_memory_bytes=peak, baseline_bytes=100 * MIB
        ),
        ending=ending,
        input_bytes=7,
    )


def test_a_past_run_teaches_with_the_code_that_was_loaded_and_with_what_failed() -> None:
    outline = RunOutline(
        run_id="0123456789",
        job_name="etl",
        steps=(StepOutline(step_key="fit", op_name="fit", identity=StepIdentity(node="fit")),),
    )
    run = recorded_run(
        outline,
        [
            measured("fit", 2, Ending.OK, 600 * MIB, GIB),
            measured("fit", 1, Ending.OUT_OF_MEMORY, 200 * MIB, 200 * MIB),
        ],
    )
    assert [usage.ending for usage in run.attempts] == [Ending.OUT_OF_MEMORY, Ending.OK]
    assert [usage.measurement.peak_memory_bytes for usage in run.attempts] == [
        300 * MIB,
        700 * MIB,
    ]
    learned = learn(run, [run], MACHINES)
    assert learned.known == {"fit"}
    assert learned.forecasts.expected_ms == {"fit": 9000}
    assert learned.forecasts.reserved["fit"] >= 700 * MIB
    assert learned.itself == ("run 0123456789",)


@pytest.mark.skipif("CU_MARKET_DATA" not in os.environ, reason="CU_MARKET_DATA is not set")
def test_a_real_workflow_that_was_seen_is_forecast_closely_and_costs_about_what_it_must() -> None:
    data = Path(os.environ["CU_MARKET_DATA"])
    recorded = recorded_file(data / "workflows" / "blast-chameleon-small-001.json")
    machines = read_machines([data / "catalogs" / "aws-us-east-1.csv"])
    learned = learn(recorded, [recorded], machines)
    assert learned.known == {task.task_id for task in recorded.tasks}
    case = replace(case_of(recorded, learned), machines=machines)
    document = figures(case, ["market", CLAIRVOYANT])
    forecast = document["forecast"]
    assert 0.9 < forecast["duration_ratio_p50"] < 1.1
    assert 0.8 < forecast["duration_ratio_p5"] <= forecast["duration_ratio_p95"] < 1.25
    market, known = (document["policies"][name] for name in ("market", CLAIRVOYANT))
    assert market["cost_usd"] < 1.1 * known["cost_usd"]
    assert market["finish_seconds"] < 1.1 * document["deadline_seconds"]
