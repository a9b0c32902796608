"""What a simulation replays: files and past runs, and what stands in its way."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cu_market.dnm.schedule import MachineType
from cu_market.domain.outline import RunOutline, StepOutline
from cu_market.domain.request import StepIdentity
from cu_market.domain.units import GIB, MIB
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.sim.recorded import Recorded, problems_of, recorded_file, recorded_run

SMALL = MachineType(name="small", cpu_millis=2000, memory_bytes=4 * GIB, price_microusd_per_hour=1)
ROOMY = replace(SMALL, name="roomy", cpu_millis=1000, memory_bytes=64 * GIB)


def outline(depends: dict[str, tuple[str, ...]]) -> RunOutline:
    steps = tuple(
        StepOutline(
            step_key=key,
            op_name=key,
            identity=StepIdentity(node=key),
            depends_on=upstream,
        )
        for key, upstream in depends.items()
    )
    return RunOutline(run_id="0123456789", job_name="etl", steps=steps)


def measured(key: str, attempt: int = 1, ending: Ending = Ending.OK, **more: int) -> Usage:
    started = datetime(2026, 1, 1, tzinfo=UTC)
    return Usage(
        run_id="0123456789",
        step_key=key,
        attempt=attempt,
        identity=StepIdentity(node=key.split("[")[0]),
        provider="local",
        resource_id="cu",
        started_at=started,
        ended_at=started + timedelta(seconds=9),
        cpu_millis=500,
        memory_bytes=GIB,
        measurement=Measurement(
            wall_ms=more.get("wall_ms", 9000),
            cpu_ms=1,
            peak_memory_bytes=more.get("peak", 300 * MIB),
            baseline_bytes=100 * MIB,
        ),
        ending=ending,
    )


def test_a_run_is_what_was_measured_of_the_attempts_that_ended_well() -> None:
    found = recorded_run(
        outline({"a": (), "b": ("a",)}),
        [
            measured("a", 1, Ending.OUT_OF_MEMORY, wall_ms=1),
            measured("a", 2, wall_ms=7000, peak=500 * MIB),
            measured("b", 1),
            measured("b", 2, Ending.ERROR, wall_ms=3),
            replace(measured("b", 3, wall_ms=5), run_id="another"),
        ],
    )
    a, b = found.tasks
    assert (found.name, found.kinds) == ("etl-01234567", {"a": "a", "b": "b"})
    assert (a.task_id, a.duration_ms, a.cpu_millis) == ("a", 7000, 500)
    assert a.memory_bytes == 768 * MIB  # 1.25 x 600 MiB, rounded up to 128 MiB
    assert (b.task_id, b.duration_ms, b.parents) == ("b", 9000, ("a",))
    assert found.peaks == {"a": 600 * MIB, "b": 400 * MIB}


def test_mapped_steps_wait_for_their_own_and_what_collects_waits_for_all() -> None:
    depends = {
        "fan": (),
        "fetch[?]": ("fan",),
        "skipped[?]": ("fetch[?]",),
        "work[?]": ("skipped[?]",),
        "collect": ("work[?]",),
    }
    keys = ("fan", "fetch[x]", "fetch[y]", "work[x]", "work[y]", "collect")
    found = recorded_run(outline(depends), [measured(key) for key in keys])
    assert {task.task_id: task.parents for task in found.tasks} == {
        "fan": (),
        "fetch[x]": ("fan",),
        "fetch[y]": ("fan",),
        "work[x]": ("fetch[x]",),
        "work[y]": ("fetch[y]",),
        "collect": ("work[x]", "work[y]"),
    }


def test_what_was_not_measured_is_bridged() -> None:
    depends: dict[str, tuple[str, ...]] = {"a": (), "b": ("a",), "c": ("b",), "d": ("c", "a")}
    found = recorded_run(outline(depends), [measured("a"), measured("d")])
    assert {task.task_id: task.parents for task in found.tasks} == {"a": (), "d": ("a",)}


def workflow(path: Path, tasks: list[dict[str, object]], runs: list[dict[str, object]]) -> Recorded:
    files = [{"id": "f", "sizeInBytes": 10**9}, {"id": "g", "sizeInBytes": 5}]
    document = {"specification": {"tasks": tasks, "files": files}, "execution": {"tasks": runs}}
    path.write_text(json.dumps({"workflow": document}))
    return recorded_file(path)


def test_a_file_tells_peaks_and_what_is_moved(tmp_path: Path) -> None:
    found = workflow(
        tmp_path / "flow.json",
        [
            {"id": "a", "parents": [], "outputFiles": ["f"]},
            {"id": "b", "parents": ["a"], "inputFiles": ["f", "g"]},
        ],
        [
            {"id": "a", "runtimeInSeconds": 1, "memoryInBytes": 7},
            {"id": "b", "runtimeInSeconds": 1},
        ],
    )
    assert (found.name, found.peaks, found.moved) == ("flow", {"a": 7}, {("a", "b"): 10**9})


@pytest.mark.parametrize(
    ("tasks", "machines", "said"),
    [
        ([{"id": "a", "parents": ["ghost"]}], [SMALL], ["Task 'a'.parents", "ghost"]),
        ([{"id": "a", "parents": ["a"]}], [SMALL], ["a cycle"]),
        ([], [SMALL], ["no tasks"]),
        ([{"id": "a", "parents": []}], [], ["task 'a'", "4 cores, 0.2 GiB", "eligible"]),
        ([{"id": "a", "parents": []}], [SMALL], ["task 'a'", "no eligible type"]),
    ],
)
def test_what_stands_in_the_way_is_told_with_the_file(
    tmp_path: Path, tasks: list[dict[str, object]], machines: list[MachineType], said: list[str]
) -> None:
    runs = [{"id": "a", "runtimeInSeconds": 1, "coreCount": 4, "memoryInBytes": 1}]
    [problem] = problems_of(workflow(tmp_path / "f.json", tasks, runs), machines)
    for text in (str(tmp_path / "f.json"), *said):
        assert text in str(problem)


def test_single_machines_must_hold_each_task() -> None:
    found = recorded_run(
        outline({"a": (), "b": ()}),
        [replace(measured("a"), cpu_millis=2000), measured("b", peak=40 * GIB)],
    )
    [problem] = problems_of(found, [SMALL, ROOMY])
    assert "no one type holds each of its tasks" in str(problem)
    assert problems_of(found, [replace(SMALL, memory_bytes=64 * GIB)]) == []
