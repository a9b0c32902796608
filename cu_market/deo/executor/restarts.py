"""Steps that run are ended to run again elsewhere where that pays, all that they did included.

``cu_market.market.renegotiation.restart`` has the rule. A step is ended as one whose spot lease was
taken back is: its worker ends it, its lease is settled, and it is auctioned again without the CU
that it ran on; no retry of its own is used. Never one that its tags say is not interruptible.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from dagster import DagsterEvent

from cu_market.dagster_compat.events import EngineEventData
from cu_market.deo.executor.state import Attempt, RunState
from cu_market.deo.executor.timing import left_ms_of
from cu_market.domain.outline import RunOutline
from cu_market.domain.rental import is_share
from cu_market.market.auction import Cleared
from cu_market.market.demand.requests import read_specs
from cu_market.market.renegotiation.replan import left_of_deadline
from cu_market.market.renegotiation.restart import LEAST_LEFT_MS, restart_of

logger = logging.getLogger(__name__)

EVERY = 6
"""Of so many reviews, one looks at what runs: it changes less than what waits."""


class Restarts:
    """Looks for running steps that are better run again elsewhere.

    Args:
        run: the run in progress.
    """

    def __init__(self, run: RunState) -> None:
        self._run = run
        self._reviews = 0
        self._ended: set[str] = set()

    def candidates(self) -> tuple[str, ...]:
        """Returns the running steps to look at in this review: none in most."""
        self._reviews += 1
        if self._reviews % EVERY:
            return ()
        return tuple(sorted(a.step_key for a in self._run.attempts.values() if self._may_end(a)))

    def take_up(
        self, outline: RunOutline, proposal: Cleared, elapsed_ms: int
    ) -> Iterator[DagsterEvent]:
        """Ends what an auction of the candidates shows to be better run again, one at a time.

        Args:
            outline: of the candidates.
            proposal: what an auction of them would bring now.
            elapsed_ms: of the run.
        """
        negotiation = self._run.negotiation
        latest_ms = left_of_deadline(read_specs(outline)[0], elapsed_ms)
        requests = {request.request_id: request for request in proposal.demand.requests}
        for attempt in list(self._run.attempts.values()):
            request = requests.get(attempt.step_key)
            if request is None or request.external or not self._may_end(attempt):
                continue
            restart = restart_of(
                attempt.lease,
                request,
                proposal.plan.award_for(attempt.step_key),
                left_ms=left_ms_of(negotiation, attempt),
                after_ms=self._after_ms(attempt.step_key),
                latest_ms=latest_ms,
                spare_microusd=negotiation.leases.purse.spare_microusd(),
            )
            if restart is not None:
                self._ended.add(attempt.step_key)
                attempt.restart = restart
                attempt.worker.send({"kind": "lose", "stream": attempt.lease.fencing_token})
                logger.info("a running step is moved", extra={"action": "restart"})
                yield DagsterEvent.engine_event(
                    self._run.contexts[attempt.step_key],
                    f"Renegotiated: attempt {attempt.lease.attempt} is ended to run again "
                    f"elsewhere, since {restart.sentence()}.",
                    EngineEventData(),
                )
                return

    def _may_end(self, attempt: Attempt) -> bool:
        is_at_work = attempt.pid and not (
            attempt.is_decided or attempt.has_failed or attempt.is_revoked or attempt.restart
        )
        return (
            bool(is_at_work)
            and not is_share(attempt.lease)  # its CU is paid for
            and attempt.step_key not in self._ended
            and left_ms_of(self._run.negotiation, attempt) >= LEAST_LEFT_MS
        )

    def _after_ms(self, step_key: str) -> int:
        """Returns the longest path of what waits for a step, by its awards."""
        negotiation = self._run.negotiation
        behind = {step_key: 0}
        for step in negotiation.not_started():  # parents first
            before = [behind[p] for p in negotiation.parents(step) if p in behind]
            if before:
                behind[step] = max(before) + negotiation.award(step).expected_ms
        return max(behind.values())
