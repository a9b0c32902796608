"""One recorded task of a trace."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a trace says of one task; None where it says nothing.

    Attributes:
        row: 0-based line of the trace after its header (WfFormat: place in the execution's list).
        process: what it is an instance of.
        input_bytes: bytes it read; the only feature of the protocols.
        rss_bytes: resident memory as the published protocol uses it.
        peak_rss_bytes: the peak, which is what a kernel kills for.
        realtime_ms: how long it ran.
        preset_bytes: memory that its author asked for.
        cpus: cores that its author asked for.
        start_ms, complete_ms: milliseconds since the epoch.
    """

    row: int
    process: str
    input_bytes: float | None = None
    rss_bytes: float | None = None
    peak_rss_bytes: float | None = None
    realtime_ms: float | None = None
    preset_bytes: float | None = None
    cpus: float | None = None
    start_ms: float | None = None
    complete_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A trace's tasks in the order of its lines, and what could not be read.

    Attributes:
        name: of the file, without its ending.
        tasks: those that name their process.
        bad: how many values (or lines) could not be read, by what was wrong.
    """

    name: str
    tasks: tuple[Task, ...]
    bad: Counter[str] = field(default_factory=Counter)
