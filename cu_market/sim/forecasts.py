"""What the market is told of a workflow's tasks, and what it was worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cu_market.dnm.renegotiation import Spread
from cu_market.pse import Forecast


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecasts:
    """Forecasts by task.

    Attributes:
        expected_ms: medians.
        spreads: of what happens about them; exact where not given.
        reserved: memory in bytes, where forecasts of it may be wrong; else the workload's.
        foreseen: of memory, where history knows it: says what follows what was not enough.
    """

    expected_ms: Mapping[str, int]
    spreads: Mapping[str, Spread] = field(default_factory=dict)
    reserved: Mapping[str, int] = field(default_factory=dict)
    foreseen: Mapping[str, Forecast] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What history has taught of one workflow.

    Attributes:
        forecasts: of its tasks.
        recordings: how many the market has seen before.
        known: tasks of whose kind an attempt has ended well.
        borrowed: tasks of which other kinds' attempts tell.
        itself: where it has seen this very recording, as its author names it.
    """

    forecasts: Forecasts
    recordings: int
    known: frozenset[str]
    borrowed: frozenset[str] = frozenset()
    itself: tuple[str, ...] = ()

    @property
    def known_ms(self) -> dict[str, int]:
        """Medians of the tasks whose kind is known."""
        expected = self.forecasts.expected_ms
        return {task_id: expected[task_id] for task_id in expected if task_id in self.known}

    def worth(self, actual_ms: Mapping[str, int], peaks: Mapping[str, int]) -> dict[str, Any]:
        """Returns what the forecasts were worth, ready for JSON; see docs/cli.md for the keys.

        Args:
            actual_ms: recorded durations, by task.
            peaks: recorded memory in bytes, of the tasks of which it is known.
        """
        times = [told / actual_ms[task_id] for task_id, told in self.forecasts.expected_ms.items()]
        reserved = self.forecasts.reserved
        sizes = [reserved[each] / peaks[each] for each in reserved]
        return {
            "recordings": self.recordings,
            "known_tasks": len(self.known),
            "borrowed_tasks": len(self.borrowed),
            "unknown_tasks": len(actual_ms) - len(self.known) - len(self.borrowed),
            "duration_ratio_p5": _quantile(times, 0.05),
            "duration_ratio_p50": _quantile(times, 0.5),
            "duration_ratio_p95": _quantile(times, 0.95),
            "memory_ratio_p50": _quantile(sizes, 0.5),
            "outgrown_tasks": sum(reserved[each] < peaks[each] for each in reserved),
        }

    def notes(self) -> list[str]:
        """Returns what whoever reads the figures should know of them."""
        return [
            f"the market has seen this very recording: {place} is in its history"
            for place in self.itself
        ]


def _quantile(ratios: Sequence[float], share: float) -> float | None:
    """Returns the smallest with at least this share at or below it, or None of none."""
    ordered = sorted(ratios)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None
