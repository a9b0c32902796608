"""Attempts that end: settled once, then done, failed, retried, or negotiated anew."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from dagster import DagsterEvent

from cu_market.dagster_compat.engine import crash_explanation, error_of_message
from cu_market.dagster_compat.entries import read_error
from cu_market.dagster_compat.events import EngineEventData
from cu_market.deo.announcements import award_message, award_metadata, bill_event
from cu_market.deo.executor.state import Attempt, RunState, WorkerFailedError
from cu_market.deo.executor.workers import WorkerGone
from cu_market.deo.worker.frames import Frame
from cu_market.domain.allocation import Allocation
from cu_market.domain.problem import CUMarketError
from cu_market.domain.rental import is_share, offered_name
from cu_market.domain.usage import Ending, Measurement
from cu_market.ral.provider import EndKind

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""How often the ledger is asked for leases that were taken back."""

GIVE_WAY_SECONDS = 1.0
"""How long a step whose spot lease was taken back does not ask for that room again: whoever took
it asks every tenth of a second, and would have to take it back a second time."""

ONLY_CU_SECONDS = 2.0
"""How long a step waits before it is tried again on a CU that did not deliver, where nobody else
can serve it; twice as long each time. A quota that is used up or a node that is drained comes back,
but not within the second that four attempts would take."""

_ENDINGS = {EndKind.OUT_OF_MEMORY: Ending.OUT_OF_MEMORY, EndKind.PREEMPTED: Ending.PREEMPTED}
_WITHDRAWN = frozenset({EndKind.UNSTARTED, EndKind.NODE_LOST})
"""Ends after which the same CU is not asked again at once."""

_CU_GONE = _WITHDRAWN | {EndKind.PREEMPTED, EndKind.EVICTED, EndKind.DELETED, EndKind.LOST}
"""Ends of a worker that are those of the CU which was rented for it."""


