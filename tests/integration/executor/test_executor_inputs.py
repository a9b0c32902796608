"""The bytes that upstream has written size the very next step."""

from __future__ import annotations

import pytest
from dagster import DagsterEventType
from execution_record import MARKET, Bench

from cu_market.domain.usage import Ending, Usage

MIB = 2**20

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    # Dagster reads its config classes in a way that pydantic has deprecated.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]


def run_with(bench: Bench, mib: int) -> str:
    ops = {"write": {"config": {"mib": mib}}}
    return bench.run("growing_input", MARKET, ops=ops, file="input_jobs.py")


def test_growing_input_changes_the_forecast_of_the_very_next_step(bench: Bench) -> None:
    for mib in (10, 20, 30, 40, 50):
        before = run_with(bench, mib)
    small = next(u for u in bench.usages(before) if u.step_key == "read")
    assert small.input_bytes is not None
    assert 50 * MIB <= small.input_bytes < 51 * MIB
    grown = run_with(bench, 100)
    (usage,) = (u for u in bench.usages(grown) if u.step_key == "read")  # none ran short
    assert usage.ending is Ending.OK
    assert usage.input_bytes is not None
    assert 100 * MIB <= usage.input_bytes < 101 * MIB
    assert usage.measurement.peak_memory_bytes > small.measurement.peak_memory_bytes + 150 * MIB
    # Larger than ever before, and yet large enough, and not what its author had asked for. What its
    # last auction gave is looked at: a lease that is thought to fill up grows beyond it.
    (last,) = (s for s in bench.reports(grown)[0]["steps"] if s["step"] == "read")
    given = last["memory_gb"] * 10**9
    assert usage.measurement.peak_memory_bytes <= given < 1024 * MIB
    awards = [row for row in bench.allocations(grown) if row.step_key == "read"]
    assert {row.state for row in awards} == {"SETTLED", "RELEASED"}
    assert min(row.size.memory_bytes for row in awards) < given


def test_an_outputs_size_is_told_in_the_event_log(bench: Bench) -> None:
    run_id = run_with(bench, 3)
    logs = bench.instance.all_logs(run_id, of_type=DagsterEventType.HANDLED_OUTPUT)
    told = {
        entry.step_key: entry.dagster_event.event_specific_data.metadata
        for entry in logs
        if entry.dagster_event is not None
    }
    size = told["write"]["cu/output_bytes"].value
    assert 3 * MIB <= size < 4 * MIB


def test_a_date_that_never_ran_is_sized_by_the_dates_before_it(bench: Bench) -> None:
    def run_of(day: str) -> tuple[Usage, float]:
        run_id = bench.run("by_date", MARKET, file="input_jobs.py", tags={"dagster/partition": day})
        (usage,) = bench.usages(run_id)
        assert usage.ending is Ending.OK
        assert usage.identity.partition == day
        return usage, bench.awarded_gb(run_id)["daily"] * 10**9 / MIB

    (_, first), (usage, second) = run_of("2024-01-01"), run_of("2024-01-02")
    assert first == pytest.approx(1024)  # nobody said, nothing was known
    assert 150 < usage.measurement.peak_memory_bytes / MIB <= second < 350
    _, third = run_of("2024-01-03")
    assert 150 < third <= second
