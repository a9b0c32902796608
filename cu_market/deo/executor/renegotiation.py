"""While a run goes: what has not started is planned anew where prices, CUs or times have changed.

One review, every ``renegotiate_seconds`` and at once after a CU was lost:

1. look, in a thread of its own, at what would be bid now;
2. plan the steps that have not started as if they were auctioned now;
3. find what has changed: a step runs longer than forecast, waits longer than it would run, a price
   has moved, a CU is gone or was lost; or nothing of it, but what is offered now is better: a new
   CU, room that has come free, steps that ended sooner or later than was thought;
4. move them only where it is worth it (``cu_market.market.renegotiation.replan`` has the rules and
   the argument that it ends), commit the new awards in one transaction, and tell the run page why.

In one of six, what runs is looked at, too: see ``restarts``.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dagster import DagsterEvent

from cu_market.dagster_compat.events import EngineEventData
from cu_market.deo.announcements import MAX_ROWS, table
from cu_market.deo.executor.aside import Aside
from cu_market.deo.executor.restarts import Restarts
from cu_market.deo.executor.state import Attempt, RunState
from cu_market.deo.executor.timing import left_ms_of, ran_ms_of, spread_of
from cu_market.dnm.renegotiation.worth import SAVING_MICROUSD, UNASKED_MICROUSD
from cu_market.domain.outline import RunOutline
from cu_market.domain.rental import is_share
from cu_market.domain.request import StepIdentity
from cu_market.domain.units import format_usd, usd_to_microusd
from cu_market.ledger.errors import AwardTakenError
from cu_market.market.auction import Cleared
from cu_market.market.renegotiation.proposals import propose
from cu_market.market.renegotiation.replan import (
    Move,
    Situation,
    choose_moves,
    left_of_deadline,
)
from cu_market.market.settings import Pricing
from cu_market.market.together.punctual import confidence_permille

logger = logging.getLogger(__name__)

PRICE_RATIO = 0.1
"""A price that moved by less is the same price."""

SLOW_SECONDS = 1.0
"""A step that overruns its band by less is not slow: a process may take that long to start."""

WAITING_SECONDS = 5.0
"""A step that waits for less is not late."""

MAX_NAMED = 3
"""CUs that are named as better."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What is asked at a look: who serves what has not started, and what runs.

    Attributes:
        steps: that have not started.
        running: what may start again elsewhere; None for nothing.
    """

    steps: tuple[str, ...]
    running: RunOutline | None


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is proposed; None for what was not asked."""

    proposal: Cleared | None
    elsewhere: Cleared | None


_NOTHING = _Seen(proposal=None, elsewhere=None)


def _better(moves: Sequence[Move]) -> list[str]:
    """Returns that better CUs are offered, where steps would move of free will."""
    found = sorted({move.award.resource_id for move in moves if move.is_elsewhere})
    if not found:
        return []
    return [f"what is offered now is better: {', '.join(found[:MAX_NAMED])}"]


