"""Accounts share a pool that is too small by their weights; budgets hold; spot gives way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from execution_record import Bench
from running import Running, wait_until
from unhurried import UNHURRIED

from cu_market.domain.allocation import Allocation, AllocationState

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]

PRICES = {"core_usd_per_hour": 36, "gb_usd_per_hour": 0}


def settings(cores: int, tariffs: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    return {**UNHURRIED, "providers": {"local": {"cores": cores, "tariffs": tariffs}}, **more}


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """Where the steps leave what they did."""
    folder = tmp_path / "marks"
    folder.mkdir()
    return folder


def core_seconds(rows: Sequence[Allocation], start: datetime, end: datetime) -> float:
    total = 0.0
    for row in rows:
        assert row.leased_at is not None
        assert row.ended_at is not None
        held = (min(end, row.ended_at) - max(start, row.leased_at)).total_seconds()
        total += max(0.0, held) * row.size.cpu_millis / 1000
    return total


def most_at_once(rows: Sequence[Allocation]) -> int:
    changes = [(row.accepted_at, row.size.cpu_millis) for row in rows if row.accepted_at]
    changes += [(row.ended_at, -row.size.cpu_millis) for row in rows if row.ended_at]
    held = most = 0
    for _, amount in sorted(changes):  # at one moment, what ends comes first
        held += amount
        most = max(most, held)
    return most


@pytest.mark.alone
def test_three_accounts_share_a_small_pool_by_their_weights(bench: Bench, marks: Path) -> None:
    weights = {"a": 1, "b": 1, "c": 2}
    said = settings(
        2,
        [{"name": "only", **PRICES}],
        accounts={name: {"weight": weight} for name, weight in weights.items()},
    )
    jobs = {"a": "some", "b": "some", "c": "lots"}
    running = {name: Running(job, marks, said, account=name) for name, job in jobs.items()}
    runs = {name: each.end() for name, each in running.items()}
    rows = {name: bench.allocations(run_id) for name, run_id in runs.items()}
    for name, run_id in runs.items():
        assert bench.record(run_id).status == "SUCCESS"
        assert {row.state for row in rows[name]} == {AllocationState.SETTLED}
    found = list(marks.iterdir())
    assert len(found) == 24 + 24 + 48
    assert all(mark.read_text() == "ran\n" for mark in found)  # no step ran twice
    assert most_at_once([row for found in rows.values() for row in found]) <= 2000
    start = max(min(row.leased_at for row in found if row.leased_at) for found in rows.values())
    end = min(max(row.leased_at for row in found if row.leased_at) for found in rows.values())
    used = {name: core_seconds(found, start, end) for name, found in rows.items()}
    print({name: round(seconds, 2) for name, seconds in used.items()}, end - start)
    total = sum(used.values())
    assert total > 5
    for name, weight in weights.items():
        assert used[name] / total == pytest.approx(weight / 4, rel=0.1)


@pytest.mark.parametrize("raised", [False, True], ids=["from the start", "while it waits"])
def test_of_one_account_the_urgent_run_takes_what_becomes_free(
    bench: Bench, marks: Path, raised: bool
) -> None:
    said = settings(1, [{"name": "only", **PRICES}])
    patient = Running("some", marks, said)
    try:
        wait_until(lambda: len(list(marks.iterdir())) >= 2)
        (patient_run,) = (run.run_id for run in bench.instance.get_runs())
        urgent = Running("few", marks, said, priority="-1" if raised else "1")
        try:
            if raised:
                other = wait_for_another(bench, patient_run)
                wait_until(lambda: any("Waiting" in m for m in bench.engine_messages(other)))
                bench.instance.add_run_tags(other, {"cu/priority": "1"})
            urgent_run = urgent.end()
        finally:
            urgent.kill()
        hurried = bench.allocations(urgent_run)
        told = bench.engine_messages(patient_run)
        assert patient.end() == patient_run
    finally:
        patient.kill()
    rows = bench.allocations(patient_run)
    assert {row.state for row in [*hurried, *rows]} == {AllocationState.SETTLED}
    assert len(list(marks.iterdir())) == 4 + 24
    # From the moment at which the urgent run has asked once, nobody else's step begins before its
    # own have all begun.
    begun = sorted((row.leased_at, row.run_id) for row in [*hurried, *rows] if row.leased_at)
    turns = [run_id for _, run_id in begun]
    first, last = turns.index(urgent_run), len(turns) - 1 - turns[::-1].index(urgent_run)
    assert turns[first : last + 1] == [urgent_run] * 4
    assert turns[last + 1 :]
    said_so = f"run {urgent_run[:8]} goes first on local: its priority is 1, this run's 0"
    assert any(said_so in message for message in told)


def wait_for_another(bench: Bench, run_id: str) -> str:
    """Returns the id of the run that is not this one, once there is one."""
    wait_until(lambda: bench.instance.get_runs_count() > 1)
    return next(run.run_id for run in bench.instance.get_runs() if run.run_id != run_id)


@pytest.mark.parametrize("rule", ["fail", "wait"])
def test_a_run_over_its_budget_stops_buying(bench: Bench, marks: Path, rule: str) -> None:
    said = settings(1, [{"name": "only", **PRICES}], on_budget=rule)
    # A step is expected to cost 0.3 s x $0.01 and really costs more: at most three are bought.
    run = Running("few", marks, said, budget_usd="0.01")
    if rule == "fail":
        run_id = run.end()
        record = bench.record(run_id)
        assert record.status == "FAILURE"
        failed = [words for said in record.failures.values() for words in said]
        assert failed
        assert all("BudgetExceeded: cu/budget_usd of this run is $0.010000" in w for w in failed)
        assert all("raise the run tag cu/budget_usd and re-execute the run" in w for w in failed)
        rows = [row for row in bench.allocations(run_id) if row.cost_microusd is not None]
        assert 1 <= len(rows) <= 3
        assert len(list(marks.iterdir())) == len(rows)
        return
    try:
        ended = DagsterRuns(bench)
        said = "raise the run tag cu/budget_usd and it goes on"
        wait_until(lambda: any(said in message for message in ended.messages()))
        before = len(list(marks.iterdir()))
        assert 1 <= before <= 3
        bench.instance.add_run_tags(ended.run_id(), {"cu/budget_usd": "100"})
        run_id = run.end()
    finally:
        run.kill()
    assert bench.record(run_id).status == "SUCCESS"  # it waited, and went on with more
    assert len(list(marks.iterdir())) == 4


class DagsterRuns:
    """The only run of an instance, while it goes on."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def run_id(self) -> str:
        (run,) = self._bench.instance.get_runs()
        return run.run_id

    def messages(self) -> Sequence[str]:
        runs = self._bench.instance.get_runs()
        return self._bench.engine_messages(runs[0].run_id) if runs else []


