"""Under the daemon: a price rises, a provider goes, a step overruns; the run page says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from daemon import running_daemon, serve_file, wait_for
from dagster import DagsterInstance, DagsterRunStatus

from cu_market.dagster_compat.submission import submit_job
from cu_market.deo.settings import instance_settings
from cu_market.domain.allocation import AllocationState
from cu_market.market.opening import open_instance_ledger

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1800)]

HERE = Path(__file__).parent
CONFIG = """
telemetry: {{enabled: false}}
run_launcher:
  module: cu_market
  class: MarketRunLauncher
  config:
    market:
      renegotiate_seconds: 1
      bid_deadline_seconds: 60
      solve_seconds: 60
      providers:
        alpha: {alpha}
        beta: {beta}
        gamma: {gamma}
"""


def provider(file: Path, price: float) -> str:
    return json.dumps(
        {
            "kind": "changing_provider:ChangingProvider",
            "file": str(file),
            "cores": 0.5,
            "memory": "256MiB",
            "tariffs": [{"name": "only", "core_usd_per_hour": price, "gb_usd_per_hour": 0}],
        }
    )


def test_what_has_not_started_moves_and_the_run_page_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_storage: Callable[[], str]
) -> None:
    home, file = tmp_path / "home", tmp_path / "factors.json"
    home.mkdir()
    file.write_text(json.dumps({"alpha": 1, "beta": 1, "gamma": 1}))
    prices = {"alpha": 10, "beta": 10, "gamma": 20}
    providers = {name: provider(file, price) for name, price in prices.items()}
    (home / "dagster.yaml").write_text(CONFIG.format(**providers) + new_storage())
    serve_file(home, HERE / "changing_job.py")
    monkeypatch.setenv("CHANGING_FOLDER", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.syspath_prepend(str(HERE))
    with running_daemon(home) as (instance, workspace):
        changes(instance, workspace, home, file, tmp_path)


def changes(
    instance: DagsterInstance, workspace: object, home: Path, file: Path, folder: Path
) -> None:
    run_id = submit_job(instance, workspace, location_name="tests", job_name="changing")  # type: ignore[arg-type]
    ledger = open_instance_ledger(instance_settings(instance), str(home))

    def messages() -> list[str]:
        return [entry.message for entry in instance.all_logs(run_id)]

    def status() -> DagsterRunStatus:
        run = instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    def is_running() -> bool:
        assert status() is not DagsterRunStatus.FAILURE, messages()
        return bool(ledger.allocations(run_id=run_id, states=[AllocationState.ACCEPTED]))

    wait_for(is_running, "the first step")
    first = {row.step_key: row.resource_id for row in ledger.allocations(run_id=run_id)}
    assert first == {
        "slow": "gamma/only",
        "cheap_0": "alpha/only",
        "cheap_1": "alpha/only",
        "gone_0": "beta/only",
        "gone_1": "beta/only",
    }
    written = file.with_suffix(".new")
    written.write_text(json.dumps({"alpha": 3, "beta": None, "gamma": 1}))
    written.replace(file)  # at once: a provider that reads half of it does not answer
    wait_for(lambda: any("gone_1 moves" in m for m in messages()), "the renegotiation")
    wait_for(lambda: any("step slow runs for more" in m for m in messages()), "the slow step")
    (folder / "go").touch()
    wait_for(lambda: status() in (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE), "the end")
    assert status() is DagsterRunStatus.SUCCESS
    told = "\n".join(m for m in messages() if m.startswith("Renegotiated, since"))
    assert "alpha/only asks $15.000000 an hour, no longer $5.000000" in told
    assert "beta/only is no longer offered" in told
    for step in ("cheap_0", "cheap_1"):
        assert f"{step} moves from alpha/only to gamma/only" in told
    for step in ("gone_0", "gone_1"):
        assert f"{step} moves from beta/only to gamma/only at $10.000000 an hour" in told
    settled = ledger.allocations(run_id=run_id, states=[AllocationState.SETTLED])
    assert {row.step_key: row.resource_id for row in settled} == dict.fromkeys(first, "gamma/only")
    record = instance.get_run_record_by_id(run_id)
    assert record is not None
    assert record.end_time is not None
    assert record.end_time - record.create_timestamp.timestamp() < 1200
    ledger.close()
