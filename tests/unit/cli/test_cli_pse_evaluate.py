from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from trace_samples import make_tasks, to_csv
from typer.testing import CliRunner

from cu_market.cli.app import app

METHODS = [
    "cu_market",
    "presets",
    "max_1_1",
    "max_1_1_after_3",
    "p95",
    "witt_percentile",
    "witt_lr",
    "tovar_ppm",
    "best_constant",
]


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "flow.csv"
    path.write_text(to_csv(make_tasks(120)))
    return path


def evaluate(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["pse", "evaluate", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result.output


def test_the_document_has_every_method_and_its_figures(trace: Path) -> None:
    document = json.loads(evaluate(trace, "--seeds", 2, "--json"))
    assert (document["trace"], document["protocol"], document["seeds"]) == (
        "flow",
        "warm",
        [1996, 7],
    )
    assert list(document["methods"]) == METHODS
    ours = document["methods"]["cu_market"]
    assert set(ours["wastage_gbh_by_seed"]) == {"1996", "7"}
    mean = sum(ours["wastage_gbh_by_seed"].values()) / 2
    assert ours["wastage_gbh_mean"] == pytest.approx(mean)
    for name in ("memory_coverage", "runtime_coverage", "memory_mdape", "runtime_mdape"):
        assert 0 <= ours[name] <= 1
    assert ours["ms_per_prediction"] > 0 < ours["ms_per_update"]
    assert document["methods"]["presets"]["memory_coverage"] is None


@pytest.mark.parametrize("protocol", ["warm", "cold"])
def test_wastage_and_coverage_can_be_recomputed_from_the_attempts(
    trace: Path, tmp_path: Path, protocol: str
) -> None:
    out = tmp_path / "attempts.csv"
    options = ["--protocol", protocol, "--seeds", 1, "--attempts-out", out, "--json"]
    ours = json.loads(evaluate(trace, *options))["methods"]["cu_market"]
    tasks = make_tasks(120)
    wasted, failed, inside, known, last = 0.0, 0, 0, 0, 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert {row["seed"] for row in rows} == {"1996" if protocol == "warm" else "0"}
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        task = tasks[int(row["row"])]
        assert task.process == row["process"]
        peak = (task.rss_bytes if protocol == "warm" else task.peak_rss_bytes) or 0
        size, hours = float(row["allocated_bytes"]), (task.realtime_ms or 0) / 3_600_000
        assert int(row["attempt"]) == last + 1
        is_last = following is None or following["row"] != row["row"]
        assert is_last == (size >= peak)
        wasted += (size - peak if is_last else size) * hours / 1e9
        failed += not is_last
        last = 0 if is_last else last + 1
        if is_last and int(row["history_count"]):
            known += 1
            inside += float(row["memory_p10_bytes"]) <= peak <= float(row["memory_p90_bytes"])
    assert wasted == pytest.approx(ours["wastage_gbh_mean"])
    assert failed == ours["failed_attempts_mean"]
    assert inside / known == pytest.approx(ours["memory_coverage"])


def test_a_prior_changes_what_is_borrowed(trace: Path, tmp_path: Path) -> None:
    prior = tmp_path / "other.csv"
    prior.write_text(to_csv(make_tasks(90, seed=9)))
    plain, borrowed = (
        json.loads(evaluate(trace, "--protocol", "cold", "--coarse-bytes", "--json", *extra))
        for extra in ((), ("--prior", prior))
    )
    first, second = (each["methods"] for each in (plain, borrowed))
    assert first["cu_market"]["wastage_gbh_mean"] != second["cu_market"]["wastage_gbh_mean"]
    assert first["max_1_1"]["wastage_gbh_mean"] == second["max_1_1"]["wastage_gbh_mean"]


def test_a_table_is_printed(trace: Path) -> None:
    printed = evaluate(trace, "--protocol", "cold", "--risk", "safe")
    assert all(name in printed for name in METHODS)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--coarse-bytes"], "--coarse-bytes"),
        (["--prior", "x.csv"], "--prior"),
        (["--format", "wfformat"], "no WfFormat document"),
        (["--attempts-out", "/nowhere/a.csv"], "--attempts-out"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_remedy(
    trace: Path, options: list[str], named: str
) -> None:
    assert named in evaluate(trace, "--seeds", 1, *options, code=2)


def test_a_trace_too_short_for_the_warm_protocol_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "short.csv"
    path.write_text(to_csv(make_tasks(30)))
    assert "try --protocol cold" in evaluate(path, code=2)
    assert "cannot be read" in evaluate(tmp_path / "none.csv", code=2)
