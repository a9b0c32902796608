"""Small traces made up for tests: tasks whose memory grows with their input, and their CSV."""

from __future__ import annotations

import random
from collections.abc import Sequence

from cu_market.pse.traces.task import Task

GB = 1e9


def make_tasks(count: int = 120, processes: int = 3, seed: int = 5) -> list[Task]:
    """Tasks of several processes, started one after the other, several running at a time."""
    source = random.Random(seed)
    tasks = []
    for row in range(count):
        kind = row % processes
        size = 10 ** source.uniform(8, 10)
        peak = (0.2 + kind) * GB + (0.1 + 0.05 * kind) * size * source.uniform(0.95, 1.05)
        runtime = 1000.0 * round(20 + size / 1e8 * source.uniform(0.8, 1.2))
        start = 1e12 + 15_000.0 * row
        tasks.append(
            Task(
                row=row,
                process=f"FLOW:STEP_{'ABCDEFG'[kind]}",
                input_bytes=size,
                rss_bytes=peak * 0.97,
                peak_rss_bytes=peak,
                realtime_ms=runtime,
                preset_bytes=(4.0 + 4 * kind) * GB,
                cpus=2.0,
                start_ms=start,
                complete_ms=start + runtime,
            )
        )
    return tasks


COLUMNS = ("process", "rchar", "rss", "peak_rss", "realtime", "memory", "cpus", "start", "complete")


def to_csv(tasks: Sequence[Task], separator: str = ",") -> str:
    """The tasks as Nextflow writes them."""
    lines = [separator.join(COLUMNS)]
    for task in tasks:
        cells = (
            task.process,
            task.input_bytes,
            task.rss_bytes,
            task.peak_rss_bytes,
            task.realtime_ms,
            task.preset_bytes,
            task.cpus,
            task.start_ms,
            task.complete_ms,
        )
        lines.append(separator.join("-" if cell is None else str(cell) for cell in cells))
    return "\n".join(lines) + "\n"
