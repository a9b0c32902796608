"""What a run worker finds that takes over: what it adopts, what it ends, what is auctioned anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import MagicMock

import pytest
from dagster import DagsterEvent, DagsterEventType, EventLogEntry, MetadataValue
from ledger_rows import ONE_CU, T0, an_award

from cu_market.dagster_compat.events import EngineEventData
from cu_market.deo.executor import resume as module
from cu_market.deo.executor.lifeline import Lifeline, SupersededError
from cu_market.deo.executor.past_awards import awards_after
from cu_market.deo.executor.resume import Told, give_up, take_over
from cu_market.deo.executor.starting import ATTEMPT_METADATA
from cu_market.deo.executor.workers import Workers
from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.outline import RunOutline, StepOutline
from cu_market.domain.purchase import Purchase, PurchaseState
from cu_market.domain.request import StepIdentity
from cu_market.ledger.interface import Auction
from cu_market.ledger.memory import InMemoryLedger
from cu_market.market.auction import Market
from cu_market.market.settings import MarketSettings
from cu_market.market.unserved import NoRoomYetError
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
        import socket

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


@pytest.fixture
def left() -> Left:
    return Left()


def test_what_runs_on_is_adopted_and_all_else_ended(left: Left) -> None:
    found = take_over(left.market, left.instance, left.outline, left.workers)
    assert {lease.step_key for lease, _ in found.adopted} == {"runs", "done"}
    assert left.states() == {
        "runs": AllocationState.LEASED,
        "done": AllocationState.LEASED,
        "gone": AllocationState.SETTLED,
        "here": AllocationState.SETTLED,
    }
    assert sorted(left.pods.spared or ()) == ["pod:done", "pod:runs"]
    assert set(left.machine.reaped) == {"pod:gone", "dead/3/4", "dead/1/2"}
    launch = left.pods.launches[0]
    assert (launch.code_version, launch.is_adoptable) == ("v1", True)
    assert found.settled_steps == {"runs", "done"}
    assert b"attach" in left.pods.pods["pod:runs"].sent[0]
    left.workers.close()


def test_the_leases_of_what_is_adopted_are_the_same_ones(left: Left) -> None:
    before = left.ledger.allocation(("run", "runs", 1))
    found = take_over(left.market, left.instance, left.outline, left.workers)
    assert left.ledger.allocation(("run", "runs", 1)) == before
    assert {worker.worker.holder for _, worker in found.adopted} == {"pod:runs", "pod:done"}
    left.workers.close()


def test_a_lease_of_which_the_log_has_no_word_is_not_adopted(left: Left) -> None:
    left.instance.all_logs.return_value = []
    found = take_over(left.market, left.instance, left.outline, left.workers)
    assert found.adopted == []
    assert set(left.states().values()) == {AllocationState.SETTLED}
    assert left.pods.spared == []


def test_what_was_taken_ahead_and_has_no_lease_is_ended(left: Left) -> None:
    for run_id in ("run", "another"):
        left.buy(run_id)
        assert left.ledger.take_purchase(f"for {run_id}", run_id=run_id, now=T0) is not None
    take_over(left.market, left.instance, left.outline, left.workers)
    states = {each.purchase_id: each.state for each in left.ledger.purchases()}
    assert states == {"for run": PurchaseState.LET_GO, "for another": PurchaseState.TAKEN}
    assert "ahead of run" in left.machine.reaped
    assert "ahead of another" not in left.machine.reaped
    left.workers.close()


def test_what_was_bought_ahead_is_adopted_once_it_has_a_lease(left: Left) -> None:
    left.buy("run", provider="pods", holder="pod:bought")
    assert left.ledger.take_purchase("for run", run_id="run", now=T0) is not None
    award = an_award("run", "later", provider="pods", resource_id="r", capacity_id="ahead")
    award = replace(award, holder="pod:bought")
    lease = left.ledger.lease(award, capacity=ONE_CU, expires_at=LATER, now=T0)
    begun = MagicMock(spec=EventLogEntry, dagster_event=starting("later", 1))
    left.instance.all_logs.return_value.append(begun)
    found = take_over(left.market, left.instance, left.outline, left.workers)
    assert lease in [each for each, _ in found.adopted]
    assert "pod:bought" in (left.pods.spared or ())
    (row,) = left.ledger.purchases()
    assert row.state is PurchaseState.USED
    assert left.pods.pods["pod:bought"].sent  # told to attach
    left.workers.close()


def test_a_provider_that_is_away_for_long_has_nothing_to_adopt(
    left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    monkeypatch.setattr(left.pods, "adopt", MagicMock(side_effect=OSError("away")))
    found = take_over(left.market, left.instance, left.outline, left.workers)
    assert found.adopted == []
    assert slept == list(module._LOOK_AGAIN_SECONDS)  # not once more for each of its leases


def test_what_was_adopted_is_ended_where_the_rest_cannot_be(
    left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(left.market.ledger, "revoke_leases", MagicMock(side_effect=OSError("away")))
    with pytest.raises(OSError, match="away"):
        take_over(left.market, left.instance, left.outline, left.workers)
    assert left.pods.pods["pod:runs"].closed


def test_the_run_is_held_before_anything_is_adopted(
    left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def adopt(*_: object) -> None:
        lease = left.market.ledger.run_lease("run")
        seen.append("" if lease is None else lease.holder)

    monkeypatch.setattr(left.workers, "adopt", adopt)
    take_over(left.market, left.instance, left.outline, left.workers)
    assert set(seen) == {module.current_holder()}


def test_without_the_market_nothing_is_kept(left: Left) -> None:
    take_over(left.market, left.instance, left.outline, left.workers)
    give_up(left.market, "run", left.workers)
    assert set(left.states().values()) == {AllocationState.SETTLED}
    assert left.pods.spared == []
    assert left.pods.pods["pod:runs"].closed
    assert not left.pods.pods["pod:runs"].left


def test_only_what_is_neither_ended_nor_running_is_auctioned(left: Left) -> None:
    found = take_over(left.market, left.instance, left.outline, left.workers)
    clear = MagicMock()
    clear.return_value.allocations = {
        name: an_award("run", name, attempt=2) for name in ("gone", "here")
    }
    clear.return_value.auction = Auction(
        auction_id="second",
        run_id="run",
        held_at=T0,
        mode="market",
        place="executor",
        report={"steps": [{"step": "gone", "is": "new"}, {"step": "here", "is": "new"}]},
    )
    left.market.clear = clear  # type: ignore[method-assign]
    awards, auction, is_own = awards_after(left.market, left.outline, found)
    asked = clear.call_args
    assert [step.step_key for step in asked.args[0].steps] == ["gone", "here"]
    assert asked.kwargs["attempts"]["gone"] == 2
    assert is_own
    assert set(awards) == {"runs", "gone", "here", "done"}
    assert {award.state for award in awards.values()} == {AllocationState.AWARDED}
    assert {name: award.attempt for name, award in awards.items()} == dict.fromkeys(awards, 2)
    told = {step["step"]: step.get("is") for step in auction.report["steps"]}
    assert told == {"runs": None, "done": None, "gone": "new", "here": "new"}
    left.workers.close()


def test_where_a_step_runs_on_nobody_waits_for_room(left: Left) -> None:
    found = take_over(left.market, left.instance, left.outline, left.workers)
    left.market.clear = MagicMock(side_effect=NoRoomYetError("full"))  # type: ignore[method-assign]
    awards, _, is_own = awards_after(left.market, left.outline, found)
    assert not is_own
    assert awards["gone"].attempt == 2
    with pytest.raises(NoRoomYetError):
        awards_after(left.market, left.outline, replace(found, adopted=[]))
    left.workers.close()


def test_what_is_told_counts_for_the_attempt_that_began_before_it() -> None:
    told = Told.by(
        [
            starting("step", 1),
            starting("step", 2),  # the first was lost without a word
            told_of("step", DagsterEventType.STEP_UP_FOR_RETRY),
            starting("step", 3),
            told_of("other", DagsterEventType.STEP_SKIPPED),
        ]
    )
    assert told.begun == {("step", 1), ("step", 2), ("step", 3)}
    assert told.decided == {("step", 2), ("other", 0)}
    assert told.failed == {("step", 2)}
    assert told.ended == {"other"}


def test_a_run_worker_that_was_followed_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    left = Left()
    clock = [1000.0]
    monkeypatch.setattr("cu_market.deo.executor.lifeline.time.monotonic", lambda: clock[0])
    lifeline = Lifeline(left.market, "run", "second/1/1")
    lifeline.renew()  # it takes over from the dead one
    left.ledger.hold_run("run", "third/1/1", expires_at=LATER)
    lifeline.renew()  # not yet due
    clock[0] += 11
    with pytest.raises(SupersededError, match="third/1/1"):
        lifeline.renew()
    held = left.ledger.run_lease("run")
    assert held is not None
    assert held.holder == "third/1/1"
