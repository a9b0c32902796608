"""What the workers send: entries are stored, shown to the state machine, acknowledged.

An adopted worker sends again what its earlier run worker had not acknowledged. What of it that one
had stored is in the event log, and dropped.
"""

from __future__ import annotations

from collections.abc import Iterator

from dagster import DagsterEvent, EventLogEntry, MetadataValue

from cu_market.dagster_compat.entries import read_entry, with_materialization_metadata
from cu_market.dagster_compat.event_storage import store_entries
from cu_market.dagster_compat.events import EngineEventData
from cu_market.deo.announcements import materialization_metadata
from cu_market.deo.executor.endings import Endings
from cu_market.deo.executor.state import Attempt, RunState, WorkerFailedError
from cu_market.deo.executor.watching import Watcher
from cu_market.deo.executor.workers import WarmWorker
from cu_market.deo.worker.frames import Frame
from cu_market.domain.usage import Measurement


class Relay:
    """Takes frames in their order; those of a superseded attempt are dropped.

    Args:
        run: the run in progress.
        endings: told of each attempt that ended.
    """

    def __init__(self, run: RunState, endings: Endings) -> None:
        self._run = run
        self._endings = endings
        self._watcher = Watcher(run)

    def take(self, worker: WarmWorker, frames: list[Frame]) -> Iterator[DagsterEvent]:
        """Handles frames in their order; entries that follow one another are stored together."""
        together: list[tuple[Attempt, Frame]] = []
        for frame in frames:
            attempt = self._run.attempts.get(frame.get("stream", 0))
            if frame["kind"] == "entry":
                if attempt is not None:  # else of a superseded attempt: dropped
                    together.append((attempt, frame))
                continue
            yield from self._take_entries(worker, together)
            together = []
            yield from self._take_other(worker, attempt, frame)
        yield from self._take_entries(worker, together)

    def _take_other(
        self, worker: WarmWorker, attempt: Attempt | None, frame: Frame
    ) -> Iterator[DagsterEvent]:
        kind = frame["kind"]
        if kind == "ready":
            yield self._worker_ready(worker)
        elif kind == "failed":
            raise WorkerFailedError(
                f"a market worker could not load the code of job "
                f"{self._run.context.job_name!r}:\n{frame['error']}"
            )
        elif attempt is not None and kind == "started":
            attempt.pid = frame["pid"]
            self._run.negotiation.leases.accept(attempt.lease)
        elif attempt is not None and kind == "samples":
            yield from self._watcher.take(attempt, frame)
        elif attempt is not None and kind == "ended":
            yield from self._endings.end(attempt, frame)
        elif kind == "attached":
            yield from self._take_over(worker, frame)

    def _take_over(self, worker: WarmWorker, frame: Frame) -> Iterator[DagsterEvent]:
        """Tells an adopted worker's steps what is stored; ends the attempts that never began."""
        begun: dict[int, int] = dict(frame["begun"])
        for stream in sorted(worker.streams):
            if stream in begun:
                # All that came before is stored by now, and the earlier word of it may be lost.
                worker.send({"kind": "stored", "stream": stream, "number": begun[stream]})
            elif (attempt := self._run.attempts.get(stream)) is not None:
                yield from self._endings.end_unbegun(attempt)

    def _worker_ready(self, worker: WarmWorker) -> DagsterEvent:
        how = (
            f"starts a fresh process a step: {worker.no_fork}"
            if worker.no_fork
            else "forks a process a step"
        )
        return DagsterEvent.engine_event(
            self._run.context,
            f"Worker {worker.key[1]} is warm and {how}.",
            EngineEventData(
                metadata={
                    "cu/worker": MetadataValue.text(worker.worker.holder),
                    "cu/baseline_bytes": MetadataValue.int(worker.baseline_bytes),
                }
            ),
        )

    def _take_entries(
        self, worker: WarmWorker, together: list[tuple[Attempt, Frame]]
    ) -> Iterator[DagsterEvent]:
        if not together:
            return
        new: list[tuple[Attempt, EventLogEntry]] = []
        known: list[tuple[Attempt, EventLogEntry]] = []
        for attempt, frame in together:
            entry = read_entry(frame["entry"])
            if attempt.is_known(entry):
                known.append((attempt, entry))
            else:
                new.append((attempt, self._completed(attempt, entry, frame)))
        store_entries(self._run.context.instance, [entry for _, entry in new])
        stored = {frame["stream"]: frame["number"] for _, frame in together}
        for stream, number in stored.items():
            worker.send({"kind": "stored", "stream": stream, "number": number})
        for attempt, entry in known:
            if entry.dagster_event is not None and not attempt.is_decided:
                yield from self._fail_for_resource(attempt, entry.dagster_event)
        for attempt, entry in new:
            if entry.dagster_event is not None and entry.dagster_event.step_key is not None:
                yield from self._take_event(attempt, entry.dagster_event)

    def _completed(self, attempt: Attempt, entry: EventLogEntry, frame: Frame) -> EventLogEntry:
        if "measurement" in frame:
            return with_materialization_metadata(entry, self._so_far(attempt, frame))
        return entry

    def _take_event(self, attempt: Attempt, event: DagsterEvent) -> Iterator[DagsterEvent]:
        if event.is_step_failure or event.is_step_up_for_retry:
            attempt.has_failed = True
        if event.is_step_failure or event.is_step_up_for_retry or event.is_step_success:
            attempt.is_decided = True
        self._run.negotiation.outputs.note(event)
        yield event
        self._run.active.handle_event(event)
        yield from self._fail_for_resource(attempt, event)

    def _fail_for_resource(self, attempt: Attempt, event: DagsterEvent) -> Iterator[DagsterEvent]:
        """Makes the failure or retry that a resource's failure is not by itself."""
        if event.is_resource_init_failure:
            yield self._run.fail(attempt, event.engine_event_data.error)

    def _so_far(self, attempt: Attempt, frame: Frame) -> dict[str, MetadataValue]:
        measurement = Measurement(**frame["measurement"])
        now = self._run.negotiation.market.now()
        return materialization_metadata(attempt.lease, measurement, now)
