"""The event loop that runs a market's steps: route, relay, meter, settle.

One turn:

1. renew the leases and the run's sign of life;
2. on an interrupt, forward it and start no more;
3. start what is ready, has room, and is held back by no pool: lease, then start;
4. take what the workers sent: store each entry, let the state machine see it, acknowledge;
5. settle each attempt that ended, and decide: done, failed, retried, or negotiated anew;
6. tell of skipped and abandoned steps.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from dagster import DagsterEvent, EventLogEntry, MetadataValue

from cu_market.dagster_compat.engine import (
    Executor,
    PlanOrchestrationContext,
    SerializableErrorInfo,
    StepContext,
    crash_explanation,
    error_from_exception,
    error_of_message,
    interrupted_error,
    subprocess_error,
)
from cu_market.dagster_compat.entries import (
    read_entry,
    read_error,
    with_materialization_metadata,
)
from cu_market.dagster_compat.event_storage import store_entries
from cu_market.dagster_compat.events import EngineEventData
from cu_market.dagster_compat.gate import GatedExecution
from cu_market.dagster_compat.known_state import known_state_for
from cu_market.deo.announcements import (
    award_message,
    award_metadata,
    bill_event,
    materialization_metadata,
    waiting_message,
)
from cu_market.deo.executor.lifeline import Lifeline
from cu_market.deo.executor.negotiation import Negotiation
from cu_market.deo.executor.workers import WarmWorker, WorkerGone, Workers
from cu_market.deo.worker.frames import Frame
from cu_market.domain.allocation import Allocation
from cu_market.domain.problem import CUMarketError
from cu_market.domain.units import lease_cost_microusd
from cu_market.domain.usage import Ending, Measurement
from cu_market.ledger.interface import Refusal

POLL_SECONDS = 0.5
WAIT_SECONDS = 0.1
"""How often a step that waits for room looks again."""

PATIENCE_SECONDS = 30.0
"""A step that has waited so long for room is passed by no other."""

LOOKED_AT = 16
"""How many steps without room are looked at before the turn goes on."""


class WorkerFailedError(CUMarketError):
    """A worker could not load the job's code."""


@dataclass(slots=True)
class Attempt:
    """A leased attempt in progress.

    Attributes:
        step_key: Dagster's step.
        lease: the ledger's row.
        worker: where it runs.
        has_failed: whether its step has reported a failure or a retry.
        is_decided: whether its step has reached an end that Dagster knows.
    """

    step_key: str
    lease: Allocation
    worker: WarmWorker
    pid: int = 0
    has_failed: bool = False
    is_decided: bool = False


@dataclass(slots=True)
class Waiting:
    """Steps that wait for room: since when, and whether the run page was told."""

    since: dict[str, float] = field(default_factory=dict)

    def note(self, step_key: str) -> bool:
        """Notes that a step waits; whether it is new."""
        if step_key in self.since:
            return False
        self.since[step_key] = time.monotonic()
        return True

    def is_overdue(self, step_key: str) -> bool:
        """Whether nothing may pass this step any more."""
        since = self.since.get(step_key)
        return since is not None and time.monotonic() - since > PATIENCE_SECONDS