def test_spot_gives_way_and_runs_again_without_a_retry(bench: Bench, marks: Path) -> None:
    tariffs = [
        {"name": "standard", **PRICES},
        {"name": "spot", "core_usd_per_hour": 3, "gb_usd_per_hour": 0, "spot": True},
    ]
    said = settings(1, tariffs)
    cheap = Running("cheap", marks, said)
    try:
        wait_until((marks / "pushed").exists)
        firm = Running("firm", marks, said).end()
        assert (marks / "pushing").exists()
        run_id = cheap.end()
    finally:
        cheap.kill()
    assert bench.record(firm).status == "SUCCESS"
    record = bench.record(run_id)
    assert record.status == "SUCCESS"
    assert "STEP_UP_FOR_RETRY" not in record.events["pushed"]
    assert record.events["pushed"].count("STEP_SUCCESS") == 1
    *pushed_out, last = [row for row in bench.allocations(run_id) if row.fencing_token]
    endings = {usage.attempt: usage.ending for usage in bench.usages(run_id)}
    assert pushed_out[0].resource_id == "local/spot"
    assert endings[pushed_out[0].attempt] == "preempted"
    # Until the firm step has its lease the spot may be taken, and taken back, once more: what has
    # not begun by then has used nothing.
    assert {endings.get(row.attempt, "preempted") for row in pushed_out} == {"preempted"}
    assert endings[last.attempt] == "ok"
    told = bench.engine_messages(run_id)
    assert any("was taken back for a step that is not spot" in message for message in told)
    assert any("Takes back room" in message for message in bench.engine_messages(firm))
