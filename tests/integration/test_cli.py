"""The command as a person or a program runs it: a process, its streams, its exit code."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from postgres_server import PASSWORD, PostgresServer

pytestmark = pytest.mark.timeout(1800)

COMMAND = [sys.executable, "-c", "from cu_market.cli.app import main; main()"]


def run_command(
    *arguments: str, home: Path | None, cwd: Path, seconds: int = 600
) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "DAGSTER_HOME"}
    if home is not None:
        environment["DAGSTER_HOME"] = str(home)
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=cwd,
        timeout=seconds,
        check=False,
    )


@pytest.mark.integration
def test_pool_prints_one_json_document_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").touch()
    done = run_command("pool", "--json", home=tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    (provider,) = document["providers"]
    assert provider["provider"] == "local"
    assert provider["capacities"]["local"]["free"] == provider["capacities"]["local"]["total"]
    assert {"cu_id", "cost_per_hour", "performance_score"} <= provider["profiles"][0].keys()


@pytest.mark.integration
def test_every_problem_of_the_settings_is_a_line_on_standard_error(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text(
        "run_launcher:\n  module: cu_market\n  class: MarketRunLauncher\n"
        "  config:\n    market: {solve_seconds: -1, bid_deadline_seconds: 0}\n"
    )
    done = run_command("pool", "--json", home=tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert [("solve_seconds" in line, "bid_deadline_seconds" in line) for line in lines] == [
        (False, True),
        (True, False),
    ]


@pytest.mark.integration
def test_exit_codes_tell_a_missing_home_from_an_empty_ledger(tmp_path: Path) -> None:
    assert run_command("pool", home=None, cwd=tmp_path).returncode == 2
    (tmp_path / "dagster.yaml").touch()
    done = run_command("explain", "last", home=tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "none yet" in done.stderr


@pytest.mark.integration
def test_up_says_that_its_port_is_taken(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").touch()
    (tmp_path / "workspace.yaml").write_text("load_from: []\n")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run_command("up", "--port", port, "--json", home=tmp_path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"port {port}" in done.stderr
    assert "--port" in done.stderr


@pytest.mark.integration
@pytest.mark.slow
def test_the_demo_runs_for_real_and_its_third_run_costs_less(tmp_path: Path) -> None:
    limit = ("--timeout", "1200")
    done = run_command("demo", "--json", *limit, home=None, cwd=tmp_path, seconds=1500)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    first, second, third = document["runs"]
    assert "forecast" not in first["sizing"]
    assert second["sizing"].keys() == third["sizing"].keys() == {"forecast"}
    assert document["is_bar_met"], document["ratio"]
    for run in (first, second, third):
        assert run["bill"]["open_leases"] == 0
        assert {line["ending"] for line in run["billed"]} == {"ok"}
        by_step = sum(line["cost_microusd"] for line in run["bill"]["by_step"])
        assert by_step == run["bill"]["cost_microusd"] > 0


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "DAGSTER_HOME"}
    process = subprocess.Popen(
        [*COMMAND, "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=tmp_path,
    )
    assert process.stderr is not None
    assert "Dagster's daemon starts" in process.stderr.readline()
    process.send_signal(number)
    _, said = process.communicate(timeout=600)
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert _processes_in(tmp_path) == []


def _processes_in(home: Path) -> list[str]:
    """Returns command lines of living processes whose environment or arguments name the home."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes()
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue  # it has just ended, or is not ours
        if f"DAGSTER_HOME={home}".encode() in environment:
            found.append(arguments.decode(errors="replace"))
    return found


# A provider that breaks a promise: it bids for whatever is asked.
BOASTFUL = """
from cu_market.ral.local.provider import LocalProvider

class Boastful(LocalProvider):
    def _can_serve(self, request):
        return True
"""


@pytest.mark.integration
def test_provider_test_tells_what_is_kept_and_what_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "boastful.py").write_text(BOASTFUL)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\n"
        "run_launcher:\n  module: cu_market\n  class: MarketRunLauncher\n  config:\n    market:\n"
        "      providers:\n        local: {cores: 1}\n"
        "        boastful: {kind: 'boastful:Boastful', cores: 1}\n"
    )
    chosen = ("-k", "bid or hears", "--json")
    done = run_command("provider", "test", "local", *chosen, home=tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["options"] == {"kind": "local", "cores": 1}
    assert {each["outcome"] for each in document["tests"]} == {"passed"}
    assert "passed   a worker hears and answers" in done.stderr
    done = run_command("provider", "test", "boastful", *chosen, home=tmp_path, cwd=tmp_path)
    assert done.returncode == 1
    failed = [t for t in json.loads(done.stdout)["tests"] if t["outcome"] == "failed"]
    assert "too large is a bid not made" in {each["test"] for each in failed}
    done = run_command("provider", "test", "nobody", home=tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "boastful, catalog" in done.stderr


@pytest.mark.integration
@pytest.mark.postgres
def test_check_names_a_database_that_is_away_and_finds_one_that_is_there(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_PASSWORD", PASSWORD)
    settings = (
        "telemetry: {{enabled: false}}\n"
        "run_launcher: {{module: cu_market, class: MarketRunLauncher}}\n"
        "storage:\n  postgres:\n    postgres_db: {{hostname: 127.0.0.1, port: {port},\n"
        "      username: postgres, password: {{env: TEST_PASSWORD}}, db_name: {name},\n"
        "      scheme: postgresql+psycopg2}}\n"
    )
    name = postgres.create_database()
    (tmp_path / "dagster.yaml").write_text(settings.format(port=postgres.port, name=name))
    done = run_command("check", "--json", home=tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = {(f["subject"], f["check"]): f for f in json.loads(done.stdout)["findings"]}
    assert found["deployment", "Dagster's storage"]["found"].startswith("PostgreSQL answers")
    assert "SqlLedger(postgresql+psycopg2" in found["deployment", "ledger"]["found"]
    assert PASSWORD not in done.stdout
    for subject in ("deployment", "local"):
        assert found[subject, "clock"]["verdict"] == "ok"
    assert found["local", "database"]["found"] == (
        f"127.0.0.1:{postgres.port} can be reached from there"
    )
    (tmp_path / "dagster.yaml").write_text(settings.format(port=1, name=name))
    done = run_command("check", "--json", home=tmp_path, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    (failed,) = [f for f in json.loads(done.stdout)["findings"] if f["verdict"] == "failed"]
    assert failed["check"] == "Dagster's instance"
    assert "check that the storage's server is up" in failed["remedy"]