class Loop:
    """Runs one plan's steps.

    Args:
        executor: decides between failure and retry as every executor does.
        context: the plan's.
        active: the state machine, entered.
        negotiation: the run's dealings with the market.
        workers: the run's warm workers.
        lifeline: the run's sign of life.
        max_concurrent: steps at once.
    """

    def __init__(
        self,
        *,
        executor: Executor,
        context: PlanOrchestrationContext,
        active: GatedExecution,
        negotiation: Negotiation,
        workers: Workers,
        lifeline: Lifeline,
        max_concurrent: int,
    ) -> None:
        self._executor = executor
        self._context = context
        self._active = active
        self._negotiation = negotiation
        self._workers = workers
        self._lifeline = lifeline
        self._max_concurrent = max_concurrent
        self._attempts: dict[int, Attempt] = {}
        self._unleased: dict[str, StepContext] = {}
        self._contexts: dict[str, StepContext] = {}
        self._waiting = Waiting()
        self._errors: dict[str, SerializableErrorInfo] = {}
        self._is_stopping = False

    def run(self) -> Iterator[DagsterEvent]:
        """Yields Dagster's events until every step has ended.

        Raises:
            DagsterExecutionInterruptedError: interrupted, and every error is an interrupt.
            DagsterSubprocessError: a step's process had an error of its own.
        """
        while self._has_work():
            self._lifeline.renew(self._negotiation)
            if self._active.check_for_interrupts():
                yield from self._interrupt()
            if not self._is_stopping:
                yield from self._start_ready()
            for arrival in self._workers.poll(self._timeout()):
                if isinstance(arrival, WorkerGone):
                    yield from self._lose_worker(arrival)
                else:
                    yield from self._take(*arrival)
            yield from self._active.plan_events_iterator(self._context)
        yield from self._conclude()

    @property
    def running_steps(self) -> list[str]:
        """Step keys of the attempts in progress."""
        return [attempt.step_key for attempt in self._attempts.values()]

    def _has_work(self) -> bool:
        if self._attempts:
            return True
        return not self._is_stopping and not self._active.is_complete

    def _timeout(self) -> float:
        if self._unleased or self._waiting.since:
            return WAIT_SECONDS
        interval = self._active.seconds_until_ready()
        return min(POLL_SECONDS, interval) if interval > 0 else POLL_SECONDS

    # -- interrupts

    def _interrupt(self) -> Iterator[DagsterEvent]:
        yield DagsterEvent.engine_event(
            self._context,
            "Market executor: received termination signal - forwarding to active steps",
            EngineEventData.interrupted(self.running_steps),
        )
        self._is_stopping = True
        self._active.mark_interrupted()
        self._unleased.clear()
        for token, attempt in self._attempts.items():
            attempt.worker.send({"kind": "interrupt", "stream": token})

    def _conclude(self) -> Iterator[DagsterEvent]:
        errors = list(self._errors.values())
        names = {"DagsterExecutionInterruptedError", "KeyboardInterrupt"}
        if self._is_stopping and all(error.cls_name in names for error in errors):
            yield DagsterEvent.engine_event(
                self._context, "Market executor: interrupted all active steps", EngineEventData()
            )
            raise interrupted_error()
        if errors:
            raise subprocess_error(self._errors)

    # -- starting

    def _start_ready(self) -> Iterator[DagsterEvent]:
        for step_key in list(self._unleased):
            yield from self._lease_and_start(step_key)
        room = self._max_concurrent - len(self._attempts) - len(self._unleased)
        if room <= 0:
            return
        going: set[str] = set()
        looked_at = 0
        for step_key in list(self._active.executable_keys()):
            if len(going) >= room or looked_at >= LOOKED_AT:
                break
            refusal = self._obstacle(step_key, going)
            if refusal is None:
                going.add(step_key)
                continue
            looked_at += 1
            if isinstance(refusal, Refusal):
                yield from self._tell_waiting(step_key, refusal)
            if self._waiting.is_overdue(step_key):
                break
        if not going and not self._active.has_waiting:
            return
        steps = self._active.take(going)
        yield from self._active.concurrency_event_iterator(self._context)
        for step in steps:
            self._contexts[step.key] = self._unleased[step.key] = self._context.for_step(step)
            yield from self._lease_and_start(step.key)

    def _obstacle(self, step_key: str, going: set[str]) -> Refusal | str | None:
        """Returns why a step cannot start now: no room, or its worker is still loading."""
        award = self._negotiation.award(step_key)
        worker = self._worker(award)
        if not worker.is_ready:
            return "loading"
        ahead = [self._negotiation.award(key) for key in going]
        return self._negotiation.shortage(award, ahead)

    def _worker(self, award: Allocation) -> WarmWorker:
        provider = self._negotiation.market.providers[award.provider]
        return self._workers.ensure(provider, award)

    def _lease_and_start(self, step_key: str) -> Iterator[DagsterEvent]:
        award = self._negotiation.award(step_key)
        worker = self._worker(award)
        if not worker.is_ready:
            return
        outcome = self._negotiation.lease(award, worker.worker.holder)
        context = self._unleased[step_key]
        if isinstance(outcome, Refusal):
            yield from self._tell_waiting(step_key, outcome, award)
            return
        self._waiting.since.pop(step_key, None)
        del self._unleased[step_key]
        report = self._negotiation.report(step_key)
        yield DagsterEvent.step_worker_starting(
            context, award_message(outcome, report), metadata=award_metadata(outcome, report)
        )
        self._send_step(outcome, worker, context)

    def _send_step(self, lease: Allocation, worker: WarmWorker, context: StepContext) -> None:
        limits = self._negotiation.market.providers[lease.provider].limits(lease)
        self._attempts[lease.fencing_token] = Attempt(
            step_key=lease.step_key, lease=lease, worker=worker
        )
        worker.streams.add(lease.fencing_token)
        worker.send(
            {
                "kind": "step",
                "stream": lease.fencing_token,
                "step_key": lease.step_key,
                "known_state": known_state_for(context.step, self._active.get_known_state()),
                "cpu_millis": limits.cpu_millis,
                "memory_bytes": limits.memory_bytes,
                "niceness": limits.niceness,
            }
        )

    def _tell_waiting(
        self, step_key: str, refusal: Refusal, award: Allocation | None = None
    ) -> Iterator[DagsterEvent]:
        if not self._waiting.note(step_key):
            return
        context = self._unleased.get(step_key) or self._context.for_step(
            self._active.get_step_by_key(step_key)
        )
        wanted = award or self._negotiation.award(step_key)
        yield DagsterEvent.engine_event(
            context, waiting_message(wanted, refusal), EngineEventData()
        )

    # -- what the workers send

    def _take(self, worker: WarmWorker, frames: list[Frame]) -> Iterator[DagsterEvent]:
        """Handles frames in their order; entries that follow one another are stored together."""
        together: list[tuple[Attempt, Frame]] = []
        for frame in frames:
            attempt = self._attempts.get(frame.get("stream", 0))
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
                f"{self._context.job_name!r}:\n{frame['error']}"
            )
        elif attempt is not None and kind == "started":
            attempt.pid = frame["pid"]
            self._negotiation.accept(attempt.lease)
        elif attempt is not None and kind == "ended":
            yield from self._end(attempt, frame)

    def _worker_ready(self, worker: WarmWorker) -> DagsterEvent:
        how = (
            f"starts a fresh process a step: {worker.no_fork}"
            if worker.no_fork
            else "forks a process a step"
        )
        return DagsterEvent.engine_event(
            self._context,
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
        entries = [self._entry(attempt, frame) for attempt, frame in together]
        store_entries(self._context.instance, entries)
        stored = {frame["stream"]: frame["number"] for _, frame in together}
        for stream, number in stored.items():
            worker.send({"kind": "stored", "stream": stream, "number": number})
        for (attempt, _), entry in zip(together, entries, strict=True):
            if entry.dagster_event is not None and entry.dagster_event.step_key is not None:
                yield from self._take_event(attempt, entry.dagster_event)

    def _entry(self, attempt: Attempt, frame: Frame) -> EventLogEntry:
        entry = read_entry(frame["entry"])
        if "measurement" in frame:
            return with_materialization_metadata(entry, self._so_far(attempt, frame))
        return entry

    def _take_event(self, attempt: Attempt, event: DagsterEvent) -> Iterator[DagsterEvent]:
        if event.is_step_failure or event.is_step_up_for_retry:
            attempt.has_failed = True
        if event.is_step_failure or event.is_step_up_for_retry or event.is_step_success:
            attempt.is_decided = True
        yield event
        self._active.handle_event(event)
        if event.is_resource_init_failure:
            yield self._fail(attempt, event.engine_event_data.error)

    def _so_far(self, attempt: Attempt, frame: Frame) -> dict[str, MetadataValue]:
        measurement = Measurement(**frame["measurement"])
        lease = attempt.lease
        assert lease.leased_at is not None
        held = self._negotiation.market.now() - lease.leased_at
        cost = lease_cost_microusd(
            lease.price_microusd_per_hour, round(1000 * held.total_seconds())
        )
        return materialization_metadata(lease, measurement, cost)

    # -- endings

    def _end(self, attempt: Attempt, frame: Frame) -> Iterator[DagsterEvent]:
        del self._attempts[attempt.lease.fencing_token]
        measurement = Measurement(**frame["measurement"])
        ending = Ending(frame["ending"])
        if ending is Ending.OK and attempt.has_failed:
            ending = Ending.ERROR
        context = self._contexts[attempt.step_key]
        settled = self._negotiation.settle(attempt.lease, ending, measurement)
        sentence, data = bill_event(
            settled, measurement, ending, self._negotiation.report(attempt.step_key)
        )
        yield DagsterEvent.engine_event(context, sentence, data)
        if frame["error"]:
            self._errors[f"{attempt.step_key} (pid {attempt.pid})"] = read_error(frame["error"])
        if frame["finished"] or attempt.is_decided:
            self._active.verify_complete(self._context, attempt.step_key)
        elif ending is Ending.OUT_OF_MEMORY:
            yield from self._end_for_memory(attempt, frame["detail"], measurement)
        elif self._is_stopping:
            self._errors[attempt.step_key] = error_from_exception(interrupted_error())
            yield self._fail(attempt, self._errors[attempt.step_key])
        else:
            yield from self._end_crashed(attempt, frame["exit_code"], frame["detail"])

    def _end_for_memory(
        self, attempt: Attempt, detail: str, measurement: Measurement
    ) -> Iterator[DagsterEvent]:
        context = self._contexts[attempt.step_key]
        reason = detail
        if not self._is_stopping and self._negotiation.retries_memory(attempt.step_key):
            try:
                self._negotiation.renegotiate_memory(attempt.lease, measurement)
            except CUMarketError as error:
                reason = f"{detail}; {error}"
            else:
                report = self._negotiation.report(attempt.step_key)
                award = self._negotiation.award(attempt.step_key)
                yield DagsterEvent.engine_event(
                    context,
                    f"Attempt {attempt.lease.attempt} ended {detail}. "
                    f"{award_message(award, report)} No retry of the step's own is used.",
                    EngineEventData(metadata=award_metadata(award, report)),
                )
                self._unleased[attempt.step_key] = context
                return
        yield self._fail(attempt, error_of_message("StepOutOfMemoryError", reason))

    def _end_crashed(
        self, attempt: Attempt, exit_code: int | None, detail: str
    ) -> Iterator[DagsterEvent]:
        error = error_of_message("ChildProcessCrashException", detail)
        context = self._contexts[attempt.step_key]
        yield DagsterEvent.engine_event(
            context,
            crash_explanation(f"Market executor: process for step {attempt.step_key}", exit_code),
            EngineEventData.engine_error(error),
        )
        failure = self._fail(attempt, error)
        yield failure
        if failure.is_step_failure:
            self._errors[f"{attempt.step_key} (pid {attempt.pid})"] = error

    def _fail(self, attempt: Attempt, error: SerializableErrorInfo | None) -> DagsterEvent:
        """Returns the step's failure, or its retry where its policy has one left."""
        event = self._executor.log_failure_or_retry_event_after_error(
            self._contexts[attempt.step_key],
            error or error_of_message("StepLostError", "the step ended without a word"),
            self._active.get_known_state(),
        )
        attempt.is_decided = True
        self._active.handle_event(event)
        return event

    def _lose_worker(self, gone: WorkerGone) -> Iterator[DagsterEvent]:
        if not gone.worker.is_ready:
            raise WorkerFailedError(
                f"a market worker ended while loading the code of job "
                f"{self._context.job_name!r}: exit code {gone.exit_code}; its output is in the "
                "run worker's"
            )
        provider = self._negotiation.market.providers[gone.worker.key[0]]
        provider.reap([gone.worker.worker.holder])
        for token in sorted(gone.worker.streams):
            attempt = self._attempts.pop(token, None)
            if attempt is not None:
                yield from self._lose(attempt, gone)

    def _lose(self, attempt: Attempt, gone: WorkerGone) -> Iterator[DagsterEvent]:
        context = self._contexts[attempt.step_key]
        self._negotiation.settle(attempt.lease, Ending.LOST, None)
        detail = f"its CU's worker is gone ({gone.detail}, exit code {gone.exit_code})"
        if attempt.is_decided:
            self._active.verify_complete(self._context, attempt.step_key)
        elif self._is_stopping:
            self._errors[attempt.step_key] = error_from_exception(interrupted_error())
            yield self._fail(attempt, self._errors[attempt.step_key])
        elif self._negotiation.retries_lost(attempt.step_key):
            yield DagsterEvent.engine_event(
                context,
                f"Attempt {attempt.lease.attempt} was lost: {detail}. It is leased again; no retry "
                "of the step's own is used.",
                EngineEventData(),
            )
            self._unleased[attempt.step_key] = context
        else:
            yield self._fail(attempt, error_of_message("CULostError", detail))
