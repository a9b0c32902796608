"""Tells a dead run worker from a live one, and clears away what dead runs have left.

A run whose run worker is dead may get another (Dagster's run resume), which adopts what runs on of
its steps. Until then, and for as long as their workers wait for one, its leases are held on.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus

from cu_market.dagster_compat.launcher import CheckRunHealthResult, WorkerStatus, resumes_runs
from cu_market.domain.allocation import AllocationKey, AllocationState
from cu_market.domain.lease import RunLease
from cu_market.ledger.errors import LeaseLostError
from cu_market.ledger.interface import Ledger
from cu_market.market.ahead.standing import give_back
from cu_market.market.auction import Market
from cu_market.ral.local.process import is_alive
from cu_market.ral.provider import Adopting, HolderStatus

logger = logging.getLogger(__name__)

CONTROL_PLANE_TOLERANCE = timedelta(minutes=3)
"""A longer silence of every daemon means that the control plane was down, not that runs died."""

GOODBYE_GRACE = timedelta(seconds=60)
"""From the executor's goodbye until Dagster has written the run's end."""

CHANNEL_GRACE = timedelta(hours=1)
"""A channel that is younger may be that of a check, which has no run worker."""


def health_of(ledger: Ledger, run_id: str, now: datetime) -> CheckRunHealthResult:
    """Returns the run worker's state by its lease.

    A run without a lease, which another executor runs, is taken to be running.
    """
    lease = ledger.run_lease(run_id)
    if lease is None:
        return CheckRunHealthResult(WorkerStatus.RUNNING)
    reason = _death(lease, now)
    if reason is None:
        return CheckRunHealthResult(WorkerStatus.RUNNING)
    return CheckRunHealthResult(WorkerStatus.FAILED, reason)


def reap(market: Market, instance: DagsterInstance) -> int:
    """Ends what dead or finished runs have left: processes, leases, awards. Returns how many runs.

    Every lease is billed to the end of its run worker, once; any daemon may run this at any time.
    """
    now = market.now()
    ledger = market.ledger
    ledger.tick(now=now, tolerance=CONTROL_PLANE_TOLERANCE)
    reaped = 0
    for lease in ledger.live_runs():
        run = instance.get_run_by_id(lease.run_id)
        if _death(lease, now) is None and run is not None and not run.is_finished:
            continue
        if run is not None and run.is_finished and is_alive(lease.holder) is HolderStatus.RUNNING:
            continue  # it is just saying goodbye
        if run is not None and _awaits_successor(market, instance, run, lease, now):
            until = now + timedelta(seconds=market.settings.lease_seconds)
            ledger.renew(run.run_id, expires_at=until)
            continue
        reap_run(market, lease)
        reaped += 1
    for orphan in ledger.expire(now=now):
        _settle(ledger, orphan.key, orphan.fencing_token, now)
    if market.carrier is not None:
        ledger.channels.forget_dead(before=now - CHANNEL_GRACE)
    return reaped


def reap_run(market: Market, lease: RunLease) -> None:
    """Ends what one run has left."""
    now = market.now()
    held = market.ledger.allocations(
        run_id=lease.run_id,
        states=[AllocationState.LEASED, AllocationState.ACCEPTED, AllocationState.EXPIRED],
    )
    holders = sorted({allocation.holder for allocation in held if allocation.holder})
    for provider in market.providers.values():
        if isinstance(provider, Adopting):
            provider.reap_run(lease.run_id)  # also what no lease names, whoever has started it
        elif provider.capabilities.reap:
            provider.reap([lease.holder, *holders])
    for allocation in market.ledger.revoke(lease.run_id, now=now):
        _settle(market.ledger, allocation.key, allocation.fencing_token, now)
    market.ledger.release_awards(lease.run_id, now=now)
    market.ledger.close_rentals(lease.run_id, now=now)
    give_back(market, lease.run_id, now)
    if market.carrier is not None:
        market.ledger.channels.forget_run(lease.run_id)
    market.ledger.end_run(lease.run_id, now=now)
    logger.warning("run reaped", extra={"action": "reap", "run_id": lease.run_id})


def _awaits_successor(
    market: Market, instance: DagsterInstance, run: DagsterRun, lease: RunLease, now: datetime
) -> bool:
    """Whether another run worker may still come that finds this run's steps running."""
    waits = max(
        (provider.capabilities.adoptable_seconds for provider in market.providers.values()),
        default=0.0,
    )
    last_sign = lease.expires_at - timedelta(seconds=market.settings.lease_seconds)
    return (
        now - last_sign < timedelta(seconds=waits)
        and run.status is DagsterRunStatus.STARTED
        and resumes_runs(instance)
    )


def _death(lease: RunLease, now: datetime) -> str | None:
    if lease.ended_at is not None:
        if now - lease.ended_at < GOODBYE_GRACE:
            return None
        return f"the run worker {lease.holder} said goodbye but the run has no end"
    if is_alive(lease.holder) is HolderStatus.ENDED:
        return f"the run worker's process {lease.holder} is gone"
    if lease.expires_at <= now:
        return f"the run worker {lease.holder} has not renewed its lease since {lease.expires_at}"
    return None


def _settle(ledger: Ledger, key: AllocationKey, token: int, now: datetime) -> None:
    try:
        ledger.settle(key, token, ended_at=now, usage=None)
    except LeaseLostError:
        logger.info("already settled", extra={"action": "reap", "allocation": key})
