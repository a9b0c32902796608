"""Steps that are ready start where they won: room, lease, then the worker is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from dagster import DagsterEvent, MetadataValue

from cu_market.dagster_compat.engine import StepContext, error_of_message
from cu_market.dagster_compat.events import EngineEventData
from cu_market.dagster_compat.known_state import known_state_for
from cu_market.deo.announcements import (
    ahead_message,
    award_message,
    award_metadata,
    offer_ended_message,
    waiting_message,
)
from cu_market.deo.executor.renting import NOT_DUE
from cu_market.deo.executor.state import Attempt, RunState
from cu_market.deo.executor.workers import WarmWorker
from cu_market.domain.allocation import Allocation
from cu_market.domain.lease import Refusal
from cu_market.domain.problem import CUMarketError, InvalidInputError
from cu_market.domain.rental import as_offered, is_share
from cu_market.ledger.errors import LeaseLostError

ATTEMPT_METADATA = "cu/attempt"
"""Of STEP_WORKER_STARTING: which of the ledger's attempts the events that follow are of."""

LOOKED_AT = 16
"""How many steps without room are looked at before the turn goes on."""

ASK_AGAIN_SECONDS = 2.0
"""A step whose offer has ended is auctioned again at most so often: an offer may end at once."""

REREAD_SECONDS = 2.0
"""How often a run that waits looks whether its tags say another budget or priority, and a step that
is kept together with others whether there is a CU where they are."""