class Endings:
    """Decides what an attempt's end means for its step.

    Args:
        run: the run in progress.
    """

    def __init__(self, run: RunState) -> None:
        self._run = run
        self._looked_at = float("-inf")

    def end(self, attempt: Attempt, frame: Frame) -> Iterator[DagsterEvent]:
        """Settles an attempt whose worker told its end, and decides what follows."""
        del self._run.attempts[attempt.lease.fencing_token]
        measurement = Measurement(**frame["measurement"])
        ending = Ending(frame["ending"])
        if ending is Ending.OK and attempt.has_failed:
            ending = Ending.ERROR
        if ending is Ending.OUT_OF_MEMORY:
            attempt.lease = _as_enforced(attempt.lease, frame)
        context = self._run.contexts[attempt.step_key]
        settled = self._run.negotiation.settle(attempt.lease, ending, measurement)
        self._run.negotiation.keep_curve(attempt.lease, frame.get("curve"))
        sentence, data = bill_event(
            settled, measurement, ending, self._run.negotiation.report(attempt.step_key)
        )
        yield DagsterEvent.engine_event(context, sentence, data)
        if frame["error"]:
            self._run.errors[f"{attempt.step_key} (pid {attempt.pid})"] = read_error(frame["error"])
        if attempt.is_decided:
            return  # after a retry the step may be in flight again, by another attempt
        if frame["finished"]:
            self._run.active.verify_complete(self._run.context, attempt.step_key)
        elif ending is Ending.OUT_OF_MEMORY:
            yield from self._end_for_memory(attempt, frame["detail"], measurement)
        elif self._run.is_stopping:
            yield self._run.fail_interrupted(attempt)
        elif attempt.is_revoked and ending is Ending.PREEMPTED:
            yield from self._end_revoked(attempt)
        elif attempt.restart is not None and ending is Ending.PREEMPTED:
            yield from self._end_restarted(attempt)
        else:
            yield from self._end_crashed(attempt, frame["exit_code"], frame["detail"])

    def _end_for_memory(
        self, attempt: Attempt, detail: str, measurement: Measurement
    ) -> Iterator[DagsterEvent]:
        context = self._run.contexts[attempt.step_key]
        reason = detail
        if not self._run.is_stopping and self._run.negotiation.retries_memory(attempt.step_key):
            try:
                self._run.negotiation.renegotiate_memory(attempt.lease, measurement)
            except CUMarketError as error:
                reason = f"{detail}; {error}"
            else:
                report = self._run.negotiation.report(attempt.step_key)
                award = self._run.negotiation.award(attempt.step_key)
                yield DagsterEvent.engine_event(
                    context,
                    f"Attempt {attempt.lease.attempt} ended {detail}. "
                    f"{award_message(award, report)} No retry of the step's own is used.",
                    EngineEventData(metadata=award_metadata(award, report)),
                )
                self._run.unleased[attempt.step_key] = context
                return
        yield self._run.fail(attempt, error_of_message("StepOutOfMemoryError", reason))

    def take_back(self) -> None:
        """Ends the steps whose leases were taken back; their workers tell their end."""
        if not self._run.attempts or time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        for token in self._run.negotiation.leases.revoked_tokens():
            attempt = self._run.attempts.get(token)
            if attempt is not None and not attempt.is_revoked:
                attempt.is_revoked = True
                attempt.worker.send({"kind": "lose", "stream": token})

    def _end_revoked(self, attempt: Attempt) -> Iterator[DagsterEvent]:
        lease, context = attempt.lease, self._run.contexts[attempt.step_key]
        said = self._awarded_anew(lease, lambda: self._run.negotiation.renegotiate_revoked(lease))
        yield DagsterEvent.engine_event(
            context,
            f"Attempt {lease.attempt} was preempted: its spot lease on {lease.resource_id} was "
            f"taken back for a step that is not spot. {said} No retry of the step's own is used.",
            EngineEventData(),
        )
        self._run.not_before[attempt.step_key] = time.monotonic() + GIVE_WAY_SECONDS
        self._run.unleased[attempt.step_key] = context

    def _end_restarted(self, attempt: Attempt) -> Iterator[DagsterEvent]:
        lease, context = attempt.lease, self._run.contexts[attempt.step_key]
        elsewhere = self._run.negotiation.award_elsewhere
        said = self._awarded_anew(lease, lambda: elsewhere(lease.step_key, {lease.resource_id}))
        yield DagsterEvent.engine_event(
            context,
            f"Attempt {lease.attempt} on {lease.resource_id} was ended to run again elsewhere. "
            f"{said} No retry of the step's own is used.",
            EngineEventData(),
        )
        self._run.unleased[attempt.step_key] = context

    def _awarded_anew(self, lease: Allocation, hold: Callable[[], None]) -> str:
        """Holds a new auction for a step whose attempt has ended; returns its outcome in words."""
        try:
            hold()
        except CUMarketError as error:
            return f"Nobody else can serve it now ({error}); it waits for {lease.resource_id}."
        negotiation = self._run.negotiation
        award = negotiation.award(lease.step_key)
        return award_message(award, negotiation.report(lease.step_key))

    def _end_crashed(
        self, attempt: Attempt, exit_code: int | None, detail: str
    ) -> Iterator[DagsterEvent]:
        error = error_of_message("ChildProcessCrashException", detail)
        context = self._run.contexts[attempt.step_key]
        yield DagsterEvent.engine_event(
            context,
            crash_explanation(f"Market executor: process for step {attempt.step_key}", exit_code),
            EngineEventData.engine_error(error),
        )
        failure = self._run.fail(attempt, error)
        yield failure
        if failure.is_step_failure:
            self._run.errors[f"{attempt.step_key} (pid {attempt.pid})"] = error

    def lose_worker(self, gone: WorkerGone) -> Iterator[DagsterEvent]:
        """Ends the attempts of a worker that is gone, by its provider's word for the cause.

        Raises:
            WorkerFailedError: it ended by itself before it was ready.
        """
        provider = self._run.negotiation.market.providers[gone.worker.key[0]]
        if provider.capabilities.reap:
            try:
                provider.reap([gone.worker.worker.holder])
            except OSError:
                logger.exception("not reaped now, but later", extra={"action": "reap"})
        kind = gone.end.kind if gone.end is not None else EndKind.EXITED
        # One that was bought ahead may have waited too long: another follows.
        was_bought = gone.worker.purchase is not None
        if not gone.worker.is_ready and kind is EndKind.EXITED and not was_bought:
            said = gone.end.detail if gone.end is not None else f"exit code {gone.exit_code}"
            raise WorkerFailedError(
                f"a market worker ended while loading the code of job "
                f"{self._run.context.job_name!r}: {said}; its output is in its own log"
            )
        rented = gone.worker.rented
        is_cu_gone = bool(rented) and (kind in _CU_GONE or not gone.worker.is_ready)
        if is_cu_gone:
            self._run.negotiation.withdraw(rented)
        if is_cu_gone and (kind is EndKind.UNSTARTED or not gone.worker.is_ready):
            self._run.negotiation.withdraw(offered_name(rented))
        popped = (self._run.attempts.pop(token, None) for token in sorted(gone.worker.streams))
        for attempt in [each for each in popped if each is not None]:
            yield from self._lose(attempt, gone, kind)
        if is_cu_gone and not self._run.is_stopping:
            yield from self._leave(rented)

    def _leave(self, rented: str) -> Iterator[DagsterEvent]:
        """Auctions what was to run on a rented CU that is gone, all together: it may share again.
        Where nobody serves it as a whole, each step is asked for by itself when it is ready."""
        negotiation = self._run.negotiation
        steps = negotiation.waiting_on(rented, self._run.unleased)
        if not steps:
            return
        try:
            negotiation.award_anew(steps)
        except CUMarketError as error:
            pause = negotiation.leases.renting.pause(rented)
            said = f"{rented} is gone, and nobody else serves {', '.join(steps)} now ({error})"
            yield DagsterEvent.engine_event(
                self._run.context, f"{said}: it is tried again in {pause:g} s.", EngineEventData()
            )
            return
        names = sorted({negotiation.award(step).resource_id for step in steps})
        said = f"{rented} is gone: {', '.join(steps)} run on {', '.join(names)} instead."
        yield DagsterEvent.engine_event(self._run.context, said, EngineEventData())

    def abandon(self, attempt: Attempt) -> Iterator[DagsterEvent]:
        """Ends, on an interrupt, an attempt whose worker has not started yet."""
        del self._run.attempts[attempt.lease.fencing_token]
        self._run.workers.discard(attempt.worker)
        self._run.negotiation.leases.release(attempt.lease)
        yield self._run.fail_interrupted(attempt)

    def end_unbegun(self, attempt: Attempt) -> Iterator[DagsterEvent]:
        """Ends an attempt that an earlier run worker leased and never came to start; its worker,
        which knows nothing of it, too."""
        if self._run.is_stopping:
            yield from self.abandon(attempt)
            return
        del self._run.attempts[attempt.lease.fencing_token]
        self._run.workers.discard(attempt.worker)
        self._run.negotiation.leases.release(attempt.lease)
        context = self._run.contexts[attempt.step_key]
        yield DagsterEvent.engine_event(
            context,
            f"Attempt {attempt.lease.attempt} had not begun when its run worker was lost. It is "
            "leased again; no retry of the step's own is used.",
            EngineEventData(),
        )
        self._run.unleased[attempt.step_key] = context

    def _lose(self, attempt: Attempt, gone: WorkerGone, kind: EndKind) -> Iterator[DagsterEvent]:
        negotiation = self._run.negotiation
        if kind is EndKind.UNSTARTED:
            # No usage is kept: forecasts have nothing to learn of it, the CU's score has.
            negotiation.leases.release(attempt.lease, is_unstarted=True)
        else:
            ending = _ENDINGS.get(kind, Ending.LOST)
            # Kept, so that the CU's score knows of it; what it used is not known.
            held_ms = round(1000 * (time.monotonic() - attempt.began_at))
            lost = Measurement(wall_ms=held_ms, cpu_ms=0, peak_memory_bytes=0)
            negotiation.settle(attempt.lease, ending, lost if ending is Ending.LOST else None)
        detail = f"its CU's worker is gone ({gone.detail}, exit code {gone.exit_code})"
        if gone.end is not None:
            detail = f"{kind}: {gone.end.detail}"
        if attempt.is_decided:
            return
        if self._run.is_stopping:
            yield self._run.fail_interrupted(attempt)
        elif kind is EndKind.OUT_OF_MEMORY:
            used = Measurement(
                wall_ms=0, cpu_ms=0, peak_memory_bytes=attempt.lease.size.memory_bytes
            )
            yield from self._end_for_memory(attempt, f"out of memory ({detail})", used)
        elif negotiation.retries_lost(attempt.step_key):
            yield from self._try_again(attempt, kind, detail)
        else:
            yield self._run.fail(attempt, error_of_message("CULostError", detail))

    def _try_again(self, attempt: Attempt, kind: EndKind, detail: str) -> Iterator[DagsterEvent]:
        """Has a lost attempt followed by another: elsewhere, where its CU did not deliver."""
        context = self._run.contexts[attempt.step_key]
        negotiation = self._run.negotiation
        where = "It is leased again"
        if is_share(attempt.lease) and kind in _CU_GONE:
            where = "It is auctioned again, with what else was to run there"
        elif kind in _WITHDRAWN:
            lease = attempt.lease
            negotiation.withdraw(lease.resource_id)
            try:
                negotiation.award_elsewhere(lease.step_key)
            except CUMarketError as error:
                pause = ONLY_CU_SECONDS * 2 ** (negotiation.times_lost(lease.step_key) - 1)
                self._run.not_before[lease.step_key] = time.monotonic() + pause
                where = f"Nobody else can serve it ({error}); it is tried there in {pause:g} s"
            else:
                award = negotiation.award(lease.step_key)
                where = f"The bid of {lease.resource_id} counts as withdrawn. " + award_message(
                    award, negotiation.report(lease.step_key)
                )
        yield DagsterEvent.engine_event(
            context,
            f"Attempt {attempt.lease.attempt} was lost: {detail}. {where}; no retry of the step's "
            "own is used.",
            EngineEventData(),
        )
        self._run.unleased[attempt.step_key] = context


def _as_enforced(lease: Allocation, frame: Frame) -> Allocation:
    """Returns the lease with the memory under which its step was ended: where it had just grown in
    the ledger, the worker may not have known yet, and what was too little is the size before."""
    limit = min(lease.size.memory_bytes, frame.get("memory_limit") or lease.size.memory_bytes)
    return replace(lease, size=replace(lease.size, memory_bytes=limit))
