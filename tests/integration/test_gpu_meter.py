"""The GPU's figures through nvidia-ml-py, from a library with NVML's binary interface."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from nvml_library import NvmlLibrary, find_compiler

from cu_market.domain.usage import GpuScope

pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed: pip install 'cu-market[gpu]'")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(find_compiler() is None, reason="no C compiler: no library to ask"),
]

GIB = 2**30
MINE, OTHERS = 4242, 4343
METER = """
import json, os, sys
from pathlib import Path
from cu_market.deo.worker.gpu import GpuMeter

has_gpu, moments = json.loads(sys.argv[1])
meter = None
for n, (now, lines) in enumerate(moments):
    Path(os.environ["NVML_STATE"]).write_text("".join(f"{line}\\n" for line in lines))
    if meter is None:
        meter = GpuMeter(now, has_gpu=has_gpu)
    else:
        meter.sample({4242}, now)
use = meter.use()
print(json.dumps(use and [use.peak_bytes, use.busy_millis, str(use.scope)]))
"""
"""Sets what the devices do at each moment and samples; the first moment is the step's start."""


@pytest.fixture
def library(tmp_path: Path) -> NvmlLibrary:
    return NvmlLibrary(tmp_path)


def metered(
    environment: Mapping[str, str], *moments: tuple[float, Sequence[str]], has_gpu: bool = True
) -> Any:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", METER, json.dumps([has_gpu, moments])],
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.parametrize("has_gpu", [True, False])
def test_only_the_steps_own_processes_count(library: NvmlLibrary, has_gpu: bool) -> None:
    one = ["devices 2", f"process {MINE} {GIB} 80", f"process {OTHERS} {8 * GIB} 20", "used 9 100"]
    two = ["devices 2", f"process {MINE} {3 * GIB} 20", f"process {OTHERS} {8 * GIB} 70"]
    found = metered(library.environment, (0, one), (1, one), (4, two), has_gpu=has_gpu)
    assert found == [3 * GIB, 350, GpuScope.PROCESS]  # 80% for one second, 20% for three


def test_idle_stretches_count_as_such(library: NvmlLibrary) -> None:
    busy = ["devices 1", f"process {MINE} {GIB} 60"]
    idle = ["devices 1", f"process {MINE} {GIB} 0"]
    found = metered(library.environment, (0, busy), (1, busy), (2, idle), (3, ["devices 1"]))
    assert found == [GIB, 200, GpuScope.PROCESS]


def test_devices_are_asked_now_and_then_only(library: NvmlLibrary) -> None:
    said = ["devices 1", f"process {MINE} 1 1"]
    metered(library.environment, (0, said), *((1 + n / 100, said) for n in range(60)))
    assert library.asked.stat().st_size == 3  # at once, after 0.25 s and after 0.5 s


@pytest.mark.parametrize("unknown", ["unsupported accounts", f"process {OTHERS} {GIB} 90"])
def test_a_step_that_is_not_found_gets_the_devices_figures(
    library: NvmlLibrary, unknown: str
) -> None:
    said = ["devices 1", unknown, f"used {2 * GIB} 40"]
    assert metered(library.environment, (0, said), (1, said)) == [2 * GIB, 400, GpuScope.DEVICE]
    assert metered(library.environment, (0, said), (1, said), has_gpu=False) is None


def test_unknown_shares_alone_leave_the_memory_its_own(library: NvmlLibrary) -> None:
    said = ["devices 1", "unsupported shares", f"process {MINE} {GIB} 90", f"used {2 * GIB} 40"]
    assert metered(library.environment, (0, said), (1, said)) == [GIB, 400, GpuScope.MIXED]
    without = metered(library.environment, (0, said), (1, said), has_gpu=False)
    assert without == [GIB, None, GpuScope.PROCESS]


def test_what_a_device_told_before_it_failed_is_kept(library: NvmlLibrary) -> None:
    said = ["devices 1", f"process {MINE} {GIB} 50"]
    lost = ["devices 1", "lost 0"]
    found = metered(library.environment, (0, said), (1, said), (2, lost), (3, said))
    assert found == [GIB, 500, GpuScope.PROCESS]  # and it is not asked again


def test_a_failed_device_hides_no_other(library: NvmlLibrary) -> None:
    said = ["devices 2", "lost 1", f"process {MINE} {GIB} 50"]
    assert metered(library.environment, (0, said), (1, said)) == [GIB, 500, GpuScope.PROCESS]


def test_without_driver_or_library_there_are_no_figures(library: NvmlLibrary) -> None:
    assert metered(library.environment, (0, []), (1, [])) is None
    bare = {**library.environment, "LD_LIBRARY_PATH": os.environ.get("LD_LIBRARY_PATH", "")}
    if not Path("/dev/nvidiactl").exists():
        assert metered(bare, (0, []), (1, [])) is None


def test_without_the_package_there_are_no_figures(library: NvmlLibrary, tmp_path: Path) -> None:
    said = ["devices 1", f"process {MINE} {GIB} 50"]
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "pynvml.py").write_text("raise ImportError('not installed')")
    environment = {**library.environment, "PYTHONPATH": str(hidden)}
    assert metered(environment, (0, said), (1, said)) is None
