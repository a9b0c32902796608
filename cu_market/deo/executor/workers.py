"""The warm workers of one run: started when wanted, listened to together, ended with the run."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
from collections.abc import Iterator
from dataclasses import dataclass, field

from cu_market.deo.worker.frames import Decoder, Frame, FrameError, encode
from cu_market.domain.allocation import Allocation
from cu_market.ral.provider import Provider, Worker, WorkerLaunch

logger = logging.getLogger(__name__)

WORKER_ARGUMENTS = ("-m", "cu_market.deo.worker")


@dataclass(slots=True, eq=False)
class WarmWorker:
    """One worker and what is known of it.

    Attributes:
        key: provider's name and worker key; allocations with an equal one share it.
        worker: the process and its channel.
        is_ready: whether its code is loaded.
        no_fork: why it starts fresh processes instead of forking, or None.
        baseline_bytes: private memory of the loaded code.
        streams: fencing tokens of the steps it runs.
    """

    key: tuple[str, str]
    worker: Worker
    decoder: Decoder = field(default_factory=Decoder)
    is_ready: bool = False
    no_fork: str | None = None
    baseline_bytes: int = 0
    streams: set[int] = field(default_factory=set)

    def send(self, frame: Frame) -> None:
        """Sends a frame; a channel that is gone is noticed when it is read."""
        with contextlib.suppress(OSError):
            self.worker.send(encode(frame))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerGone:
    """A worker's channel closed: what it ran is lost."""

    worker: WarmWorker
    exit_code: int | None
    detail: str


class Workers:
    """Every worker of a run.

    Args:
        run_id: whose workers they are.
        outline: the frame body that tells a worker what to load.
    """

    def __init__(self, run_id: str, outline: Frame) -> None:
        self._run_id = run_id
        self._outline = outline
        self._workers: dict[tuple[str, str], WarmWorker] = {}
        self._closed: list[Worker] = []
        self._selector = selectors.DefaultSelector()

    def ensure(self, provider: Provider, allocation: Allocation) -> WarmWorker:
        """Returns the worker that runs this allocation's step, started if there is none.

        Raises:
            OSError: it cannot be started.
        """
        key = (provider.name, provider.worker_key(allocation))
        found = self._workers.get(key)
        if found is not None:
            return found
        worker = provider.start(
            WorkerLaunch(
                run_id=self._run_id,
                worker_key=key[1],
                arguments=WORKER_ARGUMENTS,
                working_directory=os.getcwd(),
            )
        )
        warm = WarmWorker(key=key, worker=worker)
        self._workers[key] = warm
        self._selector.register(worker.fileno(), selectors.EVENT_READ, warm)
        warm.send({"kind": "load", "outline": self._outline})
        return warm

    def poll(self, timeout: float) -> Iterator[tuple[WarmWorker, list[Frame]] | WorkerGone]:
        """Yields what has arrived, by worker; waits at most timeout seconds for the first."""
        for key, _ in self._selector.select(timeout):
            warm: WarmWorker = key.data
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

    def close(self) -> None:
        """Closes every channel: workers end themselves and their steps."""
        for warm in list(self._workers.values()):
            warm.worker.close()
            self._closed.append(warm.worker)
        self._workers.clear()
        self._selector.close()

    def collect(self) -> None:
        """Waits for no one, but takes the exit codes of closed workers: none stays a zombie."""
        self._closed = [worker for worker in self._closed if worker.exit_code() is None]

    def holders(self) -> list[str]:
        """Returns the holders of the live workers."""
        return [warm.worker.holder for warm in self._workers.values()]

    @staticmethod
    def _note(warm: WarmWorker, frame: Frame) -> None:
        if frame["kind"] == "ready":
            warm.is_ready = True
            warm.no_fork = frame["no_fork"]
            warm.baseline_bytes = frame["baseline_bytes"]
        elif frame["kind"] == "ended":
            warm.streams.discard(frame["stream"])

    def _forget(self, warm: WarmWorker, detail: str) -> WorkerGone:
        self._selector.unregister(warm.worker.fileno())
        warm.worker.close()
        self._closed.append(warm.worker)
        self._workers.pop(warm.key, None)
        logger.warning("worker gone", extra={"action": "worker_gone", "worker": warm.worker.holder})
        return WorkerGone(worker=warm, exit_code=warm.worker.exit_code(), detail=detail)
