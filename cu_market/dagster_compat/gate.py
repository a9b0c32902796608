"""Dagster's step state machine, with the market's gate before the concurrency slot is claimed.

ActiveExecution.get_steps_to_execute hands out any executable step and claims its pool's slot on the
way. A step that has no CU yet must not claim one, so the gate shows it only the steps that may go.

A resumed run's machine is brought to where the event log is. ActiveExecution.rebuild_from_events
does that by what it would have started itself, which is not what the market started: it takes as
many steps as may run at once, in its own order, fails for an event of another step or of a skipped
one, and claims slots anew that the run has.

Private: ActiveExecution, its _update and the places where it keeps steps and their ends, and the
claims of an InstanceConcurrencyContext; seen in 1.13.27.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any

from dagster import DagsterEvent, DagsterEventType
from dagster._core.execution.plan.active import ActiveExecution
from dagster._core.execution.plan.step import ExecutionStep

_OF_BEGUN_STEPS = frozenset(
    {
        DagsterEventType.STEP_WORKER_STARTING,
        DagsterEventType.STEP_WORKER_STARTED,
        DagsterEventType.STEP_START,
        DagsterEventType.STEP_RESTARTED,
        DagsterEventType.STEP_OUTPUT,
        DagsterEventType.STEP_SUCCESS,
        DagsterEventType.STEP_FAILURE,
        DagsterEventType.STEP_UP_FOR_RETRY,
    }
)


class GatedExecution(ActiveExecution):
    """ActiveExecution that offers its executable steps before handing them out."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._ranks: dict[str, Any] = {}

    def executable_keys(self) -> Sequence[str]:
        """Returns the steps whose dependencies have ended, by priority, then as they came."""
        self._update()
        if len(self._executable) > 1:
            self._executable.sort(key=self._rank)
        return self._executable

    def _rank(self, key: str) -> Any:
        """Returns a step's place, worked out once: every turn sorts all that wait."""
        if key not in self._ranks:
            self._ranks[key] = self._sort_key_fn(self.get_step_by_key(key))
        return self._ranks[key]

    def take(self, keys: Collection[str]) -> Sequence[ExecutionStep]:
        """Returns those of these steps that no pool or limit holds back; they are in flight now."""
        held = [key for key in self._executable if key not in keys]
        self._executable = [key for key in self._executable if key in keys]
        try:
            return self.get_steps_to_execute()
        finally:
            self._executable.extend(held)

    def seconds_until_ready(self) -> float:
        """Returns seconds until a retry or a pool's slot is looked at again, 0 if none waits."""
        interval: Any = self.sleep_interval()  # type: ignore[no-untyped-call]
        return max(0.0, float(interval))

    @property
    def has_waiting(self) -> bool:
        """Whether a step waits for its retry or for a pool's slot."""
        return self.seconds_until_ready() > 0

    def retried_within(self, seconds: float) -> Sequence[str]:
        """Returns the steps that wait for a retry which is due so soon."""
        until = time.time() + seconds
        return [key for key, due in self._waiting_to_retry.items() if due is None or due <= until]

    def is_over(self, step_key: str) -> bool:
        """Whether a step has ended without having run: it was skipped, failed before it was let go
        ahead, or waits for what failed."""
        return step_key in self._skipped | self._failed | self._abandoned

    def replay(self, events: Sequence[DagsterEvent]) -> Sequence[ExecutionStep]:
        """Brings the machine to where a run's events have left it.

        Returns:
            the steps that had begun and not ended: they are in flight.
        """
        for event in events:
            if event.step_key is None:
                continue
            if event.event_type is DagsterEventType.STEP_SKIPPED:
                self._replay_skip(event.step_key)
            elif event.event_type in _OF_BEGUN_STEPS:
                self._begin(event.step_key)
                self.handle_event(event)
        return [self.get_step_by_key(step_key) for step_key in sorted(self._in_flight)]

    def _begin(self, step_key: str) -> None:
        """Has a step in flight that some run worker has let go ahead."""
        if step_key in self._in_flight:
            return
        self._update()
        self._waiting_to_retry.pop(step_key, None)
        if step_key in self._executable:
            self._executable.remove(step_key)
        self._in_flight.add(step_key)
        step = self.get_step_by_key(step_key)
        self._prep_for_dynamic_outputs(step)
        if self._instance_concurrency_context is not None and step.pool:
            # The run has its slot, or had: it is freed when the step has ended, not claimed anew.
            self._instance_concurrency_context._claims.add(step_key)

    def _replay_skip(self, step_key: str) -> None:
        self._update()
        if step_key in self._pending_skip:
            self._pending_skip.remove(step_key)
            self._in_flight.add(step_key)
            self._skip_for_dynamic_outputs(self.get_step_by_key(step_key))
            self.mark_skipped(step_key)
