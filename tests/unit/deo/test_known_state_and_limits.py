"""A step is told its own state only; its pools have its cores; the meter reads what is private."""

from __future__ import annotations

import os
import subprocess
import sys

import dagster as dg
import psutil
import pytest
from dagster._core.execution.api import create_execution_plan
from dagster._core.execution.plan.state import KnownExecutionState
from dagster._serdes import deserialize_value

from cu_market.dagster_compat.known_state import known_state_for
from cu_market.deo.worker.limits import THREAD_VARIABLES, set_thread_pools
from cu_market.deo.worker.meter import Meter
from cu_market.deo.worker.resident import process_private_bytes, read_resident

MIB = 2**20

HOLDS = "import sys; held = b'x' * (80 * 2**20); print('held', flush=True); sys.stdin.read()"


@dg.op
def alone() -> int:
    return 1


@dg.job
def lonely() -> None:
    alone()


def test_other_steps_retries_are_left_out() -> None:
    step = create_execution_plan(lonely).get_step_by_key("alone")
    state = KnownExecutionState(previous_retry_attempts={"alone": 1, "another": 2})
    own = deserialize_value(known_state_for(step, state), KnownExecutionState)
    assert own.previous_retry_attempts == {"alone": 1}
    assert not own.ready_outputs


def test_pools_have_the_steps_cores_unless_the_user_has_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in THREAD_VARIABLES:
        monkeypatch.setenv(name, "1")
    set_thread_pools(2500, {"OMP_NUM_THREADS": "7"})
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert {os.environ[name] for name in THREAD_VARIABLES[1:]} == {"3"}


def test_a_thread_forbids_to_fork() -> None:
    code = (
        "import threading; from cu_market.deo.worker.fork_safety import reason_not_to_fork\n"
        "assert reason_not_to_fork() is None, reason_not_to_fork()\n"
        "go = threading.Event()\n"
        "thread = threading.Thread(target=go.wait, name='busy'); thread.start()\n"
        "print(reason_not_to_fork()); go.set()"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "1 Python thread(s): busy" in told.stdout


def test_the_meter_sees_memory_and_keeps_what_has_ended() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        meter = Meter(process.pid, baseline_bytes=5)
        assert 80 * MIB <= meter.sample() < 200 * MIB
        assert [p.pid for p in meter.processes()] == [process.pid]
        process.communicate()
    assert not psutil.pid_exists(process.pid)
    assert meter.sample() == meter.memory_bytes == 0
    measurement = meter.measurement(cpu_ms=10**6)
    assert measurement.peak_memory_bytes == meter.peak_bytes >= 80 * MIB
    assert (measurement.cpu_ms, measurement.baseline_bytes) == (10**6, 5)


SPIKES = (
    "import sys\n"
    "def spike(size): held = b'x' * (size * 2**20)\n"
    "for line in sys.stdin: spike(int(line)); print('freed', flush=True)\n"
)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the largest resident set")
def test_the_meter_sees_a_peak_between_two_samples_and_one_after_the_last() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SPIKES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def spike(size: int) -> None:
            process.stdin.write(f"{size}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "freed\n"

        spike(1)
        meter = Meter(process.pid)
        before = meter.sample()
        spike(100)
        assert meter.sample() < before + 50 * MIB
        assert before + 95 * MIB <= meter.peak_bytes < before + 130 * MIB
        meter.sample()
        assert meter.peak_bytes < before + 130 * MIB  # a peak is counted once
        spike(200)
        private_bytes = process_private_bytes(psutil.Process(process.pid))
        meter.note_last(private_bytes, read_resident(process.pid))
        process.stdin.close()
    with pytest.raises(psutil.NoSuchProcess):
        read_resident(process.pid)
    assert before + 195 * MIB <= meter.peak_bytes < before + 230 * MIB
