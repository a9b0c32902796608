"""`cu-market pse`: import twice, show, models, promote, rollback, and what is not there."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cu_market.cli.app import app
from cu_market.ledger.sql import open_ledger
from cu_market.pse.champion.state import DEFAULT_PARAMETERS, ModelState, location_identity
from cu_market.tracking.registry import Registry, models_folder

HEADER = "process,rchar,rss,peak_rss,realtime,memory,cpus,start,complete"


def lines(count: int) -> str:
    rows = [
        f"ALIGN,{100 + n},5e8,{(600 + n) * 10**6},2000,8e9,2,{1_700_000_000_000 + n * 5000},"
        f"{1_700_000_002_000 + n * 5000}"
        for n in range(count)
    ]
    return "\n".join([HEADER, *rows, "ALIGN,1,-,-,5,8e9,1,-,-"])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("CU_MARKET_LEDGER_URL", raising=False)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").touch()
    return tmp_path


def run(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, ["pse", *arguments, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout) if code == 0 else result.stderr


def test_a_trace_is_imported_once_and_shown(home: Path) -> None:
    trace = home / "trace.csv"
    trace.write_text(lines(12))
    first = run("import", str(trace), "--location", "lab")
    assert (first["new"], first["known"], first["steps"]) == (12, 0, 1)
    assert first["bad"] == {"no memory": 1}
    second = run("import", str(trace), "--location", "lab")
    assert (second["new"], second["known"]) == (0, 12)
    (step,) = run("show", "ALIGN")["steps"]
    assert step["step"] == "lab:ALIGN"
    assert len(step["attempts"]) == 12
    assert 600 * 10**6 < step["forecast"]["memory_p50_bytes"] < 700 * 10**6
    assert len(step["plot"]) == 12
    curve = step["trade_off"]
    assert len(curve) >= 5
    chosen = {risk: row["first_bytes"] for row in curve for risk in row["risks"]}
    assert chosen == step["forecast"]["allocation"]
    failing = [row["failure_probability"] for row in curve]
    assert failing == sorted(failing, reverse=True)
    picture = home / "curve.png"
    human = CliRunner().invoke(app, ["pse", "show", "lab:ALIGN", "--picture", str(picture)])
    assert "Attempts, newest first" in human.output
    assert "runs short" in human.output
    assert "balanced" in human.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "neither PNG nor SVG" in run("show", "ALIGN", "--picture", "x.txt", code=2)
    assert "ALIGN" in run("show", "align", code=3)
    assert "no such file" in run("import", str(home / "none.csv"), code=2)
    assert "no such format" in run("import", str(trace), "--format", "xml", code=2)


def test_versions_are_listed_promoted_and_rolled_back(home: Path) -> None:
    assert "no model yet" in run("models", code=3)
    registry = Registry(models_folder(home), "lab")
    for window in (3, 8):
        state = ModelState(parameters={**DEFAULT_PARAMETERS, "window": window})
        registry.add(state, created_at=datetime.now(UTC), figures={}, details={})
    assert run("promote", "lab@1")["champion"] == "lab@1"
    assert "no champion before" in run("rollback", code=3)
    assert run("promote", "2")["aliases"] == {"champion": 2, "previous": 1}
    assert [m["aliases"] for m in run("models")["models"]] == [["previous"], ["champion"]]
    assert run("rollback", "lab")["champion"] == "lab@1"
    with open_ledger(f"sqlite:///{home / 'cu-market' / 'ledger.db'}") as ledger:
        published = ledger.published([location_identity("lab")])
    assert [each.model for each in published.values()] == ["lab@1"]
    assert "no model version 9" in run("promote", "lab@9", code=3)
    assert "lab" in run("promote", "other@1", code=3)


def test_nothing_is_expected_of_an_empty_home(home: Path) -> None:
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    assert "nothing is expected" in run("demand", code=3)
