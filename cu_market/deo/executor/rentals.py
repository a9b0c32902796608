"""What becomes of rented CUs as a run goes: opened shortly before their steps, closed after."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

from dagster import DagsterEvent

from cu_market.dagster_compat.events import EngineEventData
from cu_market.deo.announcements import rental_message
from cu_market.deo.executor.state import RunState
from cu_market.deo.executor.timing import left_ms_of
from cu_market.domain.problem import CUMarketError
from cu_market.domain.rental import is_share

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""How often rentals are looked at."""

RETRY_SECONDS = 60.0
"""A CU is kept for a step that is tried again so soon: another one would have to start."""

IDLE_SECONDS = 10.0
"""How long a run of which nothing runs may wait for room and hold CUs on which nothing does."""


class Rentals:
    """Opens and closes the CUs that a run rents whole.

    Args:
        run: the run in progress.
    """

    def __init__(self, run: RunState) -> None:
        self._run = run
        self._opened_at = self._closed_at = float("-inf")
        self._idle_since = time.monotonic()
        self._over: set[str] = set()

    def open_ahead(self) -> None:
        """Opens, with its worker, each CU on which a step will be ready once it has started."""
        run, renting = self._run, self._run.negotiation.leases.renting
        now = time.monotonic()
        if now - self._opened_at < LOOK_SECONDS or not renting.planned():
            return
        self._opened_at = now
        planned = {rental.rental_id: rental.profile.startup_ms for rental in renting.planned()}
        left = {a.step_key: left_ms_of(run.negotiation, a) for a in run.attempts.values()}
        for step_key in run.negotiation.not_started():
            award = run.negotiation.award(step_key)
            startup_ms = planned.get(award.capacity_id)
            if startup_ms is None or not self._is_soon(step_key, left, startup_ms):
                continue
            if renting.open(award) is None and renting.is_open(award):
                del planned[award.capacity_id]
                self._start_worker(step_key)

    def _is_soon(self, step_key: str, left: dict[str, int], startup_ms: int) -> bool:
        """Whether all that a step waits for runs, and is expected to end within a start-up."""
        parents, begun = self._run.negotiation.parents(step_key), self._run.negotiation.begun
        running = [left[parent] for parent in parents if parent in left]
        is_free = all(parent in left or parent in begun for parent in parents)
        return bool(running) and is_free and max(running) <= startup_ms

    def _start_worker(self, step_key: str) -> None:
        try:
            self._run.worker_for(self._run.negotiation.award(step_key))
        except (OSError, CUMarketError):  # whoever needs it tells
            logger.exception("not started ahead", extra={"action": "rent", "step": step_key})

    def _release_over(self) -> None:
        """Releases the awards of steps that will never run: nothing is kept open for them."""
        run, negotiation = self._run, self._run.negotiation
        if not negotiation.leases.renting.has_standing():
            return
        for step_key in negotiation.awarded:
            is_new = step_key not in self._over and run.active.is_over(step_key)
            if is_new and is_share(award := negotiation.award(step_key)):
                self._over.add(step_key)
                negotiation.market.ledger.release(award.key, now=negotiation.market.now())

    def _give_back_idle(self) -> None:
        """Gives back CUs on which nothing runs where nothing of the run does, and a step of it
        waits for room: two runs that each have what the other one waits for would wait for ever.
        What was to run there is auctioned again."""
        run, negotiation, now = self._run, self._run.negotiation, time.monotonic()
        opened = negotiation.leases.renting.open_ids()
        about = (negotiation.award(step_key).capacity_id in opened for step_key in run.unleased)
        if run.attempts or not opened or run.workers.is_starting_rented() or any(about):
            self._idle_since = now
            return
        if now - self._idle_since < IDLE_SECONDS or not run.waiting.for_room(IDLE_SECONDS):
            return
        for step_key in negotiation.awarded:
            award = negotiation.award(step_key)
            if award.capacity_id in opened:
                negotiation.market.ledger.release(award.key, now=negotiation.market.now())

    def close(self, *, is_end: bool = False) -> Iterator[DagsterEvent]:
        """Closes what no step is on, nor is to be, ends its workers, and tells its bill."""
        now, negotiation = time.monotonic(), self._run.negotiation
        if now - self._closed_at < LOOK_SECONDS and not is_end:
            return
        self._closed_at = now
        self._release_over()
        self._give_back_idle()
        # A step that was let go ahead and has lost its attempt has no award in the ledger.
        again = {*self._run.unleased, *self._run.active.retried_within(RETRY_SECONDS)}
        kept = {negotiation.award(key).capacity_id for key in again}
        for rental in negotiation.leases.renting.close(kept):
            self._run.workers.end_rented(rental.resource_id)
            if rental.opened_at is not None:
                yield DagsterEvent.engine_event(
                    self._run.context, rental_message(rental), EngineEventData()
                )
