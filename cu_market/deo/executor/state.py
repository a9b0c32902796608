"""What a run's event loop holds: attempts in progress, steps that wait, errors so far."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field, replace

from dagster import DagsterEvent, EventLogEntry

from cu_market.dagster_compat.engine import (
    Executor,
    PlanOrchestrationContext,
    SerializableErrorInfo,
    StepContext,
    error_from_exception,
    error_of_message,
    interrupted_error,
)
from cu_market.dagster_compat.entries import EntryIdentity, identity_of
from cu_market.dagster_compat.gate import GatedExecution
from cu_market.deo.executor.negotiation import Negotiation
from cu_market.deo.executor.retendered import Retendered
from cu_market.deo.executor.workers import WarmWorker, Workers
from cu_market.domain.allocation import Allocation
from cu_market.domain.problem import CUMarketError
from cu_market.domain.rental import is_share
from cu_market.market.renegotiation.restart import Restart
from cu_market.pse.live.outlook import Watch

PATIENCE_SECONDS = 30.0
"""A step that has waited so long for room is passed by no other."""


class WorkerFailedError(CUMarketError):
    """A worker could not load the job's code."""


@dataclass(slots=True)
class Attempt:
    """A leased attempt in progress.

    Attributes:
        step_key: Dagster's step.
        lease: the ledger's row.
        worker: where it runs.
        pid: of its process, 0 until that is known.
        began_at: monotonic seconds.
        has_failed: whether its step has reported a failure or a retry.
        is_decided: whether its step has reached an end that Dagster knows.
        is_revoked: whether its lease was taken back, and its worker told so.
        restart: why it is ended to run again elsewhere, once its worker was told so.
        watch: its memory's outlook, once samples have come.
        grows_after: monotonic seconds before which its lease is not tried to grow again.
        is_told_of_limit: whether the run page knows that it will hit its limit.
        known: of an adopted one, what the event log had of its step: not stored a second time.
    """

    step_key: str
    lease: Allocation
    worker: WarmWorker
    pid: int = 0
    began_at: float = field(default_factory=time.monotonic)
    has_failed: bool = False
    is_decided: bool = False
    is_revoked: bool = False
    restart: Restart | None = None
    watch: Watch | None = None
    grows_after: float = float("-inf")
    is_told_of_limit: bool = False
    known: Counter[EntryIdentity] = field(default_factory=Counter)

    def is_known(self, entry: EventLogEntry) -> bool:
        """Whether an earlier run worker has stored the entry; each that was stored counts once."""
        identity = identity_of(entry)
        if not self.known[identity]:
            return False
        self.known[identity] -= 1
        return True


@dataclass(slots=True)
class Waiting:
    """Steps that wait: since when, and for what the run page was told that they do."""

    since: dict[str, float] = field(default_factory=dict)
    told: set[tuple[str, str]] = field(default_factory=set)

    def note(self, step_key: str, cause: str = "room") -> bool:
        """Notes that a step waits, for ``room``, ``turn``, ``money``, or ``company``: what it is
        kept together with is where nobody serves it now; whether that is new."""
        self.since.setdefault(step_key, time.monotonic())
        if (step_key, cause) in self.told:
            return False
        self.told.add((step_key, cause))
        return True

    def for_room(self, seconds: float) -> bool:
        """Whether any step has waited for room so long."""
        now = time.monotonic()
        return any(
            now - since > seconds and (step_key, "room") in self.told
            for step_key, since in self.since.items()
        )

    def is_overdue(self, step_key: str) -> bool:
        """Whether nothing may pass this step any more."""
        since = self.since.get(step_key)
        return since is not None and time.monotonic() - since > PATIENCE_SECONDS


@dataclass(slots=True, kw_only=True)
class RunState:
    """One run in progress, as starting, relaying and ending share it.

    Attributes:
        executor: decides between failure and retry as every executor does.
        context: the plan's.
        active: the state machine, entered.
        negotiation: the run's dealings with the market.
        workers: the run's warm workers.
        max_concurrent: steps at once; where nobody has said how many, beside those on CUs that are
            rented whole, of which as many run as there is room for.
        is_limit_said: whether somebody has.
        attempts: those in progress, by their lease's fencing token.
        unleased: steps that Dagster has let go ahead and that have no lease yet.
        contexts: of every step that was let go ahead.
        errors: those of steps' processes, by step and process.
        not_before: until when (monotonic seconds) a step asks for no lease: its spot lease was
            taken back, or the only CU that serves it did not deliver.
        is_stopping: whether an interrupt has come: no more is started.
        is_left: whether another run worker takes over: what can be adopted is left running.
        retendered: what of its awards other runs' auctions have moved.
    """

    executor: Executor
    context: PlanOrchestrationContext
    active: GatedExecution
    negotiation: Negotiation
    workers: Workers
    max_concurrent: int
    is_limit_said: bool = False
    attempts: dict[int, Attempt] = field(default_factory=dict)
    unleased: dict[str, StepContext] = field(default_factory=dict)
    contexts: dict[str, StepContext] = field(default_factory=dict)
    waiting: Waiting = field(default_factory=Waiting)
    errors: dict[str, SerializableErrorInfo] = field(default_factory=dict)
    not_before: dict[str, float] = field(default_factory=dict)
    is_stopping: bool = False
    is_left: bool = False
    retendered: Retendered = field(init=False)

    def __post_init__(self) -> None:
        self.retendered = Retendered(self.negotiation, self.context)

    def is_limited(self, award: Allocation) -> bool:
        """Whether a step's award counts among the steps at once."""
        return self.is_limit_said or not is_share(award)

    def free_places(self) -> int:
        """Returns how many more steps may run at once."""
        leased = [attempt.lease for attempt in self.attempts.values()]
        waiting = [self.negotiation.award(step_key) for step_key in self.unleased]
        return self.max_concurrent - sum(map(self.is_limited, [*leased, *waiting]))

    def has_work(self) -> bool:
        """Returns whether an attempt goes on, or one may still start."""
        if self.attempts:
            return True
        return not self.is_stopping and not self.active.is_complete

    def worker_for(self, award: Allocation) -> WarmWorker:
        """Returns the worker that runs an award's step, started if there is none: on a CU that is
        rented whole, for all of it.

        Raises:
            OSError: it cannot be started.
            InvalidInputError: it cannot be described.
        """
        provider = self.negotiation.market.providers[award.provider]
        rental = self.negotiation.leases.renting.of(award)
        launched = award if rental is None else replace(award, size=rental.size)
        return self.workers.ensure(provider, launched, self.negotiation.tags(award.step_key))

    def fail_step(self, step_key: str, error: SerializableErrorInfo) -> DagsterEvent:
        """Returns the failure of a step that no attempt has begun, or its retry."""
        event = self.executor.log_failure_or_retry_event_after_error(
            self.contexts[step_key], error, self.active.get_known_state()
        )
        self.active.handle_event(event)
        return event

    def fail(self, attempt: Attempt, error: SerializableErrorInfo | None) -> DagsterEvent:
        """Returns the step's failure, or its retry where its policy has one left."""
        attempt.is_decided = True
        return self.fail_step(
            attempt.step_key,
            error or error_of_message("StepLostError", "the step ended without a word"),
        )

    def fail_interrupted(self, attempt: Attempt) -> DagsterEvent:
        """Returns the failure of a step that an interrupt ended before it could say so itself."""
        self.errors[attempt.step_key] = error_from_exception(interrupted_error())
        return self.fail(attempt, self.errors[attempt.step_key])
