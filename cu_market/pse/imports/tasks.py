"""Traces' tasks as usage: their processes become steps of a code location."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from cu_market.domain.request import StepIdentity
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.pse.traces.task import Trace

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def usages_of_trace(trace: Trace, *, location: str, bad: Counter[str]) -> Iterator[Usage]:
    """Yields one usage a task that says its memory and its time.

    Keys are the trace's name and the task's row: importing the same trace again changes nothing.

    Args:
        trace: as read.
        location: the code location that the steps are to belong to.
        bad: takes how many tasks say too little, by what is missing.
    """
    run_id = import_id(trace.name)
    for task in trace.tasks:
        peak = task.peak_rss_bytes or task.rss_bytes
        if peak is None or task.realtime_ms is None:
            bad["no memory" if peak is None else "no realtime"] += 1
            continue
        ended = EPOCH + timedelta(milliseconds=task.complete_ms or task.row)
        wall_ms = max(1, round(task.realtime_ms))
        cpus = task.cpus or 1.0
        yield Usage(
            run_id=run_id,
            step_key=f"{task.process}[{task.row}]",
            attempt=1,
            identity=StepIdentity(code_location=location, node=task.process),
            job_name=trace.name,
            provider="import",
            resource_id=f"import/{trace.name}",
            started_at=ended - timedelta(milliseconds=wall_ms),
            ended_at=ended,
            cpu_millis=round(1000 * cpus),
            memory_bytes=round(task.preset_bytes or peak),
            measurement=Measurement(
                wall_ms=wall_ms,
                cpu_ms=round(wall_ms * cpus),
                peak_memory_bytes=round(peak),
                read_bytes=round(task.input_bytes or 0),
            ),
            ending=Ending.OK,
            input_bytes=None if task.input_bytes is None else round(task.input_bytes),
            declared_bytes=None if task.preset_bytes is None else round(task.preset_bytes),
        )


def import_id(name: str) -> str:
    """Returns the run id that stands for everything imported under a name."""
    return f"import-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
