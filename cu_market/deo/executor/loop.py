"""The event loop that runs a market's steps: route, relay, meter, settle.

One turn:

1. renew the leases and the run's sign of life;
2. on an interrupt, forward it and start no more;
3. start what is ready, has room, and is held back by no pool: lease, then start (`starting`);
4. take what the workers sent: store each entry, let the state machine see it, acknowledge
   (`relay`): what is not acknowledged, a run worker that takes over is sent again;
5. settle each attempt that ended, and decide: done, failed, retried, or negotiated anew
   (`endings`);
6. open CUs that are rented whole shortly before they are needed, and close those that are needed no
   more (`rentals`);
7. tell of skipped and abandoned steps.
"""

from __future__ import annotations

from collections.abc import Iterator

from dagster import DagsterEvent, DagsterRunStatus

from cu_market.dagster_compat.engine import interrupted_error, subprocess_error
from cu_market.dagster_compat.events import EngineEventData
from cu_market.deo.executor.endings import Endings
from cu_market.deo.executor.lifeline import Lifeline
from cu_market.deo.executor.mapped import Mapped
from cu_market.deo.executor.relay import Relay
from cu_market.deo.executor.renegotiation import Renegotiator
from cu_market.deo.executor.rentals import Rentals
from cu_market.deo.executor.replans import Replans
from cu_market.deo.executor.starting import Starter
from cu_market.deo.executor.state import RunState
from cu_market.deo.executor.workers import WorkerGone

POLL_SECONDS = 0.5
WAIT_SECONDS = 0.1
"""How often a step that waits for room looks again."""


class Loop:
    """Runs one plan's steps.

    Args:
        run: the run in progress.
        lifeline: the run's sign of life.
    """

    def __init__(self, run: RunState, lifeline: Lifeline) -> None:
        self._run = run
        self._lifeline = lifeline
        self._starter = Starter(run)
        self._endings = Endings(run)
        self._relay = Relay(run, self._endings)
        self._renegotiator = Renegotiator(run)
        self._rentals = Rentals(run)
        self._mapped = Mapped(run)
        self._replans = Replans(run)

    def run(self) -> Iterator[DagsterEvent]:
        """Yields Dagster's events until every step has ended.

        Raises:
            DagsterExecutionInterruptedError: interrupted, and every error is an interrupt.
            DagsterSubprocessError: a step's process had an error of its own.
        """
        run = self._run
        while run.has_work():
            self._lifeline.renew(run.negotiation.leases)
            if run.active.check_for_interrupts():
                yield from self._interrupt()
            self._endings.take_back()
            if not run.is_stopping:
                if run.negotiation.not_started():
                    yield from run.retendered.take_over()
                yield from self._renegotiator.review()
                yield from self._replans.review()
                yield from self._mapped.share()
                yield from self._starter.start_ready()
                self._rentals.open_ahead()
            for arrival in run.workers.poll(self._timeout()):
                if isinstance(arrival, WorkerGone):
                    yield from self._endings.lose_worker(arrival)
                else:
                    yield from self._relay.take(*arrival)
                    arrival[0].acknowledge()
            run.workers.end_idle()
            yield from self._rentals.close()
            yield from run.active.plan_events_iterator(run.context)
        yield from self._rentals.close(is_end=True)
        yield from self._conclude()

    @property
    def running_steps(self) -> list[str]:
        """Step keys of the attempts in progress."""
        return [attempt.step_key for attempt in self._run.attempts.values()]

    def _timeout(self) -> float:
        if self._run.unleased or self._run.waiting.since:
            return WAIT_SECONDS
        interval = self._run.active.seconds_until_ready()
        return min(POLL_SECONDS, interval) if interval > 0 else POLL_SECONDS

    def _interrupt(self) -> Iterator[DagsterEvent]:
        if self._will_resume():
            # A failure told now would be the steps' own: what another run worker can adopt runs on,
            # all else ends without a word, and is leased anew.
            self._run.is_left = True
            raise interrupted_error()
        yield DagsterEvent.engine_event(
            self._run.context,
            "Market executor: received termination signal - forwarding to active steps",
            EngineEventData.interrupted(self.running_steps),
        )
        self._run.is_stopping = True
        self._run.active.mark_interrupted()
        self._run.unleased.clear()
        for token, attempt in self._run.attempts.items():
            attempt.worker.send({"kind": "interrupt", "stream": token})
        for attempt in list(self._run.attempts.values()):
            if attempt.worker.size is not None and not attempt.worker.is_ready:
                yield from self._endings.abandon(attempt)

    def _will_resume(self) -> bool:
        """Whether this run worker alone is interrupted, and another will take over.

        Dagster's own executors do not terminate steps under resume, not even of a run that is being
        cancelled (dagster#33923): the run's status decides.
        """
        instance, run_id = self._run.context.instance, self._run.context.run_id
        run = instance.get_run_by_id(run_id)
        is_cancelled = run is None or run.is_finished or run.status is DagsterRunStatus.CANCELING
        return not is_cancelled and instance.run_will_resume(run_id)

    def _conclude(self) -> Iterator[DagsterEvent]:
        errors = list(self._run.errors.values())
        names = {"DagsterExecutionInterruptedError", "KeyboardInterrupt"}
        if self._run.is_stopping and all(error.cls_name in names for error in errors):
            yield DagsterEvent.engine_event(
                self._run.context,
                "Market executor: interrupted all active steps",
                EngineEventData(),
            )
            raise interrupted_error()
        if errors:
            raise subprocess_error(self._run.errors)
