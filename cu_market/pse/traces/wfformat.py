"""WfFormat documents (1.5): the executions of a workflow's tasks."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.pse.traces.nextflow import read_number
from cu_market.pse.traces.task import Task, Trace

_INSTANCE = re.compile(r"[_.-]*(ID)?\d+$")
"""What distinguishes the instances of one program in a task's name: ``blastall_ID000002``."""


def parse_wfformat(text: str, name: str) -> Trace:
    """Returns the tasks of a WfFormat document.

    A process is a task's name without its running number. Where tasks have no start (most
    documents), they are taken to start when their parents have ended, at the earliest. The input
    bytes are those of the files that the specification names as inputs, else the bytes read: the
    files' sizes are known before a task runs. The format states no requested memory and one figure
    of memory, which is taken for both rss and peak.

    Raises:
        InvalidInputError: not JSON, or without ``workflow.execution.tasks``.
    """
    try:
        workflow = json.loads(text)["workflow"]
        executed = workflow["execution"]["tasks"]
        specified = workflow.get("specification", {})
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(
            [
                Problem(
                    where=f"trace '{name}'",
                    value=text[:40],
                    what="no WfFormat document: workflow.execution.tasks is not there",
                    remedy="give a WfFormat 1.5 document, or --format nextflow",
                )
            ]
        ) from error
    bad: Counter[str] = Counter()
    known = {task["id"]: task for task in specified.get("tasks", ()) if "id" in task}
    sizes = {
        file["id"]: size
        for file in specified.get("files", ())
        if (size := read_number(file.get("sizeInBytes"), "sizeInBytes", bad)) is not None
    }
    starts = _starts(executed, known)
    tasks = []
    for row, run in enumerate(executed):
        label = str(known.get(run.get("id"), {}).get("name") or run.get("id") or "")
        if not label:
            bad["id"] += 1
            continue
        tasks.append(_task(row, run, label, known, sizes, starts, bad))
    return Trace(name=name, tasks=tuple(tasks), bad=bad)


def _task(
    row: int,
    run: Mapping[str, Any],
    label: str,
    known: Mapping[str, Any],
    sizes: Mapping[str, float],
    starts: Mapping[str, float],
    bad: Counter[str],
) -> Task:
    runtime = read_number(run.get("runtimeInSeconds"), "runtimeInSeconds", bad)
    memory = read_number(run.get("memoryInBytes"), "memoryInBytes", bad)
    files = known.get(str(run.get("id")), {}).get("inputFiles", ())
    inputs = [sizes[file] for file in files if file in sizes]
    start = starts[str(run.get("id"))]
    return Task(
        row=row,
        process=_INSTANCE.sub("", label) or label,
        input_bytes=sum(inputs) if inputs else read_number(run.get("readBytes"), "readBytes", bad),
        rss_bytes=memory,
        peak_rss_bytes=memory,
        realtime_ms=None if runtime is None else 1000 * runtime,
        cpus=read_number(run.get("coreCount"), "coreCount", bad),
        start_ms=start,
        complete_ms=start + 1000 * (runtime or 0.0),
    )


def _starts(executed: list[Mapping[str, Any]], known: Mapping[str, Any]) -> dict[str, float]:
    """Returns each task's start: as written, else when its last parent ended, else 0."""
    runs = {str(run.get("id")): run for run in executed}
    starts: dict[str, float] = {}
    waiting: dict[str, int] = {}
    children: defaultdict[str, list[str]] = defaultdict(list)
    for key in runs:
        parents = [p for p in known.get(key, {}).get("parents", ()) if p in runs and p != key]
        waiting[key] = len(parents)
        for parent in parents:
            children[parent].append(key)
    earliest = dict.fromkeys(runs, 0.0)
    ready = [key for key, count in waiting.items() if not count]
    while ready:
        key = ready.pop()
        starts[key] = max(_written_start(runs[key]), earliest[key])
        end = starts[key] + 1000 * _seconds(runs[key])
        for child in children[key]:
            earliest[child] = max(earliest[child], end)
            waiting[child] -= 1
            if not waiting[child]:
                ready.append(child)
    return {key: starts.get(key, 0.0) for key in runs}  # a cycle's tasks start at 0


def _written_start(run: Mapping[str, Any]) -> float:
    try:
        return 1000 * datetime.fromisoformat(str(run["executedAt"])).timestamp()
    except (KeyError, ValueError):
        return 0.0


def _seconds(run: Mapping[str, Any]) -> float:
    return read_number(run.get("runtimeInSeconds"), "", Counter()) or 0.0
