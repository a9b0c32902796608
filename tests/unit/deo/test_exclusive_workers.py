"""Workers that take one step at a time: started for a lease, kept for what fits, out of the way."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from cu_market.deo.executor import workers as module
from cu_market.deo.executor.workers import WarmWorker, Workers
from cu_market.deo.worker.frames import encode
from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.resources import ResourceVector
from cu_market.ral.provider import Capabilities, WorkerEnd, WorkerLaunch

MIB = 2**20


class FakeWorker:
    """A channel with nobody at its other end."""

    def __init__(self, holder: str) -> None:
        self.holder = holder
        self.channel, self.other = socket.socketpair()
        self.is_closed = False

    def fileno(self) -> int:
        return self.channel.fileno()

    def send(self, data: bytes) -> None:
        self.channel.send(data)

    def receive(self) -> bytes:
        return self.channel.recv(65536)

    def close(self) -> None:
        self.is_closed = True
        self.channel.close()
        self.other.close()

    def exit_code(self) -> int | None:
        return 0 if self.is_closed else None

    def end(self) -> WorkerEnd | None:
        return None


class FakePod(FakeWorker):
    """A worker that may outlive its run worker."""

    def __init__(self, holder: str) -> None:
        super().__init__(holder)
        self.is_left = False
        self.acknowledged = 0

    def acknowledge(self, size: int) -> None:
        self.acknowledged += size

    def leave(self) -> None:
        self.is_left = True
        self.close()


class FakeProvider:
    """Starts fake workers, and remembers for what."""

    name = "cluster"

    def __init__(self, **capabilities: Any) -> None:
        declared = {"exclusive": True, "warm": True, "tags": ("image",), "idle_seconds": 30.0}
        self.capabilities = Capabilities(**{**declared, **capabilities})
        self.launches: list[WorkerLaunch] = []

    def worker_key(self, allocation: Allocation) -> str:
        return allocation.resource_id

    def start(self, launch: WorkerLaunch) -> FakeWorker:
        self.launches.append(launch)
        return FakeWorker(f"pod-{len(self.launches)}")


def allocation(memory_mib: int, pool: str = "general") -> Allocation:
    return Allocation(
        run_id="run",
        step_key="step",
        attempt=1,
        state=AllocationState.LEASED,
        auction_id="a",
        bid_id="b",
        provider="cluster",
        resource_id=f"cluster/{pool}",
        capacity_id=f"cluster/{pool}",
        size=ResourceVector(cpu_millis=500, memory_bytes=memory_mib * MIB),
        price_microusd_per_hour=1,
        expected_ms=1,
        awarded_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


@pytest.fixture
def run() -> Iterator[Workers]:
    workers = Workers("run", {}, starter="host/1/2")
    yield workers
    workers.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def busy(warm: WarmWorker, token: int) -> WarmWorker:
    warm.is_ready = True
    warm.streams.add(token)
    return warm


def idle(warm: WarmWorker, now: float) -> WarmWorker:
    warm.is_ready = True
    warm.streams.clear()
    warm.idle_since = now
    return warm


def test_a_busy_worker_takes_no_second_step(run: Workers) -> None:
    provider = FakeProvider()
    first = busy(run.ensure(provider, allocation(100)), 1)  # type: ignore[arg-type]
    assert run.ensure(provider, allocation(100)) is not first  # type: ignore[arg-type]
    assert [launch.starter for launch in provider.launches] == ["host/1/2"] * 2


def test_an_idle_one_takes_what_fits_the_smallest_first(run: Workers) -> None:
    provider = FakeProvider()
    large = busy(run.ensure(provider, allocation(400)), 1)  # type: ignore[arg-type]
    small = busy(run.ensure(provider, allocation(100)), 2)  # type: ignore[arg-type]
    idle(large, 0)
    idle(small, 0)
    assert run.ensure(provider, allocation(90)) is small  # type: ignore[arg-type]
    assert run.ensure(provider, allocation(200)) is large  # type: ignore[arg-type]
    assert len(provider.launches) == 2


def test_one_that_does_not_fit_makes_room(run: Workers) -> None:
    provider = FakeProvider()
    small: Any = idle(run.ensure(provider, allocation(100)), 0).worker  # type: ignore[arg-type]
    run.ensure(provider, allocation(200))  # type: ignore[arg-type]
    assert small.is_closed


def test_another_pool_or_tag_is_another_worker(run: Workers) -> None:
    provider = FakeProvider()
    first = idle(run.ensure(provider, allocation(100), {"image": "a", "x": "1"}), 0)  # type: ignore[arg-type]
    same = run.ensure(provider, allocation(100), {"image": "a", "x": "2"})  # type: ignore[arg-type]
    assert same is first  # "x" is not one that the provider goes by
    assert run.ensure(provider, allocation(100, "spot"), {"image": "a"}) is not first  # type: ignore[arg-type]
    assert run.ensure(provider, allocation(100), {"image": "b"}) is not first  # type: ignore[arg-type]
    assert [launch.tags for launch in provider.launches] == [{"image": v} for v in "aab"]


def test_idle_ones_end_after_their_time(run: Workers, clock: list[float]) -> None:
    warm = idle(run.ensure(FakeProvider(), allocation(100)), clock[0])  # type: ignore[arg-type]
    worker: Any = warm.worker
    clock[0] += 29
    run.end_idle()
    assert not worker.is_closed
    clock[0] += 2
    run.end_idle()
    assert worker.is_closed
    assert run.holders() == []


def test_idle_ones_are_not_in_the_way_of_one_that_starts(run: Workers, clock: list[float]) -> None:
    provider = FakeProvider()
    first = busy(run.ensure(provider, allocation(100)), 1)  # type: ignore[arg-type]
    run.ensure(provider, allocation(100)).streams.add(2)  # type: ignore[arg-type]
    worker: Any = idle(first, clock[0]).worker
    clock[0] += module.IN_THE_WAY_SECONDS + 1
    run.end_idle()
    assert worker.is_closed
    assert len(run.holders()) == 1


def test_where_none_is_kept_each_step_has_its_own(run: Workers, clock: list[float]) -> None:
    provider = FakeProvider(warm=False)
    worker: Any = idle(run.ensure(provider, allocation(100)), clock[0]).worker  # type: ignore[arg-type]
    run.end_idle()
    assert worker.is_closed


def test_shared_workers_take_any_number_of_steps(run: Workers, clock: list[float]) -> None:
    provider = FakeProvider(exclusive=False)
    first = busy(run.ensure(provider, allocation(100)), 1)  # type: ignore[arg-type]
    assert run.ensure(provider, allocation(900)) is first  # type: ignore[arg-type]
    idle(first, clock[0])
    clock[0] += 10_000
    run.end_idle()
    assert run.holders() == ["pod-1"]


class AdoptingProvider(FakeProvider):
    """Starts workers that may outlive this run worker, and adopts any."""

    def start(self, launch: WorkerLaunch) -> FakeWorker:
        self.launches.append(launch)
        return FakePod(f"pod-{len(self.launches)}")

    def adopt(self, holder: str, launch: WorkerLaunch) -> FakePod:
        self.launches.append(launch)
        return FakePod(holder)

    def reap_run(self, run_id: str, spared: Any = ()) -> int:
        return 0


def test_what_may_be_adopted_is_left_with_its_step_and_all_else_closed() -> None:
    workers = Workers("run", {}, code_version="v1", has_successor=True)
    provider, bound = AdoptingProvider(), FakeProvider(exclusive=False)
    bound.name = "machine"
    with_step: Any = busy(workers.ensure(provider, allocation(100)), 1).worker  # type: ignore[arg-type]
    other: Any = idle(workers.ensure(provider, allocation(100)), 0).worker  # type: ignore[arg-type]
    shared: Any = busy(workers.ensure(bound, allocation(100)), 2).worker  # type: ignore[arg-type]
    assert [launch.is_adoptable for launch in provider.launches] == [True, True]
    assert [launch.is_adoptable for launch in bound.launches] == [False]
    assert workers.leave() == {1}
    assert with_step.is_left
    assert not other.is_left
    assert other.is_closed
    assert shared.is_closed
    assert workers.holders() == []
    workers.close()


def test_where_nobody_follows_nothing_is_left(run: Workers) -> None:
    provider = AdoptingProvider()
    worker: Any = busy(run.ensure(provider, allocation(100)), 1).worker  # type: ignore[arg-type]
    assert not provider.launches[0].is_adoptable
    assert run.leave() == set()
    assert worker.is_closed
    assert not worker.is_left


def test_whole_frames_are_acknowledged_once_they_are_dealt_with(run: Workers) -> None:
    worker = run.adopt(AdoptingProvider(), allocation(100), {})  # type: ignore[arg-type]
    assert worker is not None
    pod: Any = worker.worker
    first, second = encode({"kind": "a"}), encode({"kind": "b"})
    pod.other.sendall(first + second[:3])
    list(run.poll(1.0))
    assert pod.acknowledged == 0
    worker.acknowledge()
    assert pod.acknowledged == len(first)
    worker.acknowledge()
    assert pod.acknowledged == len(first)
    pod.other.sendall(second[3:])
    list(run.poll(1.0))
    worker.acknowledge()
    assert pod.acknowledged == len(first) + len(second)


def test_a_provider_that_cannot_adopt_has_nothing_to_adopt(run: Workers) -> None:
    assert run.adopt(FakeProvider(), allocation(100), {}) is None  # type: ignore[arg-type]