class Starter:
    """Starts a run's steps as there is room for them.

    Args:
        run: the run in progress.
    """

    def __init__(self, run: RunState) -> None:
        self._run = run
        self._bound: set[str] = set()
        self._asked_at: dict[str, float] = {}
        self._wanting: Allocation | None = None
        self._may_tags_help = False
        self._reread_at = time.monotonic()

    def start_ready(self) -> Iterator[DagsterEvent]:
        """Leases and starts what is ready and has room; tells once of a step that has to wait, and
        the ledger what the run waits for."""
        self._wanting = None
        if self._may_tags_help:
            self._reread_tags()
        yield from self._start_ready()
        self._run.negotiation.leases.purse.note_waiting(self._wanting)

    def _start_ready(self) -> Iterator[DagsterEvent]:
        for step_key in list(self._run.unleased):
            is_due = time.monotonic() >= self._run.not_before.get(step_key, 0.0)
            if is_due and not self._run.retendered.gives_way(step_key):
                yield from self._lease_and_start(step_key)
        places = self._run.free_places()
        if places <= 0 and not self._run.negotiation.leases.renting.has_standing():
            return
        going: set[str] = set()
        beside: set[str] = set()
        looked_at = 0
        for step_key in list(self._run.active.executable_keys()):
            if looked_at >= LOOKED_AT:
                break
            award = self._run.negotiation.award(step_key)
            if places <= 0 and self._run.is_limited(award):
                continue
            refusal = self._obstacle(step_key, going)
            if refusal is None:
                going.add(step_key)
                places -= self._run.is_limited(self._run.negotiation.award(step_key))
                continue
            award = self._run.negotiation.award(step_key)
            looked_at += isinstance(refusal, Refusal) or not is_share(award)
            if isinstance(refusal, Refusal):
                if self._wanting is None:
                    beside = set(going)
                yield from self._tell_waiting(step_key, refusal)
            if self._run.waiting.is_overdue(step_key) and not is_share(award):
                places = 0  # nothing passes it but what has a rented CU
        if not going and not self._run.active.has_waiting:
            return
        steps = self._run.active.take(going)
        if beside.difference(step.key for step in steps):
            self._wanting = None  # what it would have waited behind is held back by a pool's limit
        yield from self._run.active.concurrency_event_iterator(self._run.context)
        for step in steps:
            self._run.contexts[step.key] = self._run.unleased[step.key] = (
                self._run.context.for_step(step)
            )
            yield from self._lease_and_start(step.key)

    def _obstacle(self, step_key: str, going: set[str]) -> Refusal | str | None:
        """Returns why a step cannot start now: others go first, no room, or its worker loads."""
        if self._run.retendered.gives_way(step_key):
            return "gives way"
        leases, is_idle = self._run.negotiation.leases, not self._run.attempts
        if leases.renting.is_early(self._run.negotiation.award(step_key)) and not is_idle:
            return NOT_DUE
        self._leave_withdrawn(step_key)
        self._run.negotiation.resize(step_key)
        award = self._run.negotiation.award(step_key)
        if leases.has_ended(award):
            return None  # let go ahead, to be auctioned again
        # Of a run of which nothing runs, nor starts, one CU is opened before its time.
        is_due = is_idle and not self._run.workers.is_starting_rented()
        closed = leases.renting.open(award, is_due=is_due)
        if closed is not None and not leases.fails_for_budget(award):
            return closed
        if is_share(award) and not leases.renting.is_open(award):
            return None  # rented no more: let go ahead, to be auctioned again, or to fail
        # An exclusive worker is started for its lease: what it takes is not free before that.
        if not self._is_exclusive(award) and not self._run.worker_for(award).is_ready:
            return "loading"
        negotiation = self._run.negotiation
        refusal = negotiation.leases.shortage(award, [negotiation.award(key) for key in going])
        if refusal is not None and negotiation.leases.fails_for_budget(award):
            return None  # let go ahead, to fail
        return refusal

    def _leave_withdrawn(self, step_key: str) -> None:
        """Awards a step anew whose CU did not deliver; where nobody else can, it stays."""
        negotiation = self._run.negotiation
        if negotiation.is_withdrawn(step_key) and step_key not in self._bound:
            try:
                negotiation.award_elsewhere(step_key)
            except CUMarketError:
                self._bound.add(step_key)

    def _is_exclusive(self, award: Allocation) -> bool:
        return self._run.negotiation.market.providers[award.provider].capabilities.exclusive

    def _lease_and_start(self, step_key: str) -> Iterator[DagsterEvent]:
        award = self._run.negotiation.award(step_key)
        if self._run.negotiation.leases.fails_for_budget(award):
            yield self._fail_for_budget(award)
            return
        if self._run.negotiation.leases.has_ended(award):
            yield from self._auction_again(award)
            return
        closed = self._run.negotiation.leases.renting.open(award, is_due=True)
        if closed == NOT_DUE:
            return  # its CU did not deliver, and is tried again later
        if isinstance(closed, Refusal):
            yield from self._tell_waiting(step_key, closed, award)
            return
        if is_share(award) and not self._run.negotiation.leases.renting.is_open(award):
            yield from self._auction_again(award)
            return
        worker = self._run.worker_for(award)
        if not worker.is_ready and not self._is_exclusive(award):
            return
        if self._run.negotiation.kept.away_from(step_key):
            yield from self._bring_back(award)
            return  # leased as it stands then, in a later turn
        try:
            outcome = self._run.negotiation.lease(award, worker.worker.holder)
        except LeaseLostError:
            yield from self._run.retendered.take_over(at_once=True)
            if self._run.negotiation.award(step_key).key == award.key:
                raise  # nobody has moved it: it was taken back
            return  # leased as it stands now, in the next turn
        context = self._run.unleased[step_key]
        if isinstance(outcome, Refusal) and outcome.is_expired:
            yield from self._auction_again(award)
            return
        if isinstance(outcome, Refusal):
            yield from self._tell_waiting(step_key, outcome, award)
            return
        self._run.waiting.since.pop(step_key, None)
        del self._run.unleased[step_key]
        report = self._run.negotiation.report(step_key)
        metadata = award_metadata(outcome, report)
        metadata[ATTEMPT_METADATA] = MetadataValue.int(outcome.attempt)
        yield DagsterEvent.step_worker_starting(
            context, award_message(outcome, report), metadata=metadata
        )
        if worker.purchase is not None and not worker.is_told:
            worker.is_told = True
            message = ahead_message(worker.purchase, outcome)
            yield DagsterEvent.engine_event(context, message, EngineEventData())
        self._send_step(outcome, worker, context)

    def _bring_back(self, award: Allocation) -> Iterator[DagsterEvent]:
        """Awards a step anew where those that it is kept together with have begun: since its award,
        another run's auction may have moved it, or an attempt that is over have begun elsewhere."""
        negotiation, step_key = self._run.negotiation, award.step_key
        where = negotiation.kept.away_from(step_key)
        try:
            negotiation.award_elsewhere(step_key)
        except CUMarketError as error:
            self._run.not_before[step_key] = time.monotonic() + REREAD_SECONDS
            if self._run.waiting.note(step_key, "company"):
                said = (
                    f"Step {step_key} waits: it is kept together with what is in {where}: {error}"
                )
                context = self._run.unleased[step_key]
                yield DagsterEvent.engine_event(context, said, EngineEventData())

    def _auction_again(self, award: Allocation) -> Iterator[DagsterEvent]:
        """Auctions a step whose awarded offer has ended, and tells so; it is leased in a later
        turn. Where nobody serves it now it is asked again; where nobody ever will, it fails."""
        step_key, negotiation = award.step_key, self._run.negotiation
        context = self._run.unleased[step_key]
        self._run.not_before[step_key] = time.monotonic() + self._pause(step_key)
        try:
            negotiation.award_elsewhere(step_key)
        except InvalidInputError as error:
            del self._run.unleased[step_key]
            self._run.waiting.since.pop(step_key, None)
            said = offer_ended_message(award, f"Nobody else can serve it: {error}")
            yield self._run.fail_step(step_key, error_of_message("OfferEnded", said))
            return
        except CUMarketError as error:
            self._run.not_before[step_key] = time.monotonic() + ASK_AGAIN_SECONDS
            if self._run.waiting.note(step_key, "offer"):
                then = f"Nobody else serves it now ({error}); it is asked again"
                said = offer_ended_message(award, f"{then}, and the run can be cancelled.")
                yield DagsterEvent.engine_event(context, said, EngineEventData())
            return
        then = award_message(negotiation.award(step_key), negotiation.report(step_key))
        said = offer_ended_message(award, f"Auctioned again. {then}")
        yield DagsterEvent.engine_event(context, said, EngineEventData())

    def _pause(self, step_key: str) -> float:
        """Returns seconds for which a step with a new award waits: none, but for one whose last
        award was given just now, too."""
        now, last = time.monotonic(), self._asked_at.get(step_key)
        self._asked_at[step_key] = now
        return 0.0 if last is None or now - last > ASK_AGAIN_SECONDS else ASK_AGAIN_SECONDS

    def _reread_tags(self) -> None:
        """Takes budget and priority from the run's tags anew: they may be raised meanwhile."""
        if time.monotonic() - self._reread_at < REREAD_SECONDS:
            return
        self._reread_at, self._may_tags_help = time.monotonic(), False
        context = self._run.context
        run = context.instance.get_run_by_id(context.run_id)
        if run is not None:
            self._run.negotiation.leases.read_tags(run.tags)

    def _fail_for_budget(self, award: Allocation) -> DagsterEvent:
        """Ends a step that may not be bought: its failure, or its retry where it has one."""
        leases = self._run.negotiation.leases
        refusal = leases.purse.over_budget(leases.renting.bought(award))
        del self._run.unleased[award.step_key]
        self._run.waiting.since.pop(award.step_key, None)
        reason = "over budget" if refusal is None else refusal.reason
        return self._run.fail_step(award.step_key, error_of_message("BudgetExceeded", reason))

    def _send_step(self, lease: Allocation, worker: WarmWorker, context: StepContext) -> None:
        limits = self._run.negotiation.market.providers[lease.provider].limits(as_offered(lease))
        self._run.attempts[lease.fencing_token] = Attempt(
            step_key=lease.step_key, lease=lease, worker=worker
        )
        worker.streams.add(lease.fencing_token)
        worker.send(
            {
                "kind": "step",
                "stream": lease.fencing_token,
                "step_key": lease.step_key,
                "known_state": known_state_for(context.step, self._run.active.get_known_state()),
                "cpu_millis": limits.cpu_millis,
                "memory_bytes": limits.memory_bytes,
                "gpu_count": lease.size.gpu_count,
                "niceness": limits.niceness,
                "is_watched": self._run.negotiation.may_grow(lease),
                "is_new": self._run.negotiation.is_new(lease.step_key),
            }
        )

    def _tell_waiting(
        self, step_key: str, refusal: Refusal, award: Allocation | None = None
    ) -> Iterator[DagsterEvent]:
        leases = self._run.negotiation.leases
        wanted = award or self._run.negotiation.award(step_key)
        if not leases.renting.is_open(wanted):
            wanted = replace(leases.renting.bought(wanted), step_key=step_key)
        self._may_tags_help = True
        if self._wanting is None and not refusal.is_for_money:
            self._wanting = wanted
        purse = leases.purse
        taken = purse.take_back(wanted, refusal) if refusal.short_of else []
        cause = "money" if refusal.is_for_money else "room" if refusal.short_of else "turn"
        is_new = self._run.waiting.note(step_key, cause)
        if not taken and not is_new:
            return
        context = self._run.unleased.get(step_key) or self._run.context.for_step(
            self._run.active.get_step_by_key(step_key)
        )
        sentence = waiting_message(wanted, refusal)
        if taken:
            names = ", ".join(f"{lease.step_key} on {lease.resource_id}" for lease in taken)
            sentence = f"Takes back room on {wanted.capacity_id} that was sold as spot: {names}."
        yield DagsterEvent.engine_event(context, sentence, EngineEventData())
