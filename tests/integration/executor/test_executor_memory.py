"""A step past its memory is ended alone, and leased again with what it has shown to need."""

from __future__ import annotations

from pathlib import Path

import pytest
from dagster import DagsterEventType
from execution_record import MARKET, Bench
from unhurried import UNHURRIED

from cu_market.domain.units import lease_cost_microusd

MIB = 2**20

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(1800),
    # Dagster reads its config classes in a way that pydantic has deprecated.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]


def test_an_attempt_ended_for_memory_is_leased_again_with_more(
    bench: Bench, tmp_path: Path
) -> None:
    ops = {"hungry": {"config": {"folder": str(tmp_path), "mib": 200}}}
    run_id = bench.run("out_of_memory", MARKET, ops=ops)
    record = bench.record(run_id)
    assert record.status == "SUCCESS"
    # The step asserts itself that no retry of its policy was used.
    assert "STEP_UP_FOR_RETRY" not in record.events["hungry"]
    assert record.events["hungry"].count("STEP_SUCCESS") == 1
    told = [m for m in bench.engine_messages(run_id) if "out of memory: used " in m]
    assert told
    assert "of 64.0 MiB" in told[0]
    assert "No retry of the step's own is used" in told[0]
    first, *others = [row for row in bench.allocations(run_id) if row.step_key == "hungry"]
    assert first.size.memory_bytes == 64 * MIB
    assert [row.attempt for row in (first, *others)] == list(range(1, len(others) + 2))
    assert others[0].size.memory_bytes > 2 * first.size.memory_bytes - 1
    assert others[-1].state == "SETTLED"


def test_what_was_ended_for_memory_is_billed_once(bench: Bench, tmp_path: Path) -> None:
    ops = {"hungry": {"config": {"folder": str(tmp_path), "mib": 200}}}
    run_id = bench.run("out_of_memory", MARKET, ops=ops)
    rows = bench.allocations(run_id)
    assert {row.state for row in rows} <= {"SETTLED", "RELEASED"}
    for row in rows:
        if row.state == "RELEASED":
            assert not row.cost_microusd
            continue
        assert row.ended_at is not None
        since = row.priced_since or row.leased_at  # where a slow one has grown in place first
        assert since is not None
        milliseconds = round(1000 * (row.ended_at - since).total_seconds())
        at_last = lease_cost_microusd(row.price_microusd_per_hour, milliseconds)
        assert row.cost_microusd == pytest.approx(row.accrued_microusd + at_last, abs=1)
    usages = bench.usages(run_id)
    assert len({(u.step_key, u.attempt) for u in usages}) == len(usages)
    hungry = sorted((u for u in usages if u.step_key == "hungry"), key=lambda u: u.attempt)
    assert hungry[0].ending == "out of memory"
    assert hungry[-1].ending == "ok"
    assert hungry[0].measurement.peak_memory_bytes > 64 * MIB


def test_on_oom_fail_opts_out(bench: Bench, tmp_path: Path) -> None:
    ops = {"hungry_once": {"config": {"folder": str(tmp_path)}}}
    run_id = bench.run("out_of_memory_for_good", MARKET, ops=ops)
    record = bench.record(run_id)
    assert record.status == "FAILURE"
    (said,) = record.failures["hungry_once"]
    assert said.startswith("StepOutOfMemoryError: out of memory: used ")
    assert "of 64.0 MiB" in said
    assert record.events["bystander"][-1] == "STEP_SUCCESS"
    assert "after_memory" not in record.events
    assert len([r for r in bench.allocations(run_id) if r.step_key == "hungry_once"]) == 1


def test_two_hundred_steps_never_hold_more_than_the_pool_has(bench: Bench) -> None:
    settings = {
        **UNHURRIED,
        "providers": {"local": {"cores": 2, "memory": "4GiB"}},
        "defaults": {"cpu": 1, "memory": "256MiB", "duration_seconds": 1},
    }
    run_id = bench.run(
        "many",
        {"market": {"settings": settings, "max_concurrent": 8}},
        ops={"spread": {"config": {"count": 200}}},
    )
    succeeded = bench.entries(run_id, DagsterEventType.STEP_SUCCESS)
    assert len(succeeded) == 201
    rows = [row for row in bench.allocations(run_id) if row.leased_at is not None]
    assert len(rows) == 201
    moments = []
    for row in rows:
        assert row.ended_at is not None
        # A lease that ends frees its room before one that begins in the same instant takes it.
        moments.append((row.leased_at, 1, row.size.cpu_millis, row.size.memory_bytes))
        moments.append((row.ended_at, 0, -row.size.cpu_millis, -row.size.memory_bytes))
    cpu_millis = memory_bytes = most_cpu_millis = 0
    for _, _, cpu, memory in sorted(moments):
        cpu_millis, memory_bytes = cpu_millis + cpu, memory_bytes + memory
        most_cpu_millis = max(most_cpu_millis, cpu_millis)
        assert cpu_millis <= 2000
        assert memory_bytes <= 4 * 2**30
    assert (cpu_millis, memory_bytes) == (0, 0)
    assert most_cpu_millis == 2000
