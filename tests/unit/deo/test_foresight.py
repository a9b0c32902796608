"""A run takes what was bought ahead and fits it; what it does not use goes; all gives way to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from dagster import DagsterInstance, DagsterRun
from test_exclusive_workers import FakeProvider, FakeWorker, allocation

from cu_market.deo.executor import workers as workers_module
from cu_market.deo.executor.ahead import Foresight
from cu_market.deo.executor.workers import UNLEASED_SECONDS, WarmWorker, Workers
from cu_market.deo.launcher.buyer import Buyer
from cu_market.deo.worker.frames import encode
from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.lease import Refusal
from cu_market.domain.purchase import Purchase, PurchaseState
from cu_market.domain.resources import ResourceVector
from cu_market.ledger.errors import LedgerError
from cu_market.ledger.memory import InMemoryLedger
from cu_market.market.ahead.standing import give_back, give_way
from cu_market.market.ahead.startups import Startups, known_lags, known_startups, note_startups
from cu_market.market.auction import Market
from cu_market.market.settings import AheadSettings, MarketSettings
from cu_market.ral.places import WorkerKey, fit_of
from cu_market.ral.provider import HolderStatus, Provider, Standby, WorkerLaunch

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LAG = timedelta(seconds=7)
DUE = ".dagster/scheduled_execution_time"
MIB = 2**20
AMPLE = ResourceVector(cpu_millis=8000, memory_bytes=8192 * MIB)
ROOM = ResourceVector(cpu_millis=2000, memory_bytes=1024 * MIB)


class FakeAhead(FakeProvider):
    """Has workers that stand by, and remembers whom it ended."""

    def __init__(self, **capabilities: Any) -> None:
        super().__init__(**{"ahead": True, "reap": True, **capabilities})
        self.reaped: list[str] = []
        self.gone: set[str] = set()

    def fit(self, launch: WorkerLaunch) -> str:
        return repr(sorted(launch.tags.items()))

    def start_ahead(self, launch: WorkerLaunch) -> str:
        return f"ahead-{launch.run_id}"

    def look_after(self, holder: str) -> Standby:
        return Standby.READY

    def take_over(self, holder: str, launch: WorkerLaunch) -> FakeWorker:
        if holder in self.gone:
            raise ConnectionRefusedError(holder)
        return FakeWorker(holder)

    def reap(self, holders: Sequence[str]) -> Sequence[str]:
        self.reaped += holders
        return holders

    def check(self, holder: str) -> HolderStatus:
        return HolderStatus.RUNNING


class Bench:
    """A market in memory, its provider, and a run's workers."""

    def __init__(self, instance: DagsterInstance) -> None:
        self.provider = FakeAhead()
        self.ledger = InMemoryLedger()
        self.market = Market(
            settings=MarketSettings(ahead=AheadSettings(enabled=True)),
            ledger=self.ledger,
            providers=[cast("Provider", self.provider)],
            now=lambda: NOW,
        )
        self.run = DagsterRun(job_name="nightly", tags={DUE: (NOW - LAG).isoformat()})
        self.foresight = Foresight(self.market, self.run, instance)
        self.workers = Workers("run", {}, starter="host/1/2")
        self.workers.foresight = self.foresight

    @property
    def own(self) -> Provider:
        return cast("Provider", self.provider)

    def buy(self, purchase_id: str, memory_mib: int = 512, **fields: Any) -> Purchase:
        key = WorkerKey("cluster", "cluster/general", "")
        launch = WorkerLaunch(run_id="", worker_key=key.place, arguments=())
        defaults: dict[str, Any] = {
            "provider": "cluster",
            "resource_id": "cluster/general",
            "capacity_id": "cluster/general",
            "size": ResourceVector(cpu_millis=500, memory_bytes=memory_mib * MIB),
            "price_microusd_per_hour": 3_600_000,
            "code_location": "here",
            "job": "nightly",
            "step_key": "step",
            "source": "schedule",
            "account": "default",
            "fit": fit_of(self.provider, key, launch),
            "expected_at": NOW,
            "waiting_saved_microusd": 1,
            "holding_microusd": 0,
            "reason": "since",
            "buyer": "me",
            "holder": f"ahead-{purchase_id}",
            "started_at": NOW - timedelta(seconds=10),
            "expires_at": NOW + timedelta(minutes=1),
        }
        made = self.ledger.buy(
            Purchase(purchase_id=purchase_id, **(defaults | fields)), capacity=AMPLE
        )
        assert isinstance(made, Purchase)
        return made

    def states(self) -> dict[str, PurchaseState]:
        return {each.purchase_id: each.state for each in self.ledger.purchases()}


