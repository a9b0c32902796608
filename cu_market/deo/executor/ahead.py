"""CUs that were bought ahead, as a run worker takes them; what it tells of its own start-ups."""

from __future__ import annotations

import logging
from collections import defaultdict
from datetime import datetime

from dagster import DagsterInstance, DagsterRun

from cu_market.dagster_compat.outline import location_name
from cu_market.dagster_compat.upcoming import due_at
from cu_market.domain.problem import CUMarketError
from cu_market.domain.purchase import OPEN, Purchase
from cu_market.market.ahead.standing import end_worker
from cu_market.market.ahead.startups import Startups, note_startups
from cu_market.market.auction import Market
from cu_market.ral.places import WorkerKey, fit_of, foresighted
from cu_market.ral.provider import Provider, Worker, WorkerLaunch

logger = logging.getLogger(__name__)


class Foresight:
    """One run's share of what was bought ahead.

    Args:
        market: open.
        run: Dagster's record of the run.
        instance: the run's.
        is_resumed: whether another run worker asked for the run's first worker.
    """

    def __init__(
        self,
        market: Market,
        run: DagsterRun,
        instance: DagsterInstance,
        *,
        is_resumed: bool = False,
    ) -> None:
        self._market = market
        self._run = run
        self._instance = instance
        self._is_resumed = is_resumed
        self._location = location_name(run)
        self._asked_at: datetime | None = None
        self._times: dict[WorkerKey, list[int]] = defaultdict(list)
        self._fits: dict[WorkerKey, str] = {}

    def take(
        self, provider: Provider, key: WorkerKey, launch: WorkerLaunch
    ) -> tuple[Worker, Purchase] | None:
        """Returns a worker that was started ahead and serves this launch, or None."""
        self._asked_at = self._asked_at or self._market.now()
        foresight = foresighted(provider) if self._market.settings.ahead.enabled else None
        if foresight is None:
            return None
        try:
            self._fits[key] = fit = fit_of(foresight, key, launch)
            for each in self._candidates(provider, fit, launch):
                taken = self._market.ledger.take_purchase(
                    each.purchase_id, run_id=launch.run_id, now=self._market.now()
                )
                if taken is None:
                    continue  # another run was quicker
                try:
                    return foresight.take_over(each.holder, launch), taken
                except OSError as error:
                    logger.warning("not taken over: %s", error, extra={"action": "ahead"})
                    self.give_back(taken, f"could not be taken over: {error}")
                    end_worker(self._market, taken)
        except CUMarketError:
            # Whoever starts the worker in its place tells what is wrong, if anything still is.
            logger.info("nothing taken over", extra={"action": "ahead"}, exc_info=True)
        return None

    def _candidates(self, provider: Provider, fit: str, launch: WorkerLaunch) -> list[Purchase]:
        """Returns open purchases that serve a launch, those for its own job first."""
        size = launch.allocation.size if launch.allocation is not None else None
        is_sized = provider.capabilities.exclusive and size is not None
        found = [
            each
            for each in self._market.ledger.purchases(states=OPEN)
            if each.holder
            and each.fit == fit
            and not (is_sized and size is not None and not size.fits_in(each.size))
        ]
        job = self._run.job_name
        return sorted(found, key=lambda p: (p.job != job, p.expected_at, p.purchase_id))

    def give_back(self, purchase: Purchase, why: str) -> bool:
        """Lets a purchase go that the run has taken, unless it has leased something on it; returns
        whether the ledger could be told."""
        try:
            self._market.ledger.let_go(
                purchase.purchase_id,
                outcome=why,
                now=self._market.now(),
                run_id=purchase.run_id,
            )
        except CUMarketError:
            logger.exception("not given back now: left to the reaper", extra={"action": "ahead"})
            return False
        return True

    def note_ready(self, key: WorkerKey, started_ms: int) -> None:
        """Notes how long a worker took that nothing was done ahead for."""
        if key in self._fits:
            self._times[key].append(started_ms)

    def keep(self) -> None:
        """Tells the ledger what this run has measured. The run does not fail for it."""
        if not self._fits:
            return
        measured = {
            str(key): Startups(times_ms=tuple(times), fit=self._fits[key])
            for key, times in self._times.items()
        }
        try:
            note_startups(
                self._market.ledger,
                self._location,
                measured,
                job=self._run.job_name,
                lag_ms=self._lag_ms(),
                now=self._market.now(),
            )
        except Exception:
            logger.exception("start-ups not kept", extra={"action": "note start-ups"})

    def _lag_ms(self) -> int | None:
        if self._asked_at is None or self._is_resumed:
            return None
        due = due_at(self._instance, self._run)
        if due is None:
            return None
        return max(0, round(1000 * (self._asked_at - due).total_seconds()))
