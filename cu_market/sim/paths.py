"""Longest paths through a workflow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from cu_market.dnm.schedule import Task, Workload


def tails_ms(tasks: Sequence[Task], takes: Mapping[str, int]) -> dict[str, int]:
    """Returns the longest path from each task's start to the end of all, itself included."""
    children: dict[str, list[str]] = defaultdict(list)
    for task in tasks:
        for parent in task.parents:
            children[parent].append(task.task_id)
    order = Workload(tasks=tuple(tasks), machines=(), deadline_ms=0).order
    tails: dict[str, int] = {}
    for i in reversed(order):
        name = tasks[i].task_id
        tails[name] = takes[name] + max((tails[c] for c in children[name]), default=0)
    return tails