@pytest.fixture
def bench() -> Iterator[Bench]:
    with DagsterInstance.ephemeral() as instance:
        made = Bench(instance)
        yield made
        made.workers.close()


def test_what_fits_is_taken_its_own_job_first(bench: Bench) -> None:
    bench.buy("small", 64)
    bench.buy("another's", job="weekly")
    bench.buy("own", expected_at=NOW + timedelta(seconds=30))
    bench.buy("unlike", 64, fit="something else")
    warm = bench.workers.ensure(bench.own, allocation(256))
    assert warm.purchase is not None
    assert (warm.purchase.purchase_id, warm.worker.holder) == ("own", "ahead-own")
    assert warm.size == ResourceVector(cpu_millis=500, memory_bytes=512 * MIB)
    assert bench.provider.launches == []
    assert bench.states()["own"] is PurchaseState.TAKEN
    # Its room is the lease's, and it was paid for until then.
    lease = bench.ledger.lease(
        replace(allocation(256), state=AllocationState.AWARDED, holder="ahead-own"),
        capacity=AMPLE,
        expires_at=NOW + timedelta(minutes=1),
        now=NOW,
    )
    assert isinstance(lease, Allocation)
    used = next(p for p in bench.ledger.purchases() if p.purchase_id == "own")
    assert (used.state, used.cost_microusd) == (PurchaseState.USED, 10_000)
    bench.workers.close()
    assert bench.states()["own"] is PurchaseState.USED


def test_where_nothing_fits_a_worker_is_started(bench: Bench) -> None:
    bench.buy("small", 64)
    warm = bench.workers.ensure(bench.own, allocation(256), {"image": "another"})
    assert warm.purchase is None
    assert len(bench.provider.launches) == 1
    assert bench.states() == {"small": PurchaseState.STARTING}


def test_one_that_has_gone_is_let_go_and_another_taken(bench: Bench) -> None:
    bench.buy("gone")
    bench.buy("there", 256, expected_at=NOW + timedelta(seconds=1))
    bench.provider.gone.add("ahead-gone")
    warm = bench.workers.ensure(bench.own, allocation(256))
    assert warm.worker.holder == "ahead-there"
    row = next(p for p in bench.ledger.purchases() if p.purchase_id == "gone")
    assert (row.state, row.run_id) == (PurchaseState.LET_GO, "run")
    assert row.outcome.startswith("could not be taken over")


def test_what_is_taken_and_not_leased_goes_with_its_worker(bench: Bench) -> None:
    bench.buy("p")
    warm = bench.workers.ensure(bench.own, allocation(256))
    bench.workers.discard(warm)
    (row,) = bench.ledger.purchases()
    assert row.state is PurchaseState.LET_GO
    assert row.outcome == "its worker ended before a step was leased on it"


def test_what_a_dead_run_has_taken_is_given_back_and_ended(bench: Bench) -> None:
    bench.buy("p")
    bench.workers.ensure(bench.own, allocation(256))
    give_back(bench.market, "another run", NOW)
    assert bench.states() == {"p": PurchaseState.TAKEN}
    give_back(bench.market, "run", NOW)
    assert bench.states() == {"p": PurchaseState.LET_GO}
    assert bench.provider.reaped == ["ahead-p"]


