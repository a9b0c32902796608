"""What a run worker does first that takes over from one that is gone (Dagster's run resume).

The predecessor's attempts are ended and billed to now, whatever of them still runs is removed, and
their steps are leased anew: their outcome is not in the event log, so nobody has seen it. Ledger
attempts count on, since a key is never leased twice; the user's retries are not touched.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping

from dagster import DagsterEvent

from cu_market.dagster_compat.engine import PlanOrchestrationContext
from cu_market.dagster_compat.events import EngineEventData
from cu_market.deo.executor.state import RunState
from cu_market.ledger.interface import LeaseLostError
from cu_market.market.auction import Market

logger = logging.getLogger(__name__)


def end_predecessor(market: Market, run_id: str) -> Mapping[str, int]:
    """Ends and bills what an earlier run worker of this run has left.

    Returns:
        By step key, the highest ledger attempt there is, awards included.
    """
    before = market.ledger.run_lease(run_id)
    revoked = market.ledger.revoke(run_id, now=market.now())
    holders = sorted({row.holder for row in revoked if row.holder})
    if before is not None:
        holders.append(before.holder)
    for provider in market.providers.values():
        if provider.capabilities.reap:
            try:
                provider.reap(holders)
            except OSError:
                logger.exception("not reaped now", extra={"action": "reap"})
    for row in revoked:
        try:
            market.ledger.settle(row.key, row.fencing_token, ended_at=market.now(), usage=None)
        except LeaseLostError:
            continue  # a daemon's reaper was quicker
    attempts: dict[str, int] = {}
    for row in market.ledger.allocations(run_id=run_id):
        attempts[row.step_key] = max(row.attempt, attempts.get(row.step_key, 0))
    return attempts


def replay(run: RunState) -> Iterator[DagsterEvent]:
    """Brings the state machine to where the event log is; steps in flight are to be leased anew."""
    context: PlanOrchestrationContext = run.context
    entries = context.instance.all_logs(context.run_id)
    events = [entry.dagster_event for entry in entries if entry.dagster_event is not None]
    in_flight = run.active.rebuild_from_events(
        [event for event in events if event.step_key is not None]
    )
    for event in events:
        run.negotiation.outputs.note(event)
        if event.is_step_failure:
            yield event  # the run's end counts failures among what its executor yields
    for step in in_flight:
        run.contexts[step.key] = run.unleased[step.key] = context.for_step(step)
    keys = ", ".join(step.key for step in in_flight) or "none"
    yield DagsterEvent.engine_event(
        context,
        f"Market executor: resumes the run. In flight when its run worker was lost: {keys}; they "
        "are leased anew, no retry of their own is used.",
        EngineEventData(),
    )
