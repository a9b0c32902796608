"""The real daemon buys CUs ahead of its schedules' ticks, and lets go of what nobody uses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from daemon import running_daemon, serve_file, wait_for
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

from cu_market.dagster_compat.submission import submit_job
from cu_market.deo.launcher.buyer import Buyer
from cu_market.deo.settings import instance_settings
from cu_market.domain.purchase import OPEN, Purchase, PurchaseState
from cu_market.ledger.interface import Ledger
from cu_market.market.ahead.startups import KEPT, Startups, note_startups
from cu_market.market.opening import close_market, open_market
from cu_market.ral.local import standby
from cu_market.ral.local.process import parse_holder, worker_processes

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not standby.IS_POSSIBLE, reason="abstract sockets are Linux's"),
]

JOBS = Path(__file__).with_name("ahead_jobs.py")
CONFIG = """
telemetry: {enabled: false}
run_launcher:
  module: cu_market
  class: MarketRunLauncher
  config:
    market:
      value_of_time_usd_per_hour: 0.01
      ahead: {enabled: true, horizon_seconds: 90}
run_monitoring:
  enabled: true
  poll_interval_seconds: 5
"""
PLACE = "local/local"
SLOW_MS = 45_000
FROM_SCHEDULE = "dagster/schedule_name"


class Deployment:
    """A home with a running daemon, whose schedules have each launched once."""

    def __init__(self, instance: DagsterInstance, home: Path) -> None:
        self.instance = instance
        self.settings = instance_settings(instance)
        self.home = home
        self.market = open_market(self.settings, str(home))

    @property
    def ledger(self) -> Ledger:
        return self.market.ledger

    def purchases(self, job: str) -> list[Purchase]:
        """Returns a job's purchases for its schedule, oldest first."""
        return [
            each
            for each in reversed(self.ledger.purchases())
            if each.job == job and each.source == "schedule"
        ]

    def messages(self, run_id: str) -> list[str]:
        return [entry.message for entry in self.instance.all_logs(run_id)]


def daemon_of(purchase: Purchase) -> psutil.Process:
    identity = parse_holder(purchase.buyer)
    assert identity is not None
    return psutil.Process(identity.pid)


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, new_storage: Callable[[], str]
) -> Iterator[Deployment]:
    home = tmp_path_factory.mktemp("home")
    (home / "dagster.yaml").write_text(CONFIG + new_storage())
    serve_file(home, JOBS)
    with running_daemon(home) as (instance, workspace):
        for name in ("ticking", "skipping"):
            # As if its schedule had launched it: what it launches, and how long that takes, is
            # read from the past.
            run_id = submit_job(
                instance,
                workspace,
                location_name="tests",
                job_name=f"{name}_job",
                tags={FROM_SCHEDULE: name},
            )
            run = RunsFilter(run_ids=[run_id], statuses=[DagsterRunStatus.SUCCESS])
            wait_for(lambda run=run: bool(instance.get_runs(run)), f"the first run of {name}")
        opened = Deployment(instance, home)
        # As if workers had taken longer here than a run worker does, which loads the same code: as
        # they do where an image is pulled or a node is added first.
        slow = Startups(times_ms=(SLOW_MS,) * KEPT)
        note_startups(
            opened.ledger, "tests", {PLACE: slow}, job="", lag_ms=None, now=datetime.now(UTC)
        )
        yield opened
        close_market(opened.market)


def test_a_tick_is_bought_for_and_its_run_uses_it(deployment: Deployment) -> None:
    def used_ahead() -> list[Purchase]:
        # A daemon that is up just before a tick may buy once it is due, while its launch lags; and
        # a run whose own purchase is not there yet may take over one of the other schedule, so
        # that its own waits for the next tick, or is let go.
        every = deployment.purchases("ticking_job")
        return [
            each
            for each in every
            if each.started_at < each.expected_at and each.state is PurchaseState.USED
        ]

    wait_for(lambda: bool(used_ahead()), "the use of what was bought ahead of its tick", 600)
    bought = used = used_ahead()[0]
    assert bought.expected_at - bought.started_at < timedelta(milliseconds=SLOW_MS + 1000)
    assert bought.expected_at.second == 0  # the schedule's tick
    assert "ticking_job is scheduled at" in bought.reason
    assert "of waiting saved are worth" in bought.reason
    assert bought.waiting_saved_microusd > bought.holding_microusd
    assert used.cost_microusd is not None
    assert used.cost_microusd > 0
    run_id = used.run_id
    run = RunsFilter(run_ids=[run_id], statuses=[DagsterRunStatus.SUCCESS])
    wait_for(lambda: bool(deployment.instance.get_runs(run)), "the run's success")
    (record,) = deployment.instance.get_runs(run)
    assert record.tags[FROM_SCHEDULE] == "ticking"
    (told,) = [m for m in deployment.messages(run_id) if m.startswith("Bought ahead")]
    assert used.reason in told
    # The first step's process was forked from the worker that was started ahead.
    identity = parse_holder(used.holder)
    assert identity is not None
    assert f"zygote {identity.pid}" in deployment.messages(run_id)
    rows = deployment.ledger.allocations(run_id=run_id)
    assert {row.holder for row in rows} == {used.holder}
    assert worker_processes(used.holder) == []


def test_what_nobody_uses_is_let_go_and_said_to_be(deployment: Deployment) -> None:
    def unused() -> list[Purchase]:
        # A run of the other schedule may take one of these over where its own is not there yet;
        # one may give way to a step, or end since its buyer did not get to look after it.
        every = deployment.purchases("skipping_job")
        return [each for each in every if each.outcome.startswith("nobody came within")]

    wait_for(lambda: bool(unused()), "the end of a purchase that no run took", 900)
    gone = unused()[0]
    assert (gone.state, gone.run_id) == (PurchaseState.LET_GO, "")
    assert gone.cost_microusd is not None
    assert gone.cost_microusd > 0
    wait_for(lambda: worker_processes(gone.holder) == [], "its worker's end")


def test_nothing_is_left_of_a_daemon_that_is_killed(deployment: Deployment) -> None:
    def standing() -> list[Purchase]:
        # One that is not due, while no run goes on, late for its own tick, that may take it over:
        # none will be launched.
        if not all(run.is_finished for run in deployment.instance.get_runs(limit=20)):
            return []
        found = deployment.ledger.purchases(states=OPEN)
        mine = [each for each in found if each.job == "skipping_job" and each.holder]
        return [each for each in mine if each.expected_at > datetime.now(UTC)]

    found: list[list[Purchase]] = []

    def is_standing() -> bool:
        found.append(standing())
        return bool(found[-1])

    wait_for(is_standing, "a purchase that stands", 600)
    bought = found[-1][0]
    daemon = daemon_of(bought)
    daemon.kill()
    daemon.wait(240)
    # Nobody looks after it any more: its worker ends itself.
    ended_after = standby.STANDBY_SECONDS + 240
    wait_for(lambda: worker_processes(bought.holder) == [], "its worker's end", ended_after)
    # Another daemon lets go of its room, whenever there is one.
    after = Buyer(deployment.market, deployment.instance)
    after.walk()
    row = next(p for p in deployment.ledger.purchases() if p.purchase_id == bought.purchase_id)
    assert row.state is PurchaseState.LET_GO
    assert row.outcome == "the process that bought it is gone"
    after.close()
    assert deployment.ledger.purchases(states=OPEN) == []
