"""The run worker's sign of life in the ledger, and the renewal of its leases."""

from __future__ import annotations

import time
from datetime import timedelta

from cu_market.deo.executor.leases import Leases
from cu_market.domain.problem import CUMarketError
from cu_market.market.auction import Market

RENEWALS_PER_LEASE = 3


class SupersededError(CUMarketError):
    """Another run worker has taken over this run."""


class Lifeline:
    """Keeps a run's lease and those of its steps from expiring while its run worker lives.

    Args:
        market: open.
        run_id: the run.
        holder: this process, as the providers name processes.
    """

    def __init__(self, market: Market, run_id: str, holder: str) -> None:
        self._market = market
        self._run_id = run_id
        self._holder = holder
        self._renewed_at: float | None = None

    def renew(self, leases: Leases | None = None) -> None:
        """Extends the leases when a third of their time has passed; else does nothing.

        Raises:
            SupersededError: the run has another run worker now; what runs is that one's.
        """
        seconds = self._market.settings.lease_seconds
        now = time.monotonic()
        if self._renewed_at is not None:
            if now - self._renewed_at < seconds / RENEWALS_PER_LEASE:
                return
            held = self._market.ledger.run_lease(self._run_id)
            if held is not None and held.holder != self._holder:
                raise SupersededError(f"run {self._run_id} was taken over by {held.holder}")
        self._renewed_at = now
        expires_at = self._market.now() + timedelta(seconds=seconds)
        self._market.ledger.hold_run(self._run_id, self._holder, expires_at=expires_at)
        if leases is not None:
            leases.renew()

    def is_superseded(self) -> bool:
        """Whether the run has another run worker now; False where the ledger does not say."""
        try:
            held = self._market.ledger.run_lease(self._run_id)
        except CUMarketError:
            return False
        return held is not None and held.holder != self._holder

    def end(self) -> None:
        """Says goodbye."""
        self._market.ledger.end_run(self._run_id, now=self._market.now())
