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


def provider(file: Path, price: float, cores: float = 0.5) -> str:
    return json.dumps(
        {
            "kind": "changing_provider:ChangingProvider",
            "file": str(file),
            "cores": cores,
            "memory": "256MiB",
            "tariffs": [{"name": "only", "core_usd_per_hour": price, "gb_usd_per_hour": 0}],
        }
    )


def test_what_has_not_started_moves_and_the_run_page_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_storage: Callable[[], str]
) -> None:
    home, file = served(tmp_path, monkeypatch, {"alpha": 10, "beta": 10, "gamma": 20})
    with (home / "dagster.yaml").open("a") as settings:
        settings.write(new_storage())
    with running_daemon(home) as (instance, workspace):
        changes(instance, workspace, home, file, tmp_path)


def test_what_has_not_started_moves_where_another_cu_has_become_cheaper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, file = served(tmp_path, monkeypatch, {"alpha": 10, "beta": 10, "gamma": 5}, gamma=4)
    with running_daemon(home) as (instance, workspace):
        changing = Changing(instance, workspace, home)
        first = changing.await_first_step()
        assert first["cheap_1"] == "alpha/only"
        write_at_once(file, {"alpha": 1, "beta": 1, "gamma": 1})
        wait_for(lambda: any("gone_1 moves" in m for m in changing.messages()), "the moves")
        (tmp_path / "go").touch()
        settled = changing.await_success()
    told = "\n".join(m for m in changing.told if m.startswith("Renegotiated, since"))
    assert "what is offered now is better: gamma/only" in told
    assert "cheap_1 moves from alpha/only to gamma/only at $2.500000 an hour: expected" in told
    assert settled == dict.fromkeys(first, "gamma/only")


def test_what_runs_is_ended_to_run_again_where_all_of_it_costs_less_than_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = {"alpha": 1, "beta": 10, "gamma": 10}
    home, file = served(tmp_path, monkeypatch, prices, two_fit="gamma", alpha=30)
    with running_daemon(home) as (instance, workspace):
        moving = Changing(instance, workspace, home, "moving")
        assert moving.await_first_step() == dict.fromkeys(("free", "pinned"), "gamma/only")
        write_at_once(file, {"alpha": 1, "beta": 1, "gamma": 1})

        def runs_again() -> bool:
            rows = moving.ledger.allocations(
                run_id=moving.run_id, states=[AllocationState.ACCEPTED]
            )
            return ("free", "alpha/only") in {(row.step_key, row.resource_id) for row in rows}

        wait_for(runs_again, "the step elsewhere")
        (tmp_path / "go").touch()
        settled = moving.await_success()
        retries = [entry for entry in instance.all_logs(moving.run_id) if entry.is_dagster_event]
    assert settled == {"free": "alpha/only", "pinned": "gamma/only"}
    told = "\n".join(moving.told)
    assert "is ended to run again elsewhere, since $" in told
    assert "on gamma/only; all of it takes $" in told
    (ended,) = (m for m in moving.told if "was ended to run again elsewhere" in m)
    assert "alpha/only" in ended
    assert ended.endswith("No retry of the step's own is used.")
    assert told.count("is ended to run again elsewhere") == 1
    kinds = [entry.dagster_event.event_type_value for entry in retries if entry.dagster_event]
    assert "STEP_UP_FOR_RETRY" not in kinds
    assert kinds.count("STEP_SUCCESS") == 2


def served(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    prices: dict[str, float],
    *,
    two_fit: str = "",
    **factors: int,
) -> tuple[Path, Path]:
    """Returns a home that serves the jobs, and the file of its providers' factors: 1 unless given.

    Args:
        folder: of the test.
        monkeypatch: for what the daemon's processes find.
        prices: of a core's hour, by provider.
        two_fit: the provider that holds two steps at once; others hold one.
        factors: on prices, by provider.
    """
    home, file = folder / "home", folder / "factors.json"
    home.mkdir()
    file.write_text(json.dumps(dict.fromkeys(prices, 1) | factors))
    providers = {
        name: provider(file, price, 1.0 if name == two_fit else 0.5)
        for name, price in prices.items()
    }
    (home / "dagster.yaml").write_text(CONFIG.format(**providers))
    serve_file(home, HERE / "changing_job.py")
    monkeypatch.setenv("CHANGING_FOLDER", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(HERE))
    monkeypatch.syspath_prepend(str(HERE))
    return home, file


