"""Dead run workers' leases: held on while another may adopt what runs, else ended at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import MagicMock

import pytest
from dagster import DagsterRunStatus
from ledger_rows import ONE_CU, T0, an_award

from cu_market.deo.launcher.reaper import reap
from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.ledger.memory import InMemoryLedger
from cu_market.market.auction import Market
from cu_market.market.settings import MarketSettings
from cu_market.ral.provider import Capabilities, WorkerLaunch

LEASE = timedelta(seconds=30)
WAITS_SECONDS = 300.0


class Pods:
    """A provider of workers that outlive their run workers; tells whom it was asked to end."""

    name = "local"  # of the awards

    def __init__(self, adoptable_seconds: float = WAITS_SECONDS) -> None:
        self.capabilities = Capabilities(reap=True, adoptable_seconds=adoptable_seconds)
        self.reaped: list[str] = []

    def adopt(self, holder: str, launch: WorkerLaunch) -> Any:
        raise NotImplementedError

    def reap_run(self, run_id: str, spared: Sequence[str] = ()) -> int:
        self.reaped.append(run_id)
        return 1


class Deployment:
    """A run whose run worker, in a pod of its own, was last heard at T0."""

    def __init__(self, **provider: float) -> None:
        self.now = T0
        self.pods = Pods(**provider)
        self.ledger = InMemoryLedger()
        self.market = Market(
            settings=MarketSettings(lease_seconds=LEASE.total_seconds()),
            ledger=self.ledger,
            providers=[self.pods],  # type: ignore[list-item]
            now=lambda: self.now,
        )
        self.instance = MagicMock(
            run_monitoring_enabled=True, run_monitoring_max_resume_run_attempts=3
        )
        self.instance.run_launcher.supports_resume_run = True
        self.run = MagicMock(run_id="run", status=DagsterRunStatus.STARTED, is_finished=False)
        self.instance.get_run_by_id.return_value = self.run
        self.ledger.hold_run("run", "another-host/1/2", expires_at=T0 + LEASE)
        given = self.ledger.lease(
            an_award("run", "step", holder="pod:a"),
            capacity=ONE_CU,
            expires_at=T0 + LEASE,
            now=T0,
        )
        assert isinstance(given, Allocation)

    def walk(self, until_seconds: float) -> None:
        """Reaps every five seconds until then, as a patrol does."""
        while self.now < T0 + timedelta(seconds=until_seconds):
            self.now += timedelta(seconds=5)
            reap(self.market, self.instance)

    @property
    def state(self) -> AllocationState:
        (row,) = self.ledger.allocations(run_id="run")
        return row.state

    @property
    def ended_at(self) -> datetime | None:
        (row,) = self.ledger.allocations(run_id="run")
        return row.ended_at


def test_while_another_run_worker_may_come_the_leases_are_held() -> None:
    there = Deployment()
    there.walk(WAITS_SECONDS - 10)
    assert there.state is AllocationState.LEASED
    assert there.ledger.held("local") == ONE_CU
    assert there.pods.reaped == []


def test_when_its_workers_wait_no_more_all_is_ended() -> None:
    there = Deployment()
    there.walk(WAITS_SECONDS + 10)
    assert there.state is AllocationState.SETTLED
    assert there.pods.reaped == ["run"]
    assert there.ledger.live_runs() == []


def test_a_run_that_has_failed_for_good_leaves_nothing() -> None:
    there = Deployment()
    there.walk(60)
    there.run.is_finished, there.run.status = True, DagsterRunStatus.FAILURE
    there.walk(65)
    assert there.state is AllocationState.SETTLED
    assert there.pods.reaped == ["run"]


@pytest.mark.parametrize("what", ["no attempts", "no monitoring", "launcher", "cancel", "provider"])
def test_where_nobody_will_come_it_is_ended_at_once(what: str) -> None:
    there = Deployment(**({"adoptable_seconds": 0.0} if what == "provider" else {}))
    instance = there.instance
    instance.run_monitoring_max_resume_run_attempts = 0 if what == "no attempts" else 3
    instance.run_monitoring_enabled = what != "no monitoring"
    instance.run_launcher.supports_resume_run = what != "launcher"
    if what == "cancel":
        there.run.status = DagsterRunStatus.CANCELING
    there.walk(35)
    assert there.state is AllocationState.SETTLED
    assert there.pods.reaped == ["run"]


def test_who_takes_over_finds_its_leases_and_holds_them() -> None:
    there = Deployment()
    there.walk(100)
    there.ledger.hold_run("run", "a-third-host/1/2", expires_at=there.now + LEASE)
    there.ledger.renew("run", expires_at=there.now + LEASE)
    there.walk(120)
    assert there.state is AllocationState.LEASED
    assert there.ended_at is None
