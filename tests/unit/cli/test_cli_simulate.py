"""`cu-market simulate`: through functions and through the command line."""

from __future__ import annotations

import csv
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from dagster import DagsterInstance, job, op
from typer.testing import CliRunner

from cu_market.cli.app import app
from cu_market.cli.deployment import open_deployment
from cu_market.cli.simulate_documents import simulate_documents
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.request import StepIdentity
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.sim.recorded import recorded_file


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    columns = "InstanceType,vCPUs,MemoryGiB,Price,SpotPrice,Region,Arch,ClockMHz"
    catalog = tmp_path / "prices.csv"
    catalog.write_text(
        f"{columns}\nc6a.large,2,4,0.36,,r,amd64,3600\nc6a.xlarge,4,8,0.72,,r,amd64,3600\n"
    )
    workflow = tmp_path / "flow.json"
    tasks = [{"id": f"t{k}", "parents": [] if k == 0 else ["t0"]} for k in range(4)]
    runs = [{"id": f"t{k}", "runtimeInSeconds": 100 + k, "coreCount": 1} for k in range(4)]
    document = {"workflow": {"specification": {"tasks": tasks}, "execution": {"tasks": runs}}}
    workflow.write_text(json.dumps(document))
    return workflow, catalog


def simulated(workflow: Path, catalog: Path, policies: list[str], **more: Any) -> dict[str, Any]:
    (document,) = simulate_documents(
        [recorded_file(workflow)],
        [catalog],
        policies,
        **{
            "spot": None,
            "schedule_out": None,
            "picture_out": None,
            "seconds": 2.0,
            "options": {},
            **more,
        },
    )
    return document


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["simulate", *map(str, arguments)])


