"""What a run worker does first that takes over from one that is gone (Dagster's run resume).

Steps that run on in workers which outlive their run worker are adopted: same ledger attempt, same
lease, no second execution. All other attempts of the predecessor are ended and billed to now,
whatever of them still runs is removed, and their steps are leased anew: their outcome is not in the
event log, so nobody has seen it. Ledger attempts count on, since a key is never leased twice; the
user's retries are not touched.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dagster import DagsterEvent, DagsterEventType, DagsterInstance, EventLogEntry

from cu_market.dagster_compat.engine import PlanOrchestrationContext
from cu_market.dagster_compat.entries import EntryIdentity, identity_of
from cu_market.dagster_compat.events import EngineEventData
from cu_market.deo.executor.lifeline import Lifeline
from cu_market.deo.executor.starting import ATTEMPT_METADATA
from cu_market.deo.executor.state import Attempt, RunState
from cu_market.deo.executor.workers import WarmWorker, Workers
from cu_market.domain.allocation import HOLDING, Allocation, AllocationState
from cu_market.domain.outline import RunOutline, template_key
from cu_market.ledger.errors import LeaseLostError
from cu_market.market.ahead.standing import give_back
from cu_market.market.auction import Market
from cu_market.ral.local.process import current_holder
from cu_market.ral.provider import Adopting

logger = logging.getLogger(__name__)

_LOOK_AGAIN_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""A provider that does not answer now is asked for its workers again after these."""

_END_OF_STEP = frozenset(
    {
        DagsterEventType.STEP_SUCCESS,
        DagsterEventType.STEP_FAILURE,
        DagsterEventType.STEP_SKIPPED,
    }
)


@dataclass(slots=True)
class Told:
    """What a run's event log tells of its attempts.

    Attributes:
        begun: (step key, ledger attempt) of which the log says that it was handed to a worker.
        decided: of these, those that have said their step's success, failure or retry.
        failed: of these, those that have said a failure or a retry.
        ended: step keys that will not be started again.
    """

    begun: set[tuple[str, int]] = field(default_factory=set)
    decided: set[tuple[str, int]] = field(default_factory=set)
    failed: set[tuple[str, int]] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)

    @staticmethod
    def by(events: Sequence[DagsterEvent]) -> Told:
        """Returns what these events tell."""
        told, current = Told(), dict[str, int]()
        for event in events:
            step_key = event.step_key
            if step_key is None:
                continue
            if event.event_type is DagsterEventType.STEP_WORKER_STARTING:
                said = getattr(event.event_specific_data, "metadata", {}).get(ATTEMPT_METADATA)
                current[step_key] = said.value if said is not None else 0
                told.begun.add((step_key, current[step_key]))
            elif event.event_type in _END_OF_STEP or event.is_step_up_for_retry:
                key = (step_key, current.get(step_key, 0))
                told.decided.add(key)
                if event.is_step_failure or event.is_step_up_for_retry:
                    told.failed.add(key)
                if not event.is_step_up_for_retry:
                    told.ended.add(step_key)
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class Inheritance:
    """What an earlier run worker has left of its run.

    Attributes:
        entries: the run's event log.
        told: what it tells.
        adopted: leases that are held on, and the workers that run their steps.
        attempts: by step key, the highest ledger attempt there is, awards included.
    """

    entries: Sequence[EventLogEntry]
    told: Told
    adopted: Sequence[tuple[Allocation, WarmWorker]]
    attempts: Mapping[str, int]

    @property
    def settled_steps(self) -> set[str]:
        """Steps that need no award: they have ended, or run on."""
        running = {
            lease.step_key
            for lease, _ in self.adopted
            if (lease.step_key, lease.attempt) not in self.told.decided
        }
        return self.told.ended | running


def take_over(
    market: Market, instance: DagsterInstance, outline: RunOutline, workers: Workers
) -> Inheritance:
    """Adopts what runs on of an earlier run worker's; ends and bills the rest of what it held."""
    run_id = outline.run_id
    before = market.ledger.run_lease(run_id)
    # From now on an earlier run worker that still lives is refused, and no daemon ends the run.
    Lifeline(market, run_id, current_holder()).renew()
    entries = instance.all_logs(run_id)
    told = Told.by([e.dagster_event for e in entries if e.dagster_event is not None])
    held = market.ledger.allocations(run_id=run_id, states=HOLDING)
    try:
        adopted = list(_adopt(market, outline, workers, held, told))
        spared = {lease.fencing_token: lease for lease, _ in adopted}
        _end_rest(market, run_id, spared, None if before is None else before.holder)
        attempts: dict[str, int] = {}
        for row in market.ledger.allocations(run_id=run_id):
            attempts[row.step_key] = max(row.attempt, attempts.get(row.step_key, 0))
    except BaseException:
        workers.end_all()  # nobody would read what they tell
        raise
    return Inheritance(entries=entries, told=told, adopted=adopted, attempts=attempts)


def give_up(market: Market, run_id: str, workers: Workers) -> None:
    """Ends also what was adopted: the run goes on without the market."""
    workers.end_all()
    _end_rest(market, run_id, {}, None)


