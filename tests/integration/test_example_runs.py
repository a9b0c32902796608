"""The example project runs through the real daemon, launcher and ledger, and learns."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from daemon import running_daemon, wait_for
from dagster import AssetKey, DagsterInstance, DagsterRun, DagsterRunStatus

from cu_market.deo.settings import instance_settings
from cu_market.domain.allocation import AllocationState
from cu_market.domain.usage import Ending
from cu_market.ledger.sql import SqlLedger
from cu_market.market.opening import open_instance_ledger

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
STEPS = 18
AUCTIONED = 16  # three are mapped over what only the run knows: auctioned as one


@pytest.fixture(scope="module")
def home(
    tmp_path_factory: pytest.TempPathFactory, new_storage: Callable[[], str]
) -> Iterator[Path]:
    """A copy of the project's home with its daemon running."""
    home = tmp_path_factory.mktemp("example_home")
    configured = (ROOT / "dagster_home" / "dagster.yaml").read_text()
    # The same launcher, and the same market, that a busy machine does not hurry.
    for hurried, unhurried in (
        ("  module: cu_market\n", "  module: patient_launcher\n"),
        ("bid_deadline_seconds: 1.0", "bid_deadline_seconds: 60"),
        ("solve_seconds: 1.0", "solve_seconds: 60"),
    ):
        assert configured.count(hurried) == 1
        configured = configured.replace(hurried, unhurried)
    (home / "dagster.yaml").write_text(configured + new_storage())
    (home / "workspace.yaml").write_text((ROOT / "workspace.yaml").read_text())
    with running_daemon(home, Path(__file__).parent):
        yield home


@pytest.fixture(scope="module")
def runs(home: Path) -> list[str]:
    """Two runs of the example, one after the other."""
    with DagsterInstance.get() as instance:
        return [_run(instance) for _ in range(2)]


@pytest.fixture
def ledger(home: Path) -> Iterator[SqlLedger]:
    with DagsterInstance.get() as instance:
        settings = instance_settings(instance)
    with open_instance_ledger(settings, str(home)) as ledger:
        yield ledger


def _run(instance: DagsterInstance) -> str:
    """Queues the job as a person does, waits for its end, returns its run_id."""
    known = {run.run_id for run in instance.get_runs()}
    job = ["-w", ROOT / "workspace.yaml", "-l", "flights", "-j", "flights_job"]
    subprocess.run([BIN / "dagster", "job", "launch", *job], check=True, capture_output=True)
    (run_id,) = {run.run_id for run in instance.get_runs()} - known

    def ended() -> DagsterRun | None:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        return run if run.is_finished else None

    wait_for(lambda: ended() is not None, "the run's end", 600)
    run = ended()
    assert run is not None
    failures = [entry.message for entry in instance.all_logs(run_id) if entry.level >= 40]
    assert run.status is DagsterRunStatus.SUCCESS, failures
    return run_id


def test_every_step_is_leased_ended_and_billed_once(runs: list[str], ledger: SqlLedger):
    for run_id in runs:
        rows = ledger.allocations(run_id=run_id)
        settled = [row for row in rows if row.state is AllocationState.SETTLED]
        assert len({row.step_key for row in settled}) == STEPS
        endings = [
            (usage.step_key, usage.ending.value, usage.memory_bytes, usage.measurement)
            for usage in ledger.usages(run_id=run_id)
        ]
        # None was killed for memory or lost: an award that was moved has a later attempt's number.
        assert [ending for ending in endings if ending[1] != Ending.OK.value] == []
        assert len(settled) == STEPS
        assert {row.state for row in rows} <= {AllocationState.SETTLED, AllocationState.RELEASED}
        assert all(row.cost_microusd is not None for row in settled)


def test_the_launcher_held_the_auction(runs: list[str], ledger: SqlLedger):
    """While a run goes, what has not started may be planned again, and moved."""
    for run_id in runs:
        *later, first = ledger.auctions(run_id)
        assert first.place == "launcher"
        assert len(first.report["steps"]) == AUCTIONED
        assert {auction.place for auction in later} <= {"executor", "renegotiation"}


def test_what_is_declared_is_at_most_four_times_the_peak(runs: list[str], ledger: SqlLedger):
    heavy = ("flights", "flights_clean", "flights_joined", "delay_intervals", "delay_model")
    usages = {usage.step_key: usage for usage in ledger.usages(run_id=runs[0])}
    ratios = {
        step: usages[step].memory_bytes / usages[step].measurement.peak_memory_bytes
        for step in heavy
    }
    assert max(ratios.values()) <= 4, ratios


def test_the_second_run_is_awarded_less_than_the_first(runs: list[str], ledger: SqlLedger):
    """What a step is awarded may grow in place while it runs: the awards are compared."""
    first, second = (
        {step["step"]: step for step in ledger.auctions(run_id)[-1].report["steps"]}
        for run_id in runs
    )
    assert second["flights_joined"]["memory_gb"] < first["flights_joined"]["memory_gb"] / 2
    assert second["delay_intervals"]["cpu_cores"] < first["delay_intervals"]["cpu_cores"]


def test_the_model_has_a_picture_of_its_result(runs: list[str]):
    with DagsterInstance.get() as instance:
        event = instance.get_latest_materialization_event(AssetKey("delay_model"))
    assert event is not None
    assert event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert str(metadata["picture"].value).startswith("![foretold and real delays](data:image/png;")
    error = metadata["mean_absolute_error_minutes"].value
    naive = metadata["error_of_the_median_minutes"].value
    assert isinstance(error, float)
    assert isinstance(naive, float)
    assert error < naive
