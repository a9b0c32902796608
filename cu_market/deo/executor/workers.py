"""The warm workers of one run: started when wanted, listened to together, ended with the run.

Most are shared: a worker forks as many steps as its CU has room for. One of an exclusive provider
takes a step at a time; it is started for a lease and kept for further steps that fit it. Where
another run worker may follow this one, some are left running for it, and adopted by it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cu_market.deo.executor.ahead import Foresight
from cu_market.deo.worker.frames import Decoder, Frame, FrameError, encode
from cu_market.domain.allocation import Allocation
from cu_market.domain.purchase import Purchase
from cu_market.domain.rental import as_offered, is_share
from cu_market.domain.resources import ResourceVector
from cu_market.ral.carrier import Carrier
from cu_market.ral.places import (
    WORKER_ARGUMENTS,
    WorkerKey,
    relevant_tags,
    shared_key_of,
    worker_key_of,
)
from cu_market.ral.provider import (
    AdoptableWorker,
    Adopting,
    Provider,
    Worker,
    WorkerEnd,
    WorkerLaunch,
)

logger = logging.getLogger(__name__)

IN_THE_WAY_SECONDS = 3.0
"""How long an idle worker is kept while another of its place is starting."""

UNLEASED_SECONDS = 10.0
"""How long what was bought ahead holds its room for a run once its worker is ready and nothing is
leased on it. Two runs that each hold what the other's first step needs would wait for each other
for ever, and so would one that holds it while the other's turn comes first."""


@dataclass(slots=True, eq=False)
class WarmWorker:
    """One worker and what is known of it.

    Attributes:
        key: allocations with an equal one may share it, or use it in turn.
        worker: the process and its channel.
        size: what an exclusive worker was started with; None for a shared one.
        is_ready: whether its code is loaded.
        no_fork: why it starts fresh processes instead of forking, or None.
        baseline_bytes: private memory of the loaded code.
        streams: fencing tokens of the steps it runs.
        idle_since: monotonic seconds since it has none.
        is_adoptable: whether it may outlive this run worker.
        acknowledged_bytes: of what it sent.
        started_at: monotonic seconds when it was asked for.
        purchase: what it was bought ahead as, or None.
        is_told: whether the run page knows that it was: a step has been leased on it.
        ready_at: monotonic seconds when it was ready, or when its purchase could not be given back.
        rented: the name of the CU that is rented whole for it, or empty.
    """

    key: WorkerKey
    worker: Worker
    size: ResourceVector | None = None
    decoder: Decoder = field(default_factory=Decoder)
    is_ready: bool = False
    no_fork: str | None = None
    baseline_bytes: int = 0
    streams: set[int] = field(default_factory=set)
    idle_since: float = field(default_factory=time.monotonic)
    idle_seconds: float = float("inf")
    is_adoptable: bool = False
    acknowledged_bytes: int = 0
    started_at: float = field(default_factory=time.monotonic)
    purchase: Purchase | None = None
    is_told: bool = False
    ready_at: float = float("inf")
    rented: str = ""

    def send(self, frame: Frame) -> None:
        """Sends a frame; a channel that is gone is noticed when it is read."""
        with contextlib.suppress(OSError):
            self.worker.send(encode(frame))

    def acknowledge(self) -> None:
        """Says that all frames so far are dealt with: no run worker needs to see them again."""
        size = self.decoder.taken_bytes - self.acknowledged_bytes
        if size and isinstance(self.worker, AdoptableWorker):
            self.acknowledged_bytes += size
            self.worker.acknowledge(size)

    @property
    def is_idle(self) -> bool:
        """Whether it is an exclusive worker without a step."""
        return self.size is not None and not self.streams


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerGone:
    """A worker's channel closed: what it ran is lost.

    Attributes:
        worker: which.
        exit_code: of its process, or None where unknown.
        detail: how the channel ended.
        end: what its provider knows of the cause, or None.
    """

    worker: WarmWorker
    exit_code: int | None
    detail: str
    end: WorkerEnd | None = None


