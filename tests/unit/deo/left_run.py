"""A run whose run worker is lost: its providers, its ledger, its log."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import MagicMock

from dagster import DagsterEvent, DagsterEventType, EventLogEntry, MetadataValue
from ledger_rows import ONE_CU, T0, an_award

from cu_market.dagster_compat.events import EngineEventData
from cu_market.deo.executor.starting import ATTEMPT_METADATA
from cu_market.deo.executor.workers import Workers
from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.auction import Auction
from cu_market.domain.outline import RunOutline, StepOutline
from cu_market.domain.purchase import Purchase
from cu_market.domain.request import StepIdentity
from cu_market.ledger.memory import InMemoryLedger
from cu_market.market.auction import Market
from cu_market.market.settings import MarketSettings
from cu_market.ral.provider import Capabilities, WorkerLaunch

LATER = T0 + timedelta(hours=1)


def starting(step_key: str, attempt: int) -> DagsterEvent:
    metadata = {ATTEMPT_METADATA: MetadataValue.int(attempt)}
    return told_of(step_key, DagsterEventType.STEP_WORKER_STARTING, EngineEventData(metadata))


def told_of(step_key: str, kind: DagsterEventType, data: Any = None) -> DagsterEvent:
    event = MagicMock(spec=DagsterEvent, step_key=step_key, event_type=kind)
    event.event_specific_data = data
    event.is_step_failure = kind is DagsterEventType.STEP_FAILURE
    event.is_step_up_for_retry = kind is DagsterEventType.STEP_UP_FOR_RETRY
    return event


class Pod:
    """An adopted worker that says nothing."""

    def __init__(self, holder: str) -> None:
        self.holder = holder
        self.ours, self.theirs = socket.socketpair()
        self.sent: list[bytes] = []
        self.left = self.closed = False

    def fileno(self) -> int:
        return self.ours.fileno()

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def receive(self) -> bytes:
        return b""

    def acknowledge(self, size: int) -> None:
        pass

    def leave(self) -> None:
        self.left = True
        self.close()

    def close(self) -> None:
        self.closed = True
        self.ours.close()
        self.theirs.close()

    def exit_code(self) -> int | None:
        return 0

    def end(self) -> None:
        return None


class Pods:
    """A provider whose pods may be adopted, but for those that are gone."""

    name = "pods"
    capabilities = Capabilities(reap=True, exclusive=True, warm=True, adoptable_seconds=300)

    def __init__(self) -> None:
        self.pods: dict[str, Pod] = {}
        self.gone: set[str] = set()
        self.spared: Sequence[str] | None = None
        self.launches: list[WorkerLaunch] = []

    def worker_key(self, allocation: Allocation) -> str:
        return allocation.resource_id

    def adopt(self, holder: str, launch: WorkerLaunch) -> Pod | None:
        self.launches.append(launch)
        if holder in self.gone:
            return None
        return self.pods.setdefault(holder, Pod(holder))

    def reap_run(self, run_id: str, spared: Sequence[str] = ()) -> int:
        self.spared = list(spared)
        return 0


class Machine:
    """A provider whose workers end with their run worker."""

    name = "machine"
    capabilities = Capabilities(reap=True)

    def __init__(self) -> None:
        self.reaped: list[str] = []

    def reap(self, holders: Sequence[str]) -> Sequence[str]:
        self.reaped += holders
        return []


class Left:
    """A run of four steps whose run worker is lost.

    One runs on in a pod, one's pod is gone, one ran on the run worker's machine, one has ended and
    waits only to be billed.
    """

    def __init__(self) -> None:
        self.pods, self.machine = Pods(), Machine()
        self.pods.gone = {"pod:gone"}
        self.ledger = InMemoryLedger()
        self.market = Market(
            settings=MarketSettings(),
            ledger=self.ledger,
            providers=[self.pods, self.machine],  # type: ignore[list-item]
            now=lambda: T0 + timedelta(seconds=10),
        )
        self.ledger.hold_run("run", "dead/1/2", expires_at=LATER)
        names = {"runs": "pod:runs", "gone": "pod:gone", "here": "dead/3/4", "done": "pod:done"}
        providers = {"here": "machine"}
        self.report = {"steps": [{"step": name} for name in names]}
        awards = [
            an_award(
                "run", name, provider=providers.get(name, "pods"), resource_id="r", capacity_id=name
            )
            for name in names
        ]
        auction = Auction(
            auction_id="auction",
            run_id="run",
            held_at=T0,
            mode="market",
            place="launcher",
            report=self.report,
        )
        self.ledger.record_auction(auction, awards)
        self.leases = {}
        for award in awards:
            holder = names[award.step_key]
            given = self.ledger.lease(
                replace(award, holder=holder), capacity=ONE_CU, expires_at=LATER, now=T0
            )
            assert isinstance(given, Allocation)
            self.leases[award.step_key] = given
        self.events = [starting(name, 1) for name in names]
        self.events.append(told_of("done", DagsterEventType.STEP_SUCCESS))
        self.instance = MagicMock()
        self.instance.all_logs.return_value = [
            MagicMock(spec=EventLogEntry, dagster_event=event) for event in self.events
        ]
        self.outline = RunOutline(
            run_id="run",
            job_name="job",
            tags={},
            steps=tuple(
                StepOutline(
                    step_key=name,
                    op_name=name,
                    identity=StepIdentity(node=name),
                    tags={},
                    depends_on=(),
                )
                for name in names
            ),
        )
        self.workers = Workers("run", {}, code_version="v1", has_successor=True)

    def buy(self, run_id: str, provider: str = "machine", holder: str = "") -> None:
        bought = Purchase(
            purchase_id=f"for {run_id}",
            provider=provider,
            resource_id="r",
            capacity_id="ahead",
            size=ONE_CU,
            price_microusd_per_hour=1,
            code_location="here",
            job="job",
            step_key="step",
            source="schedule",
            account="default",
            fit="fit",
            expected_at=T0,
            waiting_saved_microusd=1,
            holding_microusd=0,
            reason="since",
            buyer="me",
            holder=holder or f"ahead of {run_id}",
            started_at=T0,
            expires_at=LATER,
        )
        capacity = ONE_CU + ONE_CU
        assert isinstance(self.ledger.buy(bought, capacity=capacity), Purchase)

    def states(self) -> dict[str, AllocationState]:
        return {row.step_key: row.state for row in self.ledger.allocations(run_id="run")}
