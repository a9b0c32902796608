"""Dagster's step state machine, with the market's gate before the concurrency slot is claimed.

ActiveExecution.get_steps_to_execute hands out any executable step and claims its pool's slot on the
way. A step that has no CU yet must not claim one, so the gate shows it only the steps that may go.

Private: ActiveExecution and its _executable and _update; seen in 1.13.27.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from dagster._core.execution.plan.active import ActiveExecution
from dagster._core.execution.plan.step import ExecutionStep


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