class Workers:
    """Every worker of a run.

    Args:
        run_id: whose workers they are.
        outline: the frame body that tells a worker what to load.
        starter: holder of this process.
        run: Dagster's record of the run.
        instance: the run's instance.
        code_version: of what they load.
        has_successor: whether another run worker follows this one when it is lost.

    Attributes:
        foresight: where it may find workers that were started ahead; None: there are none.
        carrier: reaches workers that their providers cannot reach; set once the market is open.
    """

    def __init__(
        self,
        run_id: str,
        outline: Frame,
        *,
        starter: str = "",
        run: Any = None,
        instance: Any = None,
        code_version: str = "",
        has_successor: bool = False,
    ) -> None:
        self._run_id = run_id
        self._outline = outline
        self._starter = starter
        self._run = run
        self._instance = instance
        self._code_version = code_version
        self._has_successor = has_successor
        self.foresight: Foresight | None = None
        self.carrier: Carrier | None = None
        self._workers: list[WarmWorker] = []
        self._closed: list[Worker] = []
        self._selector = selectors.DefaultSelector()

    def ensure(
        self, provider: Provider, allocation: Allocation, tags: Mapping[str, str] | None = None
    ) -> WarmWorker:
        """Returns the worker that runs this allocation's step, started if there is none.

        Args:
            provider: who won.
            allocation: what was won.
            tags: the step's.

        Raises:
            OSError: it cannot be started.
            InvalidInputError: it cannot be described.
        """
        relevant = relevant_tags(provider, tags)
        key = worker_key_of(provider, allocation, relevant)
        found = [each for each in self._workers if each.key == key and _can_take(each, allocation)]
        if found:
            return min(found, key=lambda each: each.size.memory_bytes if each.size else 0)
        if provider.capabilities.exclusive:
            self._make_room(key[:2])
        return self._start(provider, key, relevant, allocation)

    def prewarm(self, provider: Provider) -> None:
        """Starts the worker of a provider that has one for all, before anything is awarded.

        One that cannot be started is for whoever needs it to tell.
        """
        key = shared_key_of(provider)
        if not provider.capabilities.one_worker or any(w.key == key for w in self._workers):
            return
        with contextlib.suppress(OSError):
            self._start(provider, key, {}, None)

    def _start(
        self,
        provider: Provider,
        key: WorkerKey,
        tags: Mapping[str, str],
        allocation: Allocation | None,
    ) -> WarmWorker:
        launch = self._launch(provider, key, tags, allocation)
        bought = self.foresight.take(provider, key, launch) if self.foresight is not None else None
        worker, purchase = bought or (provider.start(launch), None)
        warm = self._enlist(provider, key, worker, allocation, purchase)
        warm.is_adoptable = launch.is_adoptable
        warm.send({"kind": "load", "outline": self._outline})
        return warm

    def _launch(
        self,
        provider: Provider,
        key: WorkerKey,
        tags: Mapping[str, str],
        allocation: Allocation | None,
    ) -> WorkerLaunch:
        return WorkerLaunch(
            run_id=self._run_id,
            worker_key=key.place,
            arguments=WORKER_ARGUMENTS,
            working_directory=os.getcwd(),
            allocation=None if allocation is None else as_offered(allocation),
            tags=tags,
            starter=self._starter,
            run=self._run,
            instance=self._instance,
            code_version=self._code_version,
            is_adoptable=self._has_successor and isinstance(provider, Adopting),
            carrier=self.carrier,
        )

    def _enlist(
        self,
        provider: Provider,
        key: WorkerKey,
        worker: Worker,
        allocation: Allocation | None,
        purchase: Purchase | None = None,
    ) -> WarmWorker:
        warm = WarmWorker(key=key, worker=worker, purchase=purchase)
        if allocation is not None and is_share(allocation):
            warm.rented = allocation.resource_id
        if allocation is not None and provider.capabilities.exclusive:
            warm.size = allocation.size if purchase is None else purchase.size
            is_kept = provider.capabilities.warm
            warm.idle_seconds = provider.capabilities.idle_seconds if is_kept else -1.0
        self._workers.append(warm)
        self._selector.register(worker.fileno(), selectors.EVENT_READ, warm)
        return warm

    def adopt(
        self, provider: Provider, lease: Allocation, tags: Mapping[str, str]
    ) -> WarmWorker | None:
        """Returns the worker that runs a lease's step for a run worker that is gone, or None where
        there is none that can be adopted. It tells what it runs once it is reached.

        Raises:
            OSError: it cannot be looked for now.
        """
        if not isinstance(provider, Adopting):
            return None
        relevant = relevant_tags(provider, tags)
        key = worker_key_of(provider, lease, relevant)
        worker = provider.adopt(lease.holder, self._launch(provider, key, relevant, lease))
        if worker is None:
            return None
        warm = self._enlist(provider, key, worker, lease)
        warm.is_ready = warm.is_adoptable = True
        warm.streams.add(lease.fencing_token)
        warm.send({"kind": "attach"})
        return warm

    def discard(self, warm: WarmWorker) -> None:
        """Closes one worker, whatever it runs."""
        if warm in self._workers:
            self._close(warm)

    def is_starting_rented(self) -> bool:
        """Whether the worker of a CU that is rented whole has not loaded its code yet."""
        return any(w.rented and not w.is_ready for w in self._workers)

    def end_rented(self, resource_id: str) -> None:
        """Closes the workers of a CU that is rented no more."""
        for warm in [each for each in self._workers if each.rented == resource_id]:
            self._close(warm)

    def end_idle(self) -> None:
        """Closes exclusive workers that have had no step for their provider's time, and gives back
        the room of what was bought ahead and not leased on.

        Where another of the same place is still starting, sooner: it may be waiting for that room.
        """
        now = time.monotonic()
        self._give_back_unleased(now)
        starting = {w.key[:2] for w in self._workers if w.size is not None and not w.is_ready}
        for warm in [w for w in self._workers if w.is_idle and w.is_ready]:
            patience = IN_THE_WAY_SECONDS if warm.key[:2] in starting else warm.idle_seconds
            if now - warm.idle_since > min(patience, warm.idle_seconds):
                self._close(warm)

    def poll(self, timeout: float) -> Iterator[tuple[WarmWorker, list[Frame]] | WorkerGone]:
        """Yields what has arrived, by worker; waits at most timeout seconds for the first."""
        for key, _ in self._selector.select(timeout):
            warm: WarmWorker = key.data
            if warm not in self._workers:
                continue  # closed by whoever handled an earlier one of this turn
            try:
                data = warm.worker.receive()
                frames = warm.decoder.feed(data)
            except (OSError, FrameError) as error:
                yield self._forget(warm, str(error))
                continue
            if not data:
                yield self._forget(warm, "its channel closed")
                continue
            for frame in frames:
                self._note(warm, frame)
            yield warm, frames

    def end_all(self) -> None:
        """Closes every worker; others can be started."""
        for warm in list(self._workers):
            self._close(warm)

    def leave(self) -> set[int]:
        """Closes every worker but those that another run worker may adopt with their steps; returns
        the fencing tokens of these steps."""
        left: set[int] = set()
        for warm in list(self._workers):
            if warm.is_adoptable and warm.streams and isinstance(warm.worker, AdoptableWorker):
                left |= warm.streams
                self._close(warm, warm.worker.leave)
        self.end_all()
        return left

    def close(self) -> None:
        """Closes every channel: workers end themselves and their steps."""
        self.end_all()
        self._selector.close()

    def collect(self) -> None:
        """Waits for no one, but takes the exit codes of closed workers: none stays a zombie."""
        self._closed = [worker for worker in self._closed if worker.exit_code() is None]

    def holders(self) -> list[str]:
        """Returns the holders of the live workers."""
        return [warm.worker.holder for warm in self._workers]

    def _make_room(self, place: tuple[str, str]) -> None:
        """Closes idle workers of a place, which a step that fits none of them would wait for."""
        for warm in [w for w in self._workers if w.is_idle and w.key[:2] == place]:
            self._close(warm)

    def _give_back_unleased(self, now: float) -> None:
        """Gives back room that nothing was leased in for a while. A worker that several steps share
        stays, as one that the run has started itself; another one is what holds the room."""
        why = f"its run leased nothing on it within {UNLEASED_SECONDS:.0f} s of its being ready"
        for warm in list(self._workers):
            is_over = not warm.is_told and now - warm.ready_at > UNLEASED_SECONDS
            if self.foresight is None or warm.purchase is None or not is_over:
                continue
            if not self.foresight.give_back(warm.purchase, why):
                warm.ready_at = now  # asked again later
                continue
            warm.purchase = None
            if warm.is_idle:
                self._close(warm)

    def _close(self, warm: WarmWorker, how: Callable[[], None] | None = None) -> None:
        self._selector.unregister(warm.worker.fileno())
        (how or warm.worker.close)()
        if warm.purchase is not None and self.foresight is not None:
            self.foresight.give_back(
                warm.purchase, "its worker ended before a step was leased on it"
            )
        self._closed.append(warm.worker)
        self._workers.remove(warm)

    def _note(self, warm: WarmWorker, frame: Frame) -> None:
        if frame["kind"] == "ready":
            if self.foresight is not None and warm.purchase is None and not warm.is_ready:
                took_ms = round(1000 * (time.monotonic() - warm.started_at))
                self.foresight.note_ready(warm.key, took_ms)
            warm.ready_at = warm.ready_at if warm.is_ready else time.monotonic()
            warm.is_ready = True
            warm.no_fork = frame["no_fork"]
            warm.baseline_bytes = frame["baseline_bytes"]
        elif frame["kind"] == "ended":
            warm.streams.discard(frame["stream"])
            warm.idle_since = time.monotonic()

    def _forget(self, warm: WarmWorker, detail: str) -> WorkerGone:
        self._close(warm)
        logger.warning("worker gone", extra={"action": "worker_gone", "worker": warm.worker.holder})
        return WorkerGone(
            worker=warm, exit_code=warm.worker.exit_code(), detail=detail, end=warm.worker.end()
        )


def _can_take(warm: WarmWorker, allocation: Allocation) -> bool:
    if warm.size is None:
        return True
    return warm.is_idle and allocation.size.fits_in(warm.size)