def test_open_purchases_give_way_the_latest_first(bench: Bench) -> None:
    bench.buy("soon")
    bench.buy("late", 256, expected_at=NOW + timedelta(minutes=5))
    wanted = replace(allocation(400), run_id="run")
    refused = bench.ledger.lease(
        replace(wanted, state=AllocationState.AWARDED),
        capacity=ROOM,
        expires_at=NOW + timedelta(minutes=1),
        now=NOW,
    )
    assert isinstance(refused, Refusal)
    assert give_way(bench.market, wanted, ROOM)
    assert bench.states() == {"soon": PurchaseState.STARTING, "late": PurchaseState.LET_GO}
    assert bench.provider.reaped == ["ahead-late"]
    row = next(p for p in bench.ledger.purchases() if p.purchase_id == "late")
    assert row.outcome == "gave way to step step of run run"


def test_nothing_gives_way_in_vain(bench: Bench) -> None:
    bench.buy("soon")
    assert not give_way(bench.market, allocation(2048), ROOM)
    assert bench.states() == {"soon": PurchaseState.STARTING}


def test_what_was_measured_is_kept_the_newest_first() -> None:
    ledger = InMemoryLedger()
    for number in range(25):
        new = Startups(times_ms=(number,), fit=f"fit-{number}")
        note_startups(ledger, "here", {"cluster/x": new}, job="nightly", lag_ms=number, now=NOW)
    known = known_startups(ledger, "here", "cluster/x")
    assert known.times_ms == tuple(range(24, 4, -1))
    assert known.fit == "fit-24"
    assert known_lags(ledger, "here", "nightly") == known.times_ms
    note_startups(ledger, "here", {}, job="nightly", lag_ms=3_600_000, now=NOW)  # it was queued
    assert known_lags(ledger, "here", "nightly") == known.times_ms
    assert known_startups(ledger, "there", "cluster/x") == Startups()
    assert known_lags(ledger, "here", "weekly") == ()


def test_a_run_tells_how_long_workers_took_and_when_it_asked(bench: Bench) -> None:
    warm = bench.workers.ensure(bench.own, allocation(256))
    bench.foresight.note_ready(warm.key, 1234)
    bench.foresight.keep()
    known = known_startups(bench.ledger, "", "cluster/cluster/general")
    assert known.times_ms == (1234,)
    assert known.fit
    assert known_lags(bench.ledger, "", "nightly") == (7000,)


def test_a_run_that_is_resumed_says_nothing_of_the_lag(bench: Bench) -> None:
    with DagsterInstance.ephemeral() as instance:
        bench.workers.foresight = Foresight(bench.market, bench.run, instance, is_resumed=True)
        warm = bench.workers.ensure(bench.own, allocation(256))
        bench.workers.foresight.note_ready(warm.key, 1234)
        bench.workers.foresight.keep()
    assert known_startups(bench.ledger, "", "cluster/cluster/general").times_ms == (1234,)
    assert known_lags(bench.ledger, "", "nightly") == ()