def write_at_once(file: Path, factors: dict[str, int | None]) -> None:
    """A provider that reads half of it would not answer."""
    written = file.with_suffix(".new")
    written.write_text(json.dumps(factors))
    written.replace(file)


class Changing:
    """A run of the job under the daemon."""

    def __init__(
        self, instance: DagsterInstance, workspace: object, home: Path, job: str = "changing"
    ) -> None:
        self.instance = instance
        self.run_id = submit_job(
            instance,
            workspace,  # type: ignore[arg-type]
            location_name="tests",
            job_name=job,
        )
        self.ledger = open_instance_ledger(instance_settings(instance), str(home))
        self.told: list[str] = []

    def messages(self) -> list[str]:
        return [entry.message for entry in self.instance.all_logs(self.run_id)]

    def status(self) -> DagsterRunStatus:
        run = self.instance.get_run_by_id(self.run_id)
        assert run is not None
        return run.status

    def await_first_step(self) -> dict[str, str]:
        """Returns where the first auction places each step."""

        def is_running() -> bool:
            assert self.status() is not DagsterRunStatus.FAILURE, self.messages()
            accepted = [AllocationState.ACCEPTED]
            return bool(self.ledger.allocations(run_id=self.run_id, states=accepted))

        wait_for(is_running, "the first step")
        rows = self.ledger.allocations(run_id=self.run_id)
        return {row.step_key: row.resource_id for row in rows}

    def await_success(self) -> dict[str, str]:
        """Returns where each step ran last."""
        ends = (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE)
        wait_for(lambda: self.status() in ends, "the end")
        self.told = self.messages()
        assert self.status() is DagsterRunStatus.SUCCESS, self.told
        rows = self.ledger.allocations(run_id=self.run_id, states=[AllocationState.SETTLED])
        self.ledger.close()
        return {r.step_key: r.resource_id for r in sorted(rows, key=lambda r: r.attempt)}


def changes(
    instance: DagsterInstance, workspace: object, home: Path, file: Path, folder: Path
) -> None:
    changing = Changing(instance, workspace, home)
    first = changing.await_first_step()
    assert first == {
        "slow": "gamma/only",
        "cheap_0": "alpha/only",
        "cheap_1": "alpha/only",
        "gone_0": "beta/only",
        "gone_1": "beta/only",
    }
    write_at_once(file, {"alpha": 3, "beta": None, "gamma": 1})

    def is_told(text: str) -> bool:
        return any(text in message for message in changing.messages())

    wait_for(lambda: is_told("gone_1 moves"), "the renegotiation")
    wait_for(lambda: is_told("step slow runs for more"), "the slow step")
    (folder / "go").touch()
    settled = changing.await_success()
    told = "\n".join(m for m in changing.told if m.startswith("Renegotiated, since"))
    assert "alpha/only asks $15.000000 an hour, no longer $5.000000" in told
    assert "beta/only is no longer offered" in told
    for step in ("cheap_0", "cheap_1"):
        assert f"{step} moves from alpha/only to gamma/only" in told
    for step in ("gone_0", "gone_1"):
        assert f"{step} moves from beta/only to gamma/only at $10.000000 an hour" in told
    assert settled == dict.fromkeys(first, "gamma/only")
    record = instance.get_run_record_by_id(changing.run_id)
    assert record is not None
    assert record.end_time is not None
    assert record.end_time - record.create_timestamp.timestamp() < 1200
