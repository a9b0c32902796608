"""Usage as Dagster's own event log tells it: how long steps took, on what inputs, and what they
asked for.

Private: the execution plan snapshot, by outline.py; step start and end events are public. Memory is
not known from the log: the size asked for (``cu/`` tags, dagster-k8s requests) stands for the peak,
which a learned forecast then starts from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from dagster import DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

from cu_market.dagster_compat.measured_outputs import MeasuredOutputs
from cu_market.dagster_compat.outline import outline_of_snapshot
from cu_market.domain.outline import StepOutline, template_key
from cu_market.domain.tags import parse_step_tags
from cu_market.domain.usage import Ending, Measurement, Usage

ENDS = {
    DagsterEventType.STEP_SUCCESS: Ending.OK,
    DagsterEventType.STEP_FAILURE: Ending.ERROR,
    DagsterEventType.STEP_UP_FOR_RETRY: Ending.ERROR,
}
STARTS = frozenset({DagsterEventType.STEP_START, DagsterEventType.STEP_RESTARTED})


def event_usages(instance: DagsterInstance, *, limit: int, bad: Counter[str]) -> Iterator[Usage]:
    """Yields one usage an attempt of finished runs' steps, the newest runs first.

    Args:
        instance: whose log is read.
        limit: how many runs.
        bad: takes what is left out, by why.
    """
    finished = RunsFilter(statuses=[DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE])
    for run in instance.get_runs(finished, limit=limit):
        if run.execution_plan_snapshot_id:
            yield from _usages_of_run(instance, run, run.execution_plan_snapshot_id, bad)
        else:
            bad["run without a plan"] += 1


def _usages_of_run(
    instance: DagsterInstance, run: DagsterRun, snapshot_id: str, bad: Counter[str]
) -> Iterator[Usage]:
    outline = outline_of_snapshot(run, instance.get_execution_plan_snapshot(snapshot_id))
    steps = {step.step_key: step for step in outline.steps}
    outputs = MeasuredOutputs()
    started: dict[str, float] = {}
    attempts: Counter[str] = Counter()
    for entry in instance.all_logs(run.run_id):
        event = entry.dagster_event
        if event is None or event.step_key is None:
            continue
        outputs.note(event)
        if event.event_type in STARTS:
            started[event.step_key] = entry.timestamp
        elif event.event_type in ENDS and event.step_key in started:
            began = started.pop(event.step_key)
            attempts[event.step_key] += 1
            step = steps.get(event.step_key) or steps.get(template_key(event.step_key))
            size = _asked(step)
            if step is None or size is None:
                bad["step that asks for no memory" if step else "step not in its plan"] += 1
                continue
            measured = outputs.measured(step, event.step_key)
            wall_ms = max(1, round(1000 * (entry.timestamp - began)))
            yield Usage(
                run_id=run.run_id,
                step_key=event.step_key,
                attempt=attempts[event.step_key],
                identity=step.identity,
                job_name=run.job_name,
                provider="import",
                resource_id="import/events",
                started_at=datetime.fromtimestamp(began, UTC),
                ended_at=datetime.fromtimestamp(entry.timestamp, UTC),
                cpu_millis=size[0],
                memory_bytes=size[1],
                measurement=Measurement(
                    wall_ms=wall_ms, cpu_ms=wall_ms * size[0] // 1000, peak_memory_bytes=size[1]
                ),
                ending=ENDS[event.event_type],
                input_bytes=measured.input_bytes,
                features=measured.features,
                # Not declared_bytes: the peak is the size asked for, which would teach that
                # everybody asks for exactly what is needed.
            )


def _asked(step: StepOutline | None) -> tuple[int, int] | None:
    """Returns milli-cores and bytes that a step asks for; None where it asks for no memory."""
    if step is None:
        return None
    spec, _ = parse_step_tags(step.tags, f"op '{step.op_name}'")
    return None if spec.memory_bytes is None else (spec.cpu_millis or 1000, spec.memory_bytes)