class Pair:
    """Two runs on a pool of 1,024 MiB; each has taken half of it for a worker that steps share."""

    def __init__(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 1000.0
        monkeypatch.setattr(workers_module.time, "monotonic", lambda: self.seconds)
        self.bench = bench
        bench.provider = FakeAhead(exclusive=False)
        self.runs = {"run": bench.workers, "other": Workers("other", {}, starter="host/3/4")}
        self.runs["other"].foresight = bench.foresight
        self.workers: dict[str, WarmWorker] = {}
        for name, number in (("run", 1), ("other", 2)):
            bench.buy(f"p{number}")
            self.workers[name] = self.runs[name].ensure(bench.own, allocation(700))
        assert set(bench.states().values()) == {PurchaseState.TAKEN}

    def load(self) -> None:
        """Both workers say that they are ready."""
        ready = encode({"kind": "ready", "no_fork": None, "baseline_bytes": 0})
        for name, warm in self.workers.items():
            cast("FakeWorker", warm.worker).other.send(ready)
            list(self.runs[name].poll(1.0))
            assert warm.is_ready

    def wait(self, seconds: float) -> None:
        self.seconds += seconds
        for workers in self.runs.values():
            workers.end_idle()

    def lease(self, name: str, memory_mib: int) -> Allocation | Refusal:
        wanted = replace(allocation(memory_mib), run_id=name, state=AllocationState.AWARDED)
        return self.bench.ledger.lease(
            replace(wanted, holder=self.workers[name].worker.holder),
            capacity=ROOM,
            expires_at=NOW + timedelta(minutes=1),
            now=NOW,
        )


@pytest.fixture
def pair(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    made = Pair(bench, monkeypatch)
    yield made
    made.runs["other"].close()


def test_two_runs_that_hold_what_the_other_needs_do_not_wait_for_ever(pair: Pair) -> None:
    assert isinstance(pair.lease("run", 700), Refusal)
    assert isinstance(pair.lease("other", 700), Refusal)  # half is the other's, until one gives way
    pair.wait(3600)
    assert set(pair.bench.states().values()) == {PurchaseState.TAKEN}  # they load for that long
    pair.load()
    pair.wait(UNLEASED_SECONDS)
    assert isinstance(pair.lease("run", 700), Refusal)
    pair.wait(0.1)
    assert set(pair.bench.states().values()) == {PurchaseState.LET_GO}
    outcomes = {each.outcome for each in pair.bench.ledger.purchases()}
    assert outcomes == {"its run leased nothing on it within 10 s of its being ready"}
    assert isinstance(pair.lease("run", 700), Allocation)
    # The workers are the runs' own now, as if they had started them.
    assert pair.runs["run"].ensure(pair.bench.own, allocation(700)) is pair.workers["run"]
    assert not any(cast("FakeWorker", w.worker).is_closed for w in pair.workers.values())
    assert not any(w.purchase for w in pair.workers.values())  # no lease is told to be on it


def test_a_buyer_ends_no_worker_that_a_run_has_taken(bench: Bench) -> None:
    buyer = Buyer(bench.market, bench.foresight._instance)
    for purchase_id in ("kept", "gone"):
        buyer._mine[purchase_id] = bench.buy(purchase_id)
    # Between two of its looks, a run takes one and gives its room back; the other gives way.
    bench.ledger.take_purchase("kept", run_id="run", now=NOW)
    bench.ledger.let_go("kept", outcome="nothing was leased on it", now=NOW, run_id="run")
    bench.ledger.let_go("gone", outcome="gave way", now=NOW)
    buyer._look_after(NOW)
    assert bench.provider.reaped == ["ahead-gone"]


def test_what_is_leased_on_in_time_keeps_its_room(pair: Pair) -> None:
    pair.load()
    assert isinstance(pair.lease("run", 500), Allocation)
    pair.workers["run"].is_told = True
    pair.wait(UNLEASED_SECONDS + 0.1)
    assert pair.bench.states() == {"p1": PurchaseState.USED, "p2": PurchaseState.LET_GO}


def test_an_exclusive_worker_that_nothing_is_leased_on_goes_with_its_room(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [1000.0]
    monkeypatch.setattr(workers_module.time, "monotonic", lambda: seconds[0])
    bench.provider = FakeAhead(idle_seconds=600.0)
    bench.buy("p")
    warm = bench.workers.ensure(bench.own, allocation(256))
    warm.is_ready, warm.ready_at = True, seconds[0]
    seconds[0] += UNLEASED_SECONDS + 0.1
    bench.workers.end_idle()
    assert bench.states() == {"p": PurchaseState.LET_GO}
    assert cast("FakeWorker", warm.worker).is_closed


def test_a_ledger_that_is_away_is_told_again(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise LedgerError("away")

    pair.load()
    with monkeypatch.context() as patch:
        patch.setattr(pair.bench.ledger, "let_go", away)
        pair.wait(UNLEASED_SECONDS + 0.1)
    assert set(pair.bench.states().values()) == {PurchaseState.TAKEN}
    pair.wait(UNLEASED_SECONDS + 0.1)
    assert set(pair.bench.states().values()) == {PurchaseState.LET_GO}
