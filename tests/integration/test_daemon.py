"""The real daemon launches through the market, and clears away what a killed run worker left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from daemon import running_daemon, serve_file, wait_for
from dagster import DagsterInstance, DagsterRunStatus

from cu_market.dagster_compat.submission import submit_job
from cu_market.deo.settings import instance_settings
from cu_market.domain.allocation import FINAL, AllocationState
from cu_market.domain.units import lease_cost_microusd
from cu_market.market.opening import open_instance_ledger

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

HERE = Path(__file__).parent
JOB = HERE / "daemon_job.py"
CONFIG = """
telemetry: {enabled: false}
run_launcher:
  module: patient_launcher
  class: MarketRunLauncher
  config: {market: {lease_seconds: 30, bid_deadline_seconds: 60}}
run_monitoring:
  enabled: true
  poll_interval_seconds: 5
"""


class Deployment:
    """A home with a running daemon and an open workspace."""

    def __init__(self, instance: DagsterInstance, workspace: Any, home: Path) -> None:
        self.instance = instance
        self.workspace = workspace
        self.ledger = open_instance_ledger(instance_settings(instance), str(home))

    def submit(self, job: str) -> str:
        return submit_job(self.instance, self.workspace, location_name="tests", job_name=job)

    def status(self, run_id: str) -> DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    def messages(self, run_id: str) -> list[str]:
        return [entry.message for entry in self.instance.all_logs(run_id)]


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, new_storage: Callable[[], str]
) -> Iterator[Deployment]:
    home = tmp_path_factory.mktemp("home")
    (home / "dagster.yaml").write_text(CONFIG + new_storage())
    serve_file(home, JOB)
    with running_daemon(home, HERE) as (instance, workspace):
        yield Deployment(instance, workspace, home)


def test_a_run_is_auctioned_before_it_starts_and_billed(deployment: Deployment) -> None:
    run_id = deployment.submit("quick_job")
    wait_for(lambda: deployment.status(run_id) is DagsterRunStatus.SUCCESS, "the run's success")
    auction = deployment.ledger.auctions(run_id)[-1]
    assert auction.place == "launcher"
    (row,) = deployment.ledger.allocations(run_id=run_id)
    assert row.state is AllocationState.SETTLED
    assert row.auction_id == auction.auction_id
    (usage,) = deployment.ledger.usages(run_id=run_id)
    assert usage.measurement.peak_memory_bytes > 0
    run = deployment.instance.get_run_by_id(run_id)
    assert run is not None
    assert run.tags["cu/auction_id"] == auction.auction_id


def test_another_executors_run_is_priced_as_one_unit(deployment: Deployment) -> None:
    run_id = deployment.submit("unrouted_job")
    wait_for(lambda: deployment.status(run_id) is DagsterRunStatus.SUCCESS, "the run's success")
    assert any("steps were not routed" in message for message in deployment.messages(run_id))
    assert deployment.ledger.allocations(run_id=run_id) == []


def test_a_recommendation_leaves_another_executors_run_as_it_is(deployment: Deployment) -> None:
    run_id = deployment.submit("recommended_job")
    wait_for(lambda: deployment.status(run_id) is DagsterRunStatus.SUCCESS, "the run's success")
    (told,) = [m for m in deployment.messages(run_id) if "Recommendation only" in m]
    assert "Buying its steps would cost $" in told
    assert "Auction: 1 steps" in told
    assert deployment.ledger.allocations(run_id=run_id) == []
    (auction,) = deployment.ledger.auctions(run_id)
    assert (auction.mode, auction.place) == ("recommend", "launcher")
    run = deployment.instance.get_run_by_id(run_id)
    assert run is not None
    assert [key for key in run.tags if key.startswith("cu/")] == ["cu/mode"]


def test_a_killed_run_worker_leaves_nothing(deployment: Deployment) -> None:
    run_id = deployment.submit("endless_job")
    ledger = deployment.ledger

    def accepted() -> list[str]:
        rows = ledger.allocations(run_id=run_id, states=[AllocationState.ACCEPTED])
        return sorted(row.step_key for row in rows)

    wait_for(lambda: accepted() == ["endless_a", "endless_b"], "both steps running")
    lease = ledger.run_lease(run_id)
    assert lease is not None
    worker = psutil.Process(int(lease.holder.split("/")[1]))
    family = [worker, *worker.children(recursive=True)]
    assert len(family) >= 4  # the run worker, its warm worker, two steps
    worker.kill()
    wait_for(lambda: deployment.status(run_id) is DagsterRunStatus.FAILURE, "the run's failure")
    _, alive = psutil.wait_procs(family, timeout=240)
    assert alive == []

    def is_final() -> bool:
        rows = ledger.allocations(run_id=run_id)
        return bool(rows) and all(row.state in FINAL for row in rows)

    wait_for(is_final, "every lease settled or released")
    for row in ledger.allocations(run_id=run_id, states=[AllocationState.SETTLED]):
        assert row.leased_at is not None
        assert row.ended_at is not None
        # Its memory may have grown in place, at another price, while it was slow to start.
        since = row.priced_since or row.leased_at
        held_ms = round(1000 * (row.ended_at - since).total_seconds())
        cost = row.accrued_microusd + lease_cost_microusd(row.price_microusd_per_hour, held_ms)
        assert row.cost_microusd == pytest.approx(cost, abs=1)
    billed = sorted((u.step_key, u.attempt) for u in ledger.usages(run_id=run_id))
    assert billed == sorted(set(billed))
