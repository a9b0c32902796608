"""What was recorded of tasks, as the market keeps it: one row of usage an attempt.

A file says less than a meter does: each task is one attempt, which ended well; its kind is the
step; its input bytes and its end are read as `cu-market pse evaluate` reads them; its CPU time is
avgCPU times its duration, or all of its cores where that was not recorded. A peak of 0 bytes says
that none was recorded. Nor was what it was given: its peak stands for it, as in what is imported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cu_market.dnm.schedule import Task
from cu_market.domain.request import StepIdentity
from cu_market.domain.units import MILLIS
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.pse.traces.nextflow import read_number
from cu_market.pse.traces.task import Task as Traced
from cu_market.pse.traces.wfformat import parse_wfformat
from cu_market.sim.inputs import read_workflow_file

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def attempts_of_file(
    path: Path, tasks: Sequence[Task], kinds: Mapping[str, str], peaks: Mapping[str, int]
) -> tuple[Usage, ...]:
    """Returns one attempt a task of a WfFormat file, the first to end first.

    Args:
        path: the file.
        tasks, kinds, peaks: as they were read of it.

    Raises:
        InvalidInputError: not such a file.
    """

    def attempts(workflow: dict[str, Any]) -> tuple[Usage, ...]:
        runs = workflow["execution"]["tasks"]
        traced = parse_wfformat(path.read_text(), path.stem).tasks
        told = {runs[each.row]["id"]: (runs[each.row], each) for each in traced}
        found = [
            _attempt(task, path.stem, kinds[task.task_id], peaks, *told[task.task_id])
            for task in tasks
        ]
        return tuple(sorted(found, key=lambda usage: usage.ended_at))

    return read_workflow_file(path, attempts)


def attempts_of_run(run_id: str, usages: Iterable[Usage]) -> tuple[Usage, ...]:
    """Returns a run's attempts, the first to end first; the code loaded before a step is part of
    its memory, as it is wherever the step runs next."""
    found = [_with_code(usage) for usage in usages if usage.run_id == run_id]
    return tuple(sorted(found, key=lambda usage: usage.ended_at))


def _attempt(
    task: Task,
    name: str,
    kind: str,
    peaks: Mapping[str, int],
    run: Mapping[str, Any],
    traced: Traced,
) -> Usage:
    ended = EPOCH + timedelta(milliseconds=traced.complete_ms or 0.0)
    said = read_number(run.get("avgCPU"), "avgCPU", Counter())
    busy_percent = said or 100 * task.cpu_millis / MILLIS
    return Usage(
        run_id=name,
        step_key=task.task_id,
        attempt=1,
        identity=StepIdentity(node=kind),
        job_name=name,
        provider="recorded",
        resource_id=name,
        started_at=ended - timedelta(milliseconds=task.duration_ms),
        ended_at=ended,
        cpu_millis=task.cpu_millis,
        memory_bytes=peaks.get(task.task_id, 0),
        measurement=Measurement(
            wall_ms=task.duration_ms,
            cpu_ms=round(task.duration_ms * busy_percent / 100),
            peak_memory_bytes=peaks.get(task.task_id, 0),
        ),
        ending=Ending.OK,
        input_bytes=None if traced.input_bytes is None else round(traced.input_bytes),
    )


def _with_code(usage: Usage) -> Usage:
    code = usage.measurement.baseline_bytes
    measured = replace(
        usage.measurement,
        peak_memory_bytes=usage.measurement.peak_memory_bytes + code,
        baseline_bytes=0,
    )
    return replace(usage, memory_bytes=usage.memory_bytes + code, measurement=measured)