def _adopt(
    market: Market,
    outline: RunOutline,
    workers: Workers,
    held: Sequence[Allocation],
    told: Told,
) -> Iterator[tuple[Allocation, WarmWorker]]:
    tags = {step.step_key: step.tags for step in outline.steps}
    found: dict[str, WarmWorker] = {}
    silent: set[str] = set()
    for lease in held:
        if (lease.step_key, lease.attempt) not in told.begun or not lease.holder:
            continue
        worker = found.get(lease.holder)
        if worker is None and lease.provider not in silent:
            own = tags.get(lease.step_key) or tags.get(template_key(lease.step_key), {})
            worker = _adopt_worker(market, workers, lease, own, silent)
        if worker is not None:
            found[lease.holder] = worker
            worker.streams.add(lease.fencing_token)
            yield lease, worker


def _adopt_worker(
    market: Market,
    workers: Workers,
    lease: Allocation,
    tags: Mapping[str, str],
    silent: set[str],
) -> WarmWorker | None:
    """Returns the lease's worker, or None; adds its provider to those that do not answer."""
    provider = market.providers.get(lease.provider)
    if provider is None:
        return None
    for pause in (*_LOOK_AGAIN_SECONDS, None):
        try:
            return workers.adopt(provider, lease, tags)
        except OSError:
            logger.exception("not adopted", extra={"action": "adopt", "worker": lease.holder})
            if pause is not None:
                time.sleep(pause)
    silent.add(lease.provider)
    return None


def _end_rest(
    market: Market, run_id: str, spared: Mapping[int, Allocation], before: str | None
) -> None:
    """Ends, bills and removes what is held of the run but these leases and their workers.

    Args:
        before: the holder of the earlier run worker, where it is known.
    """
    ledger, now = market.ledger, market.now()
    held = ledger.allocations(run_id=run_id, states=HOLDING)
    ledger.revoke_leases([row.key for row in held if row.fencing_token not in spared], now=now)
    ledger.release_awards(run_id, now=now)
    revoked = ledger.allocations(run_id=run_id, states=[AllocationState.REVOKED])
    holders = sorted({row.holder for row in revoked if row.holder})
    if before is not None:
        holders.append(before)
    for provider in market.providers.values():
        if not provider.capabilities.reap:
            continue
        try:
            if isinstance(provider, Adopting):
                provider.reap_run(run_id, [lease.holder for lease in spared.values()])
            else:
                provider.reap(holders)
        except OSError:
            logger.exception("not reaped now", extra={"action": "reap"})
    for row in revoked:
        try:
            ledger.settle(row.key, row.fencing_token, ended_at=market.now(), usage=None)
        except LeaseLostError:
            continue  # a daemon's reaper was quicker
    ledger.close_rentals(run_id, now=market.now())
    give_back(market, run_id, market.now())


def replay(run: RunState, inherited: Inheritance) -> Iterator[DagsterEvent]:
    """Brings the state machine to where the event log is; of the steps in flight, those that were
    adopted are attempts in progress, and the others are to be leased anew."""
    context: PlanOrchestrationContext = run.context
    events = [e.dagster_event for e in inherited.entries if e.dagster_event is not None]
    in_flight = run.active.replay(events)
    for event in events:
        run.negotiation.outputs.note(event)
        if event.is_step_failure:
            yield event  # the run's end counts failures among what its executor yields
    running = [attempt.step_key for attempt in _attempts(run, inherited) if not attempt.is_decided]
    anew = [step for step in in_flight if step.key not in running]
    for step in anew:
        run.contexts[step.key] = run.unleased[step.key] = context.for_step(step)
    run.negotiation.note_begun({step_key for step_key, _ in inherited.told.begun})
    yield DagsterEvent.engine_event(
        context,
        "Market executor: resumes the run. In flight when its run worker was lost: "
        f"{_names(running)} run on and are adopted; {_names([step.key for step in anew])} are "
        "leased anew. No retry of their own is used.",
        EngineEventData(),
    )


def _names(step_keys: Sequence[str]) -> str:
    return ", ".join(step_keys) or "none"


def _attempts(run: RunState, inherited: Inheritance) -> Iterator[Attempt]:
    """Yields the adopted attempts, now in progress here."""
    told, now = inherited.told, run.negotiation.market.now()
    known: dict[str, Counter[EntryIdentity]] = defaultdict(Counter)
    for entry in inherited.entries:
        known[entry.step_key or ""][identity_of(entry)] += 1
    for lease, worker in inherited.adopted:
        key = (lease.step_key, lease.attempt)
        held = (now - (lease.leased_at or now)).total_seconds()
        attempt = Attempt(
            step_key=lease.step_key,
            lease=lease,
            worker=worker,
            began_at=time.monotonic() - held,
            has_failed=key in told.failed,
            is_decided=key in told.decided,
            known=known[lease.step_key],
        )
        run.attempts[lease.fencing_token] = attempt
        step = run.active.get_step_by_key(lease.step_key)
        run.contexts[lease.step_key] = run.context.for_step(step)
        yield attempt
