"""`cu-market simulate --history`: what is told of it, and what is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from dagster import DagsterInstance, job, op
from typer.testing import CliRunner
from workflow_files import Step, write_workflow

from cu_market.cli.app import app
from cu_market.cli.deployment import open_deployment
from cu_market.cli.simulate_tables import forecast_line
from cu_market.domain.request import StepIdentity
from cu_market.domain.units import GIB, MIB
from cu_market.domain.usage import Ending, Measurement, Usage


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    path = tmp_path / "prices.csv"
    path.write_text(
        "InstanceType,vCPUs,MemoryGiB,Price,SpotPrice,Region,Arch,ClockMHz\n"
        "c6a.large,2,4,0.36,,r,amd64,3600\nc6a.xlarge,4,8,0.72,,r,amd64,3600\n"
    )
    return path


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    steps = [Step("load", 60, 10**8, 500 * MIB)]
    steps += [Step("fit", 100 + k, 10**8 + k, 700 * MIB, 1, (0,)) for k in range(4)]
    return write_workflow(tmp_path / "flow.json", steps)


def simulate(workflow: Path | None, catalog: Path, *more: object) -> Result:
    arguments = ["simulate", "--catalog", catalog, "--policy", "market", "--seconds", 1, *more]
    if workflow is not None:
        arguments.insert(1, workflow)
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_what_was_seen_is_counted_and_what_forecasts_were_worth_is_told(
    workflow: Path, catalog: Path, tmp_path: Path
) -> None:
    other = write_workflow(
        tmp_path / "other.json", [Step("fit", 200, 10**8 + k, 700 * MIB) for k in range(4)]
    )
    document = json.loads(simulate(workflow, catalog, "--history", other, "--json").stdout)
    forecast = document["forecast"]
    assert (forecast["recordings"], forecast["known_tasks"]) == (1, 4)
    assert (forecast["borrowed_tasks"], forecast["unknown_tasks"]) == (0, 1)
    assert forecast["duration_ratio_p5"] == 1.0  # a minute for load, which takes one
    assert 1.9 < forecast["duration_ratio_p50"] <= forecast["duration_ratio_p95"] <= 2.0
    assert forecast["memory_ratio_p50"] > 1
    assert forecast["outgrown_tasks"] == 0
    assert document["notes"] == []
    table = simulate(workflow, catalog, "--history", other).stdout
    told = " ".join(table.split())
    assert "forecasts by 1 recording: 4 tasks known by their kind, 0 by others, 1 unknown" in told
    several = simulate(workflow, catalog, "--history", other, "--history", workflow)
    told = " ".join(several.stdout.split())
    assert "forecasts by 2 recordings: 5 tasks known" in told
    assert "the market has seen this very recording" in told


def test_one_line_says_what_there_is_to_say() -> None:
    forecast: dict[str, Any] = {
        "recordings": 1,
        "known_tasks": 1,
        "borrowed_tasks": 2,
        "unknown_tasks": 3,
        "duration_ratio_p5": 0.98,
        "duration_ratio_p50": 1.04,
        "duration_ratio_p95": 0.00123,
        "memory_ratio_p50": None,
        "outgrown_tasks": 0,
    }
    line = forecast_line(forecast)
    assert line.endswith("3 unknown; forecast over recorded time 1.04 (p5 0.98, p95 0.00123)")
    line = forecast_line(forecast | {"memory_ratio_p50": 1.5, "outgrown_tasks": 2})
    assert line.endswith("; reserved over recorded memory 1.5; 2 outgrow what is reserved")


def test_everything_wrong_with_a_history_is_told_before_a_plan(
    workflow: Path, catalog: Path, tmp_path: Path
) -> None:
    broken, missing, empty = (tmp_path / f"{name}.json" for name in ("broken", "missing", "empty"))
    broken.write_text("{")
    write_workflow(empty, [])
    given = [argument for path in (broken, missing, empty) for argument in ("--history", path)]
    done = simulate(workflow, catalog, *given, "--runtime-error", 0.3, "--memory-error", 0.1)
    assert (done.exit_code, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert len(lines) == 5
    for path in (broken, missing):
        (line,) = (line for line in lines if f"--history='{path}': cannot be read" in line)
        assert line.endswith("give a WfFormat 1.5 JSON file")
    assert f"cu-market: --history='{empty}': it has no tasks; give one that has" in lines
    for option, sigma in (("--runtime-error", "0.3"), ("--memory-error", "0.1")):
        (line,) = (line for line in lines if f"{option}='{sigma}'" in line)
        assert "forecasts are learned from history, or err by what is given: not both" in line


def test_an_error_of_nothing_may_stand_beside_history(workflow: Path, catalog: Path) -> None:
    done = simulate(workflow, catalog, "--history", workflow, "--runtime-error", 0, "--json")
    assert done.exit_code == 0
    assert "forecast" in json.loads(done.stdout)


@op
def load() -> int:
    return 1


@op
def fit(loaded: int) -> int:
    return loaded


@job
def etl() -> None:
    fit(load())


def test_past_runs_teach_by_the_form_that_run_takes(catalog: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").touch()
    with DagsterInstance.from_config(str(home)) as instance:
        first, second, unknown = (
            etl.execute_in_process(instance=instance).run_id for _ in range(3)
        )
    with open_deployment(home) as deployment:
        deployment.ledger.keep_usages(
            usage
            for run_id, wall_ms in ((first, 50_000), (second, 100_000))
            for usage in (measured(run_id, "load", wall_ms), measured(run_id, "fit", wall_ms))
        )
    shared = ("--home", home, "--json")
    done = simulate(None, catalog, "--run", second, "--history-run", first[:13], *shared)
    document = json.loads(done.stdout)
    assert document["forecast"]["known_tasks"] == 2
    assert document["forecast"]["duration_ratio_p50"] == 0.5
    assert document["notes"] == []
    same = simulate(None, catalog, "--run", second, "--history-run", second, *shared)
    note = f"the market has seen this very recording: run {second} is in its history"
    assert json.loads(same.stdout)["notes"] == [note]
    for said, what in ((unknown, "was measured to a good end"), ("ffff", "has no run of it")):
        done = simulate(None, catalog, "--run", second, "--history-run", said, *shared)
        assert (done.exit_code, done.stdout) == (3, "")
        assert what in done.stderr
    done = simulate(
        None, catalog, "--run", second, "--history-run", first, *shared[:2], "--runtime-error", 0.1
    )
    assert done.exit_code == 2


def measured(run_id: str, key: str, wall_ms: int) -> Usage:
    started = datetime(2026, 1, 1, tzinfo=UTC)
    return Usage(
        run_id=run_id,
        step_key=key,
        attempt=1,
        identity=StepIdentity(node=key),
        provider="local",
        resource_id="cu",
        started_at=started,
        ended_at=started + timedelta(milliseconds=wall_ms),
        cpu_millis=1000,
        memory_bytes=GIB,
        measurement=Measurement(
            wall_ms=wall_ms, cpu_ms=wall_ms, peak_memory_bytes=300 * MIB, baseline_bytes=50 * MIB
        ),
        ending=Ending.OK,
    )
