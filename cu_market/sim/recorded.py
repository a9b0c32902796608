"""What a simulation replays: a workflow file's tasks, or the measured steps of a past run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from cu_market.dnm.schedule import MachineType, Task, Workload
from cu_market.domain.outline import RunOutline, template_key
from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.domain.units import GIB, MILLIS
from cu_market.domain.usage import Ending, Usage
from cu_market.sim.attempts import attempts_of_file, attempts_of_run
from cu_market.sim.inputs import (
    read_kinds,
    read_moved,
    read_peaks,
    read_workflow,
    reserved_bytes,
)

MOST_TOLD = 5
"""Tasks that no machine holds are told up to so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """Tasks as they were recorded.

    Attributes:
        name: a file's stem, or a job's name and the beginning of the run's id.
        place: where it is from, as its author names it: for what is wrong with it.
        tasks: with measured durations.
        kinds: of the tasks; forecasts of one kind are held together.
        peaks: memory in bytes, of those of which it is known.
        moved: bytes that a task read of what a parent had written: by (parent, task).
        attempts: what was recorded of each, by step_key, the first to end first.
    """

    name: str
    place: str
    tasks: tuple[Task, ...]
    kinds: Mapping[str, str]
    peaks: Mapping[str, int] = field(default_factory=dict)
    moved: Mapping[tuple[str, str], int] = field(default_factory=dict)
    attempts: tuple[Usage, ...] = ()


def recorded_file(path: Path) -> Recorded:
    """Returns a WfFormat file's tasks.

    Raises:
        InvalidInputError: not such a file.
    """
    tasks, kinds, peaks = read_workflow(path), read_kinds(path), read_peaks(path)
    return Recorded(
        name=path.stem,
        place=str(path),
        tasks=tasks,
        kinds=kinds,
        peaks=peaks,
        moved=read_moved(path),
        attempts=attempts_of_file(path, tasks, kinds, peaks),
    )


def recorded_run(outline: RunOutline, usages: Iterable[Usage]) -> Recorded:
    """Returns the steps of a run that ended well, with what was measured of them.

    cpu = what the step was given; memory = as of a workflow's file, of the measured peak and the
    code loaded before it; duration = the attempt that ended well. A step without such an attempt
    is left out, and what waited for it waits for what it waited for.

    Args:
        outline: the run's steps and what they depend on.
        usages: attempts of the run; others' are left out.
    """
    measured: dict[str, Usage] = {}
    rows = list(usages)
    for usage in sorted(rows, key=lambda each: each.attempt):
        if usage.run_id == outline.run_id and usage.ending is Ending.OK:
            measured[usage.step_key] = usage
    parents = _parents(outline, measured)
    return Recorded(
        name=f"{outline.job_name}-{outline.run_id[:8]}",
        place=f"run {outline.run_id}",
        tasks=tuple(_task(measured[key], parents[key]) for key in sorted(measured)),
        kinds={key: usage.identity.node for key, usage in measured.items()},
        peaks={key: _peak(usage) for key, usage in measured.items()},
        attempts=attempts_of_run(outline.run_id, rows),
    )


def problems_of(recorded: Recorded, machines: Sequence[MachineType]) -> list[Problem]:
    """Returns what stands in the way of replaying it on these machines, all of it."""
    try:
        Workload(tasks=recorded.tasks, machines=(), deadline_ms=1)
    except InvalidInputError as error:
        return [
            Problem(
                where=f"{recorded.place}: {each.where}",
                value=each.value,
                what=each.what,
                remedy=each.remedy,
            )
            for each in error.problems
        ]
    if not recorded.tasks:
        what, remedy = "it has no tasks", "give one that has"
        return [Problem(where=recorded.place, value="", what=what, remedy=remedy)]
    homeless = [
        task
        for task in recorded.tasks
        if not any(_has(m, task.cpu_millis, task.memory_bytes) for m in machines)
    ]
    remedy = "give a catalogue with larger types (amd64, no accelerator, not t*, clock known)"
    found = [
        Problem(
            where=f"{recorded.place}: task {task.task_id!r}",
            value=_size(task.cpu_millis, task.memory_bytes),
            what="no eligible type of the catalogues holds it",
            remedy=remedy,
        )
        for task in homeless[:MOST_TOLD]
    ]
    if homeless:
        return found
    cpu = max(task.cpu_millis for task in recorded.tasks)
    memory = max(task.memory_bytes for task in recorded.tasks)
    if any(_has(m, cpu, memory) for m in machines):
        return []
    what = "no one type holds each of its tasks, and single machines are what plans are held beside"
    return [Problem(where=recorded.place, value=_size(cpu, memory), what=what, remedy=remedy)]


def _has(machine: MachineType, cpu_millis: int, memory_bytes: int) -> bool:
    return machine.cpu_millis >= cpu_millis and machine.memory_bytes >= memory_bytes


def _size(cpu_millis: int, memory_bytes: int) -> str:
    return f"{cpu_millis / MILLIS:g} cores, {memory_bytes / GIB:.1f} GiB"


def _peak(usage: Usage) -> int:
    return usage.measurement.peak_memory_bytes + usage.measurement.baseline_bytes


def _task(usage: Usage, parents: Iterable[str]) -> Task:
    return Task(
        task_id=usage.step_key,
        duration_ms=max(1, usage.measurement.wall_ms),
        cpu_millis=max(1, usage.cpu_millis),
        memory_bytes=reserved_bytes(_peak(usage)),
        parents=tuple(sorted(parents)),
    )


def _parents(outline: RunOutline, measured: Mapping[str, Usage]) -> dict[str, set[str]]:
    """Returns which measured steps each measured step waited for.

    The plan knows mapped steps by one that stands for all: ``work[a]`` waits for ``fetch[a]``
    where that was mapped, too, and what collects waits for each of them.
    """
    depends = {step.step_key: step.depends_on for step in outline.steps}
    mapped: dict[str, set[str]] = {}
    for key in measured:
        mapped.setdefault(template_key(key), set()).add(key)

    @cache
    def before(key: str) -> frozenset[str]:
        found: set[str] = set()
        template = template_key(key)
        index = key.removeprefix(template.removesuffix("[?]"))
        for upstream in depends.get(key, depends.get(template, ())):
            is_beside = template != key and upstream.endswith("[?]")  # mapped as the step itself
            name = upstream.removesuffix("[?]") + index if is_beside else upstream
            if name in measured:
                found.add(name)
            elif not is_beside and name in mapped:
                found |= mapped[name]
            else:  # it was not measured: what it waited for stands for it
                found |= before(name)
        return frozenset(found)

    return {key: set(before(key)) for key in measured}
