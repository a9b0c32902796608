"""A step's memory as it is told to whoever watches it: in parcels, and only when it matters."""

from __future__ import annotations

FIRST_MS = 500
"""Nothing is told of a step so short: nobody could act on it."""

PARCEL_MS = 250

TOLD_RATIO = 0.5
"""Below this share of its limit a step is far from it."""

KEPT = 400
"""Samples that wait to be told, at most: when there are more, the older half is thinned."""


class Samples:
    """Samples of one step that have not been told yet."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int]] = []
        self._told_ms = 0
        self._is_near = False

    def add(self, elapsed_ms: int, memory_bytes: int) -> None:
        """Takes a sample."""
        self._waiting.append((elapsed_ms, memory_bytes))
        if len(self._waiting) > KEPT:
            half = KEPT // 2
            self._waiting[:half] = self._waiting[:half:2]

    def take(self, limit_bytes: int) -> list[tuple[int, int]]:
        """Returns what is to be told now, oldest first; nothing while it can wait.

        Args:
            limit_bytes: of the step.
        """
        if not self._waiting:
            return []
        elapsed_ms, memory_bytes = self._waiting[-1]
        self._is_near = self._is_near or memory_bytes >= TOLD_RATIO * limit_bytes
        is_due = elapsed_ms >= max(FIRST_MS, self._told_ms + PARCEL_MS)
        if not self._is_near or not is_due:
            return []
        self._told_ms = elapsed_ms
        told, self._waiting = self._waiting, []
        return told
