"""While a step runs: its own curve says whether its limit will be hit, and its lease grows first.

Samples come from the worker once a step holds half of its memory. Where an alarm is believed
(``cu_market.pse.live``) and the CU has room, the lease grows in the ledger, and then the worker's
limit: so nothing is held that nobody sold. Where it has none, the step goes on, and is auctioned
again with more if it is ended for memory.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from dagster import DagsterEvent

from cu_market.dagster_compat.events import EngineEventData
from cu_market.deo.announcements import growth_message, no_growth_message
from cu_market.deo.executor.state import Attempt, RunState
from cu_market.deo.worker.frames import Frame
from cu_market.domain.allocation import Allocation
from cu_market.ledger.errors import LeaseLostError
from cu_market.pse.forecast import round_memory
from cu_market.pse.live.outlook import EARLIER, Outlook, Watch

PEAK_RATIO = 1.1
"""A lease grows to this much of the peak that is foreseen."""

STEP_RATIO = 1.5
"""Or to this much of what it holds, where it is not known how high its memory will go."""

LEAST_RATIO = 1.1
"""Growing by less would only put the end off."""

NEWEST = 20
"""Of an attempt's first parcel, so many samples are looked at one by one: a second's."""

AGAIN_SECONDS = 2.0
"""How soon a lease that found no room is tried again."""


class Watcher:
    """Watches a run's attempts.

    Args:
        run: the run in progress.
    """

    def __init__(self, run: RunState) -> None:
        self._run = run

    def take(self, attempt: Attempt, frame: Frame) -> Iterator[DagsterEvent]:
        """Takes an attempt's samples, and lets its lease grow where they ask for it."""
        watch, samples = attempt.watch, frame["samples"]
        if watch is None:
            watch = attempt.watch = self._watch(attempt)
            watch.remember(samples[:-NEWEST])
            samples = samples[-NEWEST:]
        alarm: Outlook | None = None
        for elapsed_ms, memory_bytes in samples:
            outlook = watch.sample(elapsed_ms, memory_bytes)
            alarm = outlook if outlook is not None and outlook.is_alarm else alarm
        if alarm is not None and time.monotonic() >= attempt.grows_after:
            yield from self._grow(attempt, watch, alarm)

    def _watch(self, attempt: Attempt) -> Watch:
        earlier = self._run.negotiation.earlier_curves(attempt.step_key, EARLIER)
        return Watch(limit_bytes=attempt.lease.size.memory_bytes, earlier=earlier)

    def _grow(self, attempt: Attempt, watch: Watch, alarm: Outlook) -> Iterator[DagsterEvent]:
        held = attempt.lease.size.memory_bytes
        peak = alarm.peak_bytes.p95
        wanted = round_memory(PEAK_RATIO * peak if peak > held else STEP_RATIO * held)
        try:
            outcome = self._run.negotiation.grow(
                attempt.lease, wanted, least_bytes=round_memory(LEAST_RATIO * held)
            )
        except LeaseLostError:
            return  # it was taken back, or has ended: that is told elsewhere
        context = self._run.contexts[attempt.step_key]
        if isinstance(outcome, Allocation):
            before, attempt.lease = attempt.lease, outcome
            watch.limit_bytes = outcome.size.memory_bytes
            attempt.worker.send(
                {
                    "kind": "grow",
                    "stream": outcome.fencing_token,
                    "memory_bytes": outcome.size.memory_bytes,
                }
            )
            sentence = growth_message(before, outcome, alarm.limit_in_ms or 0, alarm.reason)
            yield DagsterEvent.engine_event(context, sentence, EngineEventData())
            return
        attempt.grows_after = time.monotonic() + AGAIN_SECONDS
        if not attempt.is_told_of_limit:
            attempt.is_told_of_limit = True
            sentence = no_growth_message(
                attempt.lease, alarm.limit_in_ms or 0, alarm.reason, outcome
            )
            yield DagsterEvent.engine_event(context, sentence, EngineEventData())
