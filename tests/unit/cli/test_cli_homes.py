"""A folder that is no deployment's home is refused by every command that reads one, untouched."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cu_market.cli.app import app
from cu_market.ledger.location import ledger_file, ledger_url
from cu_market.ledger.sql import open_ledger

COMMANDS = [
    ("pool",),
    ("explain", "last"),
    ("ledger",),
    ("ahead",),
    ("quote", "last"),
    ("check",),
    ("up", "--workspace", "workspace.yaml"),
    ("pse", "show", "STEP"),
    ("pse", "models"),
    ("pse", "promote", "1"),
    ("pse", "rollback"),
    ("pse", "demand"),
    ("pse", "import"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_what_is_missing_is_said_and_nothing_is_created(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, [*command, "--home", str(tmp_path)])
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    missing = "no dagster.yaml in it, and no ledger of a market"
    assert line.startswith(f"cu-market: --home='{tmp_path}': {missing}")
    assert "write a dagster.yaml there" in line
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_was_not_chosen_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    home = tmp_path / "dagster_home"
    home.mkdir()
    done = CliRunner().invoke(app, ["pool"])
    assert f"DAGSTER_HOME='': not set; {home}: no dagster.yaml in it" in done.stderr
    monkeypatch.setenv("DAGSTER_HOME", "dagster_home")
    done = CliRunner().invoke(app, ["pool"])
    assert done.stderr.startswith("cu-market: DAGSTER_HOME='dagster_home': no dagster.yaml in it")
    assert list(home.iterdir()) == []


def test_where_a_market_has_been_without_a_dagster_yaml_it_is_read(tmp_path: Path) -> None:
    with open_ledger(ledger_url(str(tmp_path), None)):
        assert ledger_file(tmp_path).is_file()
    done = CliRunner().invoke(app, ["ledger", "--home", str(tmp_path)])
    assert (done.exit_code, "the ledger has no such rows" in done.stderr) == (3, True)


def test_catalogues_are_listed_where_there_is_no_dagster_yaml_yet(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["catalog", "list", "--home", str(tmp_path)])
    assert done.exit_code == 3, done.output
    assert list(tmp_path.iterdir()) == []
