"""What a simulation reads: workflows (WfFormat 1.5), price lists, spot traces.

cpu = coreCount, else max(1, ceil(avgCPU / 100 - 0.1)); memory = 1.25 x peak rounded up to 128 MiB,
at least 256 MiB, 1.5 GiB where unrecorded. Machines: amd64, no accelerator, not burstable,
generation 5 or later, clock known; 93 % of their memory is usable, equal speed.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cu_market.dnm.schedule import MachineType, Task
from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.domain.units import MIB
from cu_market.ral.catalog.rows import CatalogRow
from cu_market.ral.catalog.store import read_file

_Taken = TypeVar("_Taken")

STARTUP_MS = 45_000
MINIMUM_MS = 60_000
USABLE_MEMORY_PERMILLE = 930
LEAST_GENERATION = 5
HEADROOM = 1.25
"""Reserved memory over the recorded peak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotTrace:
    """Whether spot CUs could be had over time.

    Attributes:
        gap_ms: between two points.
        available: one truth a point; between points the earlier one holds.
    """

    gap_ms: int
    available: tuple[bool, ...]

    def is_available(self, at_ms: float, offset: int) -> bool:
        """Returns whether there is spot at a moment of a replay that starts at point offset."""
        return self.available[self._point(at_ms, offset)]

    def next_fall_ms(self, at_ms: float, offset: int) -> float | None:
        """Returns when what is there now falls away, or None if it never does."""
        first = int(at_ms // self.gap_ms)
        for k in range(first + 1, first + 1 + len(self.available)):
            if not self.available[(offset + k) % len(self.available)]:
                return float(k * self.gap_ms)
        return None

    def _point(self, at_ms: float, offset: int) -> int:
        return (offset + int(at_ms // self.gap_ms)) % len(self.available)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sold:
    """A machine type as a catalogue sells it.

    Attributes:
        machine: on demand.
        location: the region, as its seller names it.
        spot_microusd_per_hour: as spot, or None where the catalogue has no such price.
    """

    machine: MachineType
    location: str
    spot_microusd_per_hour: int | None = None


def read_workflow(path: Path) -> tuple[Task, ...]:
    """Returns a workflow's tasks in the file's order.

    Raises:
        InvalidInputError: not a WfFormat file.
    """

    def tasks(workflow: dict[str, Any]) -> tuple[Task, ...]:
        executed = {task["id"]: task for task in workflow["execution"]["tasks"]}
        return tuple(
            Task(
                task_id=task["id"],
                duration_ms=max(1, round(1000 * executed[task["id"]]["runtimeInSeconds"])),
                cpu_millis=1000 * _cores(executed[task["id"]]),
                memory_bytes=reserved_bytes(executed[task["id"]].get("memoryInBytes")),
                parents=tuple(task["parents"]),
            )
            for task in workflow["specification"]["tasks"]
        )

    return read_workflow_file(path, tasks)


def read_kinds(path: Path) -> dict[str, str]:
    """Returns each task's kind: its program, else its name without the number at its end.

    Raises:
        InvalidInputError: not a WfFormat file.
    """
    return read_workflow_file(
        path, lambda w: {task["id"]: _kind(task) for task in w["execution"]["tasks"]}
    )


def read_peaks(path: Path) -> dict[str, int]:
    """Returns the peak memory, in bytes, of each task of which it was recorded.

    Raises:
        InvalidInputError: not a WfFormat file.
    """

    def peaks(workflow: dict[str, Any]) -> dict[str, int]:
        executed = workflow["execution"]["tasks"]
        return {t["id"]: int(t["memoryInBytes"]) for t in executed if t.get("memoryInBytes")}

    return read_workflow_file(path, peaks)


def read_moved(path: Path) -> dict[tuple[str, str], int]:
    """Returns the bytes that each task reads of what each of its parents has written.

    Raises:
        InvalidInputError: not a WfFormat file.
    """

    def moved(workflow: dict[str, Any]) -> dict[tuple[str, str], int]:
        specified = workflow["specification"]
        sizes = {file["id"]: int(file["sizeInBytes"]) for file in specified.get("files", ())}
        written = {t["id"]: set(t.get("outputFiles") or ()) for t in specified["tasks"]}
        found: dict[tuple[str, str], int] = {}
        for task in specified["tasks"]:
            read = set(task.get("inputFiles") or ())
            for parent in task["parents"]:
                shared = read & written.get(parent, set())
                if size := sum(sizes.get(file, 0) for file in shared):
                    found[parent, task["id"]] = size
        return found

    return read_workflow_file(path, moved)


def read_workflow_file(path: Path, take: Callable[[dict[str, Any]], _Taken]) -> _Taken:
    """Returns what is taken of a file's workflow.

    Raises:
        InvalidInputError: not a WfFormat file, as reading it or taking from it shows.
    """
    try:
        return take(json.loads(path.read_text())["workflow"])
    except (OSError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _unreadable("workflow", path, error, "give a WfFormat 1.5 JSON file") from error


def read_machines(paths: Sequence[Path]) -> tuple[MachineType, ...]:
    """Returns the eligible types of price catalogues, the cheapest region's price of each.

    Raises:
        InvalidInputError: every problem of every file.
    """
    return tuple(sold.machine for sold in read_sold(paths))


def read_sold(paths: Sequence[Path]) -> tuple[Sold, ...]:
    """Returns the eligible types of price catalogues, each where it is cheapest on demand.

    Raises:
        InvalidInputError: every problem of every file.
    """
    found: dict[str, Sold] = {}
    problems: list[Problem] = []
    for path in paths:
        try:
            rows = read_file(path, path.stem).rows
        except InvalidInputError as error:
            problems += error.problems
            continue
        for row in rows:
            sold = _sold(row)
            if sold is None:
                continue
            known = found.get(sold.machine.name)
            if known is None or _price(sold) < _price(known):
                found[sold.machine.name] = sold
    if problems:
        raise InvalidInputError(problems)
    return tuple(found.values())


def read_spot(path: Path) -> SpotTrace:
    """Returns a spot trace: a point counts as available where it has an instance.

    Raises:
        InvalidInputError: not such a file.
    """
    try:
        read = json.loads(path.read_text())
        points = tuple(value > 0 for value in read["data"])
        gap_ms = round(1000 * read["metadata"]["gap_seconds"])
        if not points or gap_ms <= 0:
            raise ValueError("no points")
    except (OSError, KeyError, TypeError, ValueError) as error:
        remedy = "give a JSON file with metadata.gap_seconds and data"
        raise _unreadable("spot trace", path, error, remedy) from error
    return SpotTrace(gap_ms=gap_ms, available=points)


def reserved_bytes(peak: float | None) -> int:
    """Returns the memory that every policy reserves for a task of this peak; see the module."""
    if not peak:
        return 1536 * MIB
    return max(256 * MIB, -(-int(HEADROOM * peak) // (128 * MIB)) * 128 * MIB)


def _price(sold: Sold) -> int:
    return sold.machine.price_microusd_per_hour


def _sold(row: CatalogRow) -> Sold | None:
    generation = re.match(r"[a-z-]+(\d+)", row.instance_type)
    if (
        row.arch != "amd64"
        or row.gpu_type is not None
        or row.instance_type.startswith("t")
        or generation is None
        or int(generation[1]) < LEAST_GENERATION
        or not row.clock_mhz
        or row.price_microusd_per_hour is None
    ):
        return None
    machine = MachineType(
        name=row.instance_type,
        cpu_millis=row.size.cpu_millis,
        memory_bytes=row.size.memory_bytes * USABLE_MEMORY_PERMILLE // 1000,
        price_microusd_per_hour=row.price_microusd_per_hour,
        startup_ms=STARTUP_MS,
        minimum_ms=MINIMUM_MS,
        billing_step_ms=1000,
    )
    return Sold(
        machine=machine, location=row.region, spot_microusd_per_hour=row.spot_microusd_per_hour
    )


def _kind(run: dict[str, Any]) -> str:
    program = (run.get("command") or {}).get("program") or ""
    if re.fullmatch(r"[\w.+-]+", program):
        return str(program)
    return re.sub(r"[_.-]?(ID)?\d+$", "", run["id"])


def _cores(run: dict[str, Any]) -> int:
    given = run.get("coreCount")
    return int(given) if given else max(1, math.ceil(run.get("avgCPU", 100) / 100 - 0.1))


def _unreadable(what: str, path: Path, error: Exception, remedy: str) -> InvalidInputError:
    problem = Problem(
        where=what,
        value=str(path),
        what=f"cannot be read: {type(error).__name__}: {error}",
        remedy=remedy,
    )
    return InvalidInputError([problem])