def test_schedules_give_the_cost_again_and_pictures_are_drawn(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    document = simulated(*files, ["market", "greedy"], schedule_out=out, picture_out=out)
    prices = {"c6a.large": 0.36, "c6a.xlarge": 0.72}
    for name, figures in document["policies"].items():
        with (out / "flow" / f"{name}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert {row["location"] for row in rows} == {"r"}
        spans: dict[str, list[float]] = {}
        kinds = {row["cu_id"]: row["instance_type"] for row in rows}
        for row in rows:
            spans.setdefault(row["cu_id"], []).extend(
                (float(row["start_seconds"]), float(row["end_seconds"]))
            )
        cost = sum(
            prices[kinds[cu]] * max(60, 45 + max(times) - min(times)) / 3600
            for cu, times in spans.items()
        )
        assert figures["cost_usd"] == pytest.approx(cost, abs=1e-5)
    for picture in ("market.png", "greedy.png", "cost-finish.png"):
        assert (out / "flow" / picture).read_bytes().startswith(b"\x89PNG")


def test_a_policy_that_nobody_knows_is_refused_with_those_that_there_are(
    files: tuple[Path, Path],
) -> None:
    with pytest.raises(InvalidInputError, match="clairvoyant"):
        simulated(*files, ["oracle"])


def test_one_workflow_gives_an_object_and_several_a_list(files: tuple[Path, Path]) -> None:
    workflow, catalog = files
    one = invoke(workflow, "--catalog", catalog, "--policy", "market", "--seconds", 1, "--json")
    document = json.loads(one.stdout)
    assert document["workflow"] == "flow"
    assert set(document["policies"]["market"]) >= {
        *("cost_usd", "finish_seconds", "late_ratio", "late_seconds", "failed_attempts"),
        *("moves", "egress_gb", "egress_usd", "cost_usd_p95", "finish_seconds_p95"),
    }
    other = workflow.with_name("other.json")
    other.write_text(workflow.read_text())
    both = invoke(
        *(workflow, other, "--catalog", catalog, "--policy", "static", "--seconds", 1, "--json")
    )
    assert [each["workflow"] for each in json.loads(both.stdout)] == ["flow", "other"]


def test_an_option_may_be_given_several_values_at_once(files: tuple[Path, Path]) -> None:
    workflow, catalog = files
    other = catalog.with_name("other.csv")
    other.write_text(
        catalog.read_text().replace("0.36", "0.18").replace("0.72", "0.36").replace("c6a", "c7a")
    )
    done = invoke(
        *(workflow, "--policy", "market", "static", "--catalog", catalog, other),
        *("--seconds", 1, "--json"),
    )
    document = json.loads(done.stdout)
    assert list(document["policies"]) == ["market", "static"]
    alone = json.loads(
        invoke(workflow, "--policy", "static", "--catalog", catalog, "--json").stdout
    )
    cheaper, dearer = (d["policies"]["static"]["cost_usd"] for d in (document, alone))
    assert cheaper < dearer


def test_tables_come_with_what_was_left_out_and_why(files: tuple[Path, Path]) -> None:
    workflow, catalog = files
    done = invoke(workflow, "--catalog", catalog, "--policy", "static", "static-spot")
    assert done.exit_code == 0
    assert "static-spot is left out: it needs a spot trace (--spot)" in done.stdout
    assert "egress" in done.stdout


def test_all_that_is_wrong_is_told_before_anything_is_planned(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    workflow, catalog = files
    broken, missing = tmp_path / "broken.json", tmp_path / "missing.json"
    broken.write_text("{")
    done = invoke(workflow, broken, missing, "--catalog", catalog)
    assert (done.exit_code, done.stdout) == (2, "")
    assert all(str(path) in done.stderr for path in (broken, missing))
    wide = tmp_path / "wide.json"
    wide.write_text(workflow.read_text().replace('"coreCount": 1', '"coreCount": 64'))
    done = invoke(workflow, wide, "--catalog", catalog)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"{wide}: task 't0'='64 cores, 1.5 GiB': no eligible type" in done.stderr
    assert "nothing to replay" in invoke("--catalog", catalog).stderr
    catalog.write_text(catalog.read_text().replace("amd64", "arm64"))
    assert "none of its types is eligible" in invoke(workflow, "--catalog", catalog).stderr


def test_two_of_one_name_do_not_write_over_each_other(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    workflow, catalog = files
    folder = tmp_path / "again"
    folder.mkdir()
    (folder / "flow.json").write_text(workflow.read_text())
    done = invoke(
        *(workflow, folder / "flow.json", "--catalog", catalog, "--schedule-out", tmp_path / "out")
    )
    assert done.exit_code == 2
    assert "another one is called flow, too" in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_written_or_imported_is_told_without_a_traceback(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow, catalog = files
    taken = tmp_path / "taken"
    taken.touch()
    shared = (workflow, "--catalog", catalog, "--policy", "static")
    done = invoke(*shared, "--schedule-out", taken)
    assert done.exit_code == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"cu-market: {taken}")
    assert line.endswith("Not a directory; give another path, or mend what is there")
    monkeypatch.setitem(sys.modules, "simpy", None)
    monkeypatch.delitem(sys.modules, "cu_market.sim.replay", raising=False)
    monkeypatch.delitem(sys.modules, "cu_market.sim.study", raising=False)
    done = invoke(*shared)
    assert done.exit_code == 1
    assert done.stderr == "cu-market: 'simpy' is not installed; install cu-market[market]\n"


@op
def load() -> int:
    return 1


@op
def train(loaded: int) -> int:
    return loaded


@job
def etl() -> None:
    train(load())


def test_a_past_run_is_replayed_as_it_was_measured(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    _, catalog = files
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").touch()
    with DagsterInstance.from_config(str(home)) as instance:
        run_id = etl.execute_in_process(instance=instance).run_id
        unknown = etl.execute_in_process(instance=instance).run_id
    started = datetime(2026, 1, 1, tzinfo=UTC)
    with open_deployment(home) as deployment:
        deployment.ledger.keep_usages(
            Usage(
                run_id=run_id,
                step_key=key,
                attempt=1,
                identity=StepIdentity(node=key),
                provider="local",
                resource_id="cu",
                started_at=started,
                ended_at=started + timedelta(seconds=100),
                cpu_millis=1000,
                memory_bytes=2**30,
                measurement=Measurement(wall_ms=wall_ms, cpu_ms=1, peak_memory_bytes=2**28),
                ending=Ending.OK,
            )
            for key, wall_ms in (("load", 100_000), ("train", 200_000))
        )
    shared = ("--catalog", catalog, "--home", home, "--seconds", 1, "--json")
    document = json.loads(invoke("--run", run_id[:13], *shared).stdout)
    assert document["workflow"] == f"etl-{run_id[:8]}"
    assert document["deadline_seconds"] == 300
    assert document["policies"]["static"]["cost_usd"] == pytest.approx(0.36 * 345 / 3600, abs=1e-6)
    done = invoke("--run", unknown, *shared)
    assert (done.exit_code, done.stdout) == (3, "")
    assert f"run {unknown}: no step of it was measured to a good end" in done.stderr
    assert invoke("--run", "ffff", *shared).exit_code == 3
