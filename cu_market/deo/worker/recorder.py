"""Keeps a step's use over time in a bounded number of points: when full, two become one."""

from __future__ import annotations

from cu_market.domain.curve import UsageCurve

POINTS = 120
"""Points at most: about 3 kB an attempt as JSON, however long it takes."""

FINE_POINTS = 480
"""The same for a step that has no history yet."""

FIRST_INTERVAL_MS = 50


class CurveRecorder:
    """Takes samples as they come; see domain.curve.UsageCurve for what it makes of them.

    Args:
        points: at most so many are kept; even.
    """

    def __init__(self, points: int = POINTS) -> None:
        self._points = points
        self._interval_ms = FIRST_INTERVAL_MS
        self._memory: list[int] = []
        self._cpu: list[int] = []
        self._io: list[int] = []

    def add(self, elapsed_ms: int, memory_bytes: int, cpu_ms: int, io_bytes: int) -> None:
        """Takes a sample. An interval without any repeats the one before it."""
        while elapsed_ms // self._interval_ms >= self._points:
            self._halve()
        place = max(0, elapsed_ms) // self._interval_ms
        while len(self._memory) <= place:
            is_last = len(self._memory) == place
            self._memory.append(0 if is_last or not self._memory else self._memory[-1])
            self._cpu.append(self._cpu[-1] if self._cpu else 0)
            self._io.append(self._io[-1] if self._io else 0)
        self._memory[-1] = max(self._memory[-1], memory_bytes)
        self._cpu[-1] = max(self._cpu[-1], cpu_ms)
        self._io[-1] = max(self._io[-1], io_bytes)

    def curve(self) -> UsageCurve:
        """Returns what was recorded so far."""
        return UsageCurve(
            interval_ms=self._interval_ms,
            memory_bytes=tuple(self._memory),
            cpu_ms=tuple(self._cpu),
            io_bytes=tuple(self._io),
        )

    def _halve(self) -> None:
        self._interval_ms *= 2
        self._memory = [max(self._memory[i : i + 2]) for i in range(0, len(self._memory), 2)]
        self._cpu = [self._cpu[i : i + 2][-1] for i in range(0, len(self._cpu), 2)]
        self._io = [self._io[i : i + 2][-1] for i in range(0, len(self._io), 2)]