class Renegotiator:
    """Reviews a run's awards while it goes.

    Args:
        run: the run in progress.
    """

    def __init__(self, run: RunState) -> None:
        self._run = run
        self._seconds = run.negotiation.market.settings.renegotiate_seconds
        self._reviewed_at = time.monotonic()
        self._began_at = time.monotonic()
        self._looks: Aside[_Seen] = Aside("review")
        self._look = _Look(steps=(), running=None)
        self._told: set[str] = set()
        self._restarts = Restarts(run)
        self._lost_before = 0

    def review(self) -> Iterator[DagsterEvent]:
        """Takes up what a look has found, or begins one when it is time; never waits."""
        if self._seconds <= 0:
            return
        if self._looks.is_at_work:
            done = self._looks.take()
            if done is not None:
                yield from self._take_up(self._look, done.found or _NOTHING, done.failure)
            return
        lost = self._run.negotiation.lost_attempts
        if lost == self._lost_before and time.monotonic() - self._reviewed_at < self._seconds:
            return
        self._reviewed_at = time.monotonic()
        negotiation = self._run.negotiation
        # What waits on a CU that is rented whole is planned by what is left there (``replans``).
        steps = tuple(s for s in negotiation.not_started() if not is_share(negotiation.award(s)))
        running = self._restarts.candidates()
        if steps or running:
            self._begin(steps, running)
        else:
            self._lost_before = lost

    def _begin(self, steps: tuple[str, ...], running: tuple[str, ...]) -> None:
        negotiation = self._run.negotiation
        outline, situation = negotiation.remaining(steps), self._situation(steps)
        at_work = negotiation.remaining(running)
        self._look = _Look(steps=steps, running=at_work if at_work.steps else None)

        def work() -> _Seen:
            proposal = self._propose(outline, situation) if outline.steps else None
            return _Seen(proposal=proposal, elsewhere=self._elsewhere(at_work, situation))

        self._looks.begin(work)

    def _elsewhere(self, at_work: RunOutline, situation: Situation) -> Cleared | None:
        """Returns who would serve what runs; what is proposed for the rest stands without it."""
        try:
            return self._propose(at_work, situation) if at_work.steps else None
        except Exception:  # whatever it is, what runs goes on
            logger.exception("what runs was not looked at", extra={"action": "renegotiate"})
            return None

    def _propose(self, outline: RunOutline, situation: Situation) -> Cleared:
        negotiation = self._run.negotiation
        return propose(
            negotiation.market,
            outline,
            situation,
            floors=negotiation.floors(),
            excluded=negotiation.excluded(),
        )

    def _situation(self, steps: tuple[str, ...]) -> Situation:
        """Returns when what runs now lets each step start, by what it was expected to take."""
        left: dict[str, int] = {}
        running: dict[StepIdentity, list[float]] = defaultdict(list)
        for attempt in self._run.attempts.values():
            left[attempt.step_key] = left_ms_of(self._run.negotiation, attempt)
            identity = self._run.negotiation.identity(attempt.step_key)
            running[identity].append(ran_ms_of(attempt))
        parents = self._run.negotiation.parents
        return Situation(
            elapsed_ms=self._elapsed_ms(),
            earliest_ms={
                step: max((left[p] for p in parents(step) if p in left), default=0)
                for step in steps
            },
            running_ms=running,
        )

    def _elapsed_ms(self) -> int:
        return round(1000 * (time.monotonic() - self._began_at))

    # -- what was found

    def _take_up(self, look: _Look, seen: _Seen, failure: str) -> Iterator[DagsterEvent]:
        negotiation = self._run.negotiation
        if look.running is not None and seen.elsewhere is not None:
            yield from self._restarts.take_up(look.running, seen.elsewhere, self._elapsed_ms())
        if not look.steps:
            self._lost_before = negotiation.lost_attempts
            return
        causes = self._causes(look, seen.proposal)
        self._lost_before = negotiation.lost_attempts
        if seen.proposal is None:
            if causes and failure not in self._told:
                self._told.add(failure)
                yield self._event(f"{'; '.join(causes)}. Nothing moves: {failure}.")
            return
        started = set(look.steps) - set(negotiation.not_started())
        still = [step for step in look.steps if step not in started]
        proposal, settings = seen.proposal, negotiation.market.settings
        moves, verdict = choose_moves(
            proposal.plan,
            proposal.demand.requests,
            proposal.round.bids,
            {step: negotiation.award(step) for step in still},
            moves_made=negotiation.moves_made,
            latest_finish_ms=left_of_deadline(proposal.demand.run, self._elapsed_ms()),
            confidence_permille=confidence_permille(proposal.demand, settings),
            is_repriced=settings.pricing is Pricing.PAY_AS_BID,
            spare_microusd=negotiation.leases.purse.spare_microusd(),
            least_microusd=SAVING_MICROUSD if causes else UNASKED_MICROUSD,
            located=negotiation.kept.located(still),
        )
        causes = causes or _better(moves)
        if not causes or (not moves and "; ".join(causes) in self._told):
            return  # nothing has changed, or it was said before and there is nothing to do about it
        self._told.add("; ".join(causes))
        try:
            negotiation.move(proposal, moves)
        except AwardTakenError:
            logger.info("an award was moved meanwhile", extra={"action": "renegotiate"})
            return  # the next review looks at what stands then
        sentence = f"Renegotiated, since {'; '.join(causes)}: {verdict}."
        if moves:
            sentence += " " + "; ".join(move.sentence() for move in moves[:MAX_ROWS]) + "."
        rows = [
            {
                "step": move.award.request_id,
                "from": move.before.resource_id,
                "to": move.award.resource_id,
                "price/h": format_usd(move.award.price_microusd_per_hour),
                "why": move.sentence(),
            }
            for move in moves[:MAX_ROWS]
        ]
        yield self._event(sentence, EngineEventData(metadata={"cu/moves": table(rows)}))

    def _event(self, sentence: str, data: EngineEventData | None = None) -> DagsterEvent:
        return DagsterEvent.engine_event(self._run.context, sentence, data or EngineEventData())

    def _causes(self, look: _Look, proposal: Cleared | None) -> list[str]:
        causes = [*self._slow(), *self._late()]
        if self._run.negotiation.lost_attempts > self._lost_before:
            causes.append("a CU was lost")
        if proposal is not None:
            causes += self._market_changes(proposal, look.steps)
        return causes

    def _slow(self) -> list[str]:
        found = []
        for attempt in self._run.attempts.values():
            limit_ms = self._band_ms(attempt)
            ran_seconds = time.monotonic() - attempt.began_at
            if ran_seconds > limit_ms / 1000 + SLOW_SECONDS:
                found.append(
                    f"step {attempt.step_key} runs for more than the {limit_ms / 1000:.1f} s that "
                    "were forecast at most"
                )
        return sorted(found)

    def _band_ms(self, attempt: Attempt) -> float:
        """Returns the upper end of the forecast's band, start-up included."""
        return attempt.lease.expected_ms * spread_of(self._run.negotiation, attempt).p95_ratio()

    def _late(self) -> list[str]:
        now, found = time.monotonic(), []
        for step, since in self._run.waiting.since.items():
            expected = self._run.negotiation.award(step).expected_ms / 1000
            if now - since > max(WAITING_SECONDS, expected):
                found.append(f"step {step} waits for room for longer than it is expected to run")
        return sorted(found)

    def _bid_price(self, step: str) -> int:
        """Returns what was bid for a step's award: more may be paid, by the market's rule."""
        winner = self._run.negotiation.report(step).get("winner") or {}
        award = self._run.negotiation.award(step)
        if "bid_price_per_hour" not in winner or winner["resource_id"] != award.resource_id:
            return award.price_microusd_per_hour
        return usd_to_microusd(winner["bid_price_per_hour"])

    def _market_changes(self, proposal: Cleared, steps: tuple[str, ...]) -> list[str]:
        offered = {bid.profile.cu_id: bid for bid in proposal.round.bids}
        requests = {request.request_id: request for request in proposal.demand.requests}
        found: set[str] = set()
        for step in steps:
            award = self._run.negotiation.award(step)
            bid = offered.get(award.resource_id)
            if bid is None:
                found.add(f"{award.resource_id} is no longer offered")
                continue
            price, agreed = bid.price_for(requests[step].needs), self._bid_price(step)
            if abs(price - agreed) > PRICE_RATIO * agreed:
                found.add(
                    f"{award.resource_id} asks {format_usd(price)} an hour, no longer "
                    f"{format_usd(agreed)}"
                )
        return sorted(found)
