"""Nextflow's trace files: one line a task, comma or tab separated."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Mapping

from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.pse.traces.task import Task, Trace

MISSING = frozenset({"", "-", "null", "nan", "none"})
"""How traces write that a figure is not known."""

COLUMNS: Mapping[str, str] = {
    "input_bytes": "rchar",
    "rss_bytes": "rss",
    "peak_rss_bytes": "peak_rss",
    "realtime_ms": "realtime",
    "preset_bytes": "memory",
    "cpus": "cpus",
    "start_ms": "start",
    "complete_ms": "complete",
}
"""The columns that are read, by Task's attribute: raw figures (``trace.raw = true``)."""

REQUIRED = ("process", "rchar", "rss", "realtime", "memory")


def parse_nextflow(text: str, name: str) -> Trace:
    """Returns the tasks of a Nextflow trace.

    Args:
        text: the file's text; a tab in its header means that tabs separate.
        name: what to call the trace, and its place in messages.

    Raises:
        InvalidInputError: without a header that names the columns in REQUIRED, or without lines.
    """
    lines = text.splitlines()
    header = lines[0] if lines else ""
    reader = csv.DictReader(lines, delimiter="\t" if "\t" in header else ",")
    fields = {field.strip().lstrip("\ufeff"): field for field in reader.fieldnames or ()}
    absent = [column for column in REQUIRED if column not in fields]
    if absent:
        raise InvalidInputError(
            [
                Problem(
                    where=f"trace '{name}': header",
                    value=header[:80],
                    what=f"has no column {', '.join(absent)}",
                    remedy="give a Nextflow trace (trace.fields), or --format wfformat",
                )
            ]
        )
    bad: Counter[str] = Counter()
    tasks = tuple(_tasks(reader, fields, bad))
    if not tasks:
        raise InvalidInputError(
            [
                Problem(
                    where=f"trace '{name}'",
                    value=f"{len(lines)} lines",
                    what="no line names a process",
                    remedy="give a trace with tasks",
                )
            ]
        )
    return Trace(name=name, tasks=tasks, bad=bad)


def _tasks(
    rows: Iterable[dict[str, str | None]], fields: Mapping[str, str], bad: Counter[str]
) -> Iterable[Task]:
    for row, cells in enumerate(rows):
        process = (cells.get(fields["process"]) or "").strip()
        if process in MISSING:
            bad["process"] += 1
            continue
        figures = {
            attribute: read_number(cells.get(fields[column]), column, bad)
            for attribute, column in COLUMNS.items()
            if column in fields
        }
        yield Task(row=row, process=process, **figures)


def read_number(cell: object, column: str, bad: Counter[str]) -> float | None:
    """Returns a figure that is finite and not negative, or None; counts what cannot be read."""
    text = "" if cell is None else str(cell).strip()
    if text.lower() in MISSING:
        return None
    try:
        value = float(text)
    except ValueError:
        bad[column] += 1
        return None
    if not math.isfinite(value) or value < 0:
        bad[column] += 1
        return None
    return value
