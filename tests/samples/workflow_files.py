"""Small WfFormat files for what is simulated, and for what was seen before."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """One task of a file: kind, seconds, bytes of its input file, peak bytes, cores, parents."""

    kind: str
    seconds: float
    input_bytes: int | None = None
    peak_bytes: int | None = None
    cores: int = 1
    parents: tuple[int, ...] = ()


def write_workflow(path: Path, steps: Sequence[Step]) -> Path:
    """Writes the steps, called ``kind_1`` and so on by their place, and returns the path."""
    names = [f"{step.kind}_{place}" for place, step in enumerate(steps, start=1)]
    tasks, runs, files = [], [], []
    for name, step in zip(names, steps, strict=True):
        task = {"id": name, "name": name, "parents": [names[place] for place in step.parents]}
        if step.input_bytes is not None:
            files.append({"id": f"{name}.in", "sizeInBytes": step.input_bytes})
            task["inputFiles"] = [f"{name}.in"]
        tasks.append(task)
        run = {"id": name, "runtimeInSeconds": step.seconds, "coreCount": step.cores}
        if step.peak_bytes is not None:
            run["memoryInBytes"] = step.peak_bytes
        runs.append(run)
    workflow = {"specification": {"tasks": tasks, "files": files}, "execution": {"tasks": runs}}
    path.write_text(json.dumps({"workflow": workflow}))
    return path
