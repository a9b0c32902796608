"""Local workers outlive their starter's death only until somebody reaps them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace

import psutil
import pytest

from cu_market.ral.local.process import (
    holder_of,
    is_alive,
    kill_run,
    kill_tree,
    parse_holder,
    run_processes,
)
from cu_market.ral.local.provider import LocalProvider
from cu_market.ral.local.worker_process import LocalWorker, start_worker
from cu_market.ral.provider import HolderStatus, WorkerLaunch

pytestmark = pytest.mark.integration

PAUSE = "import signal; signal.pause()"

# Starts a child in a session of its own, tells its pid, and pays no heed to its channel.
STUBBORN = f"""
import os, signal, socket, subprocess, sys
channel = socket.socket(fileno=int(os.environ["CU_MARKET_CHANNEL_FD"]))
child = subprocess.Popen([sys.executable, "-c", {PAUSE!r}], start_new_session=True)
channel.sendall(b"%d" % child.pid)
signal.pause()
"""

# A run worker in small: starts a worker in a thread that ends, tells who it is, and waits.
STARTER = f"""
import signal, sys, threading
from cu_market.ral.local.provider import LocalProvider
from cu_market.ral.provider import WorkerLaunch
def start():
    global worker
    worker = LocalProvider.from_config("local", {{}}).start(
        WorkerLaunch(run_id=sys.argv[1], worker_key="local", arguments=("-c", {STUBBORN!r}))
    )
thread = threading.Thread(target=start)
thread.start()
thread.join()
print(worker.holder, worker.receive().decode(), flush=True)
signal.pause()
"""


@pytest.fixture
def run_id(request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"{request.node.name}-{os.getpid()}"
    yield name
    kill_run(name)


@pytest.fixture
def orphaned(run_id: str) -> tuple[str, str]:
    """Holders of a worker and its child, whose starter was killed."""
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, run_id], stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout is not None
        worker, child = starter.stdout.readline().split()
        starter.send_signal(signal.SIGKILL)
        starter.wait()
    return worker, holder_of(int(child))


def launch_paused(run_id: str) -> LocalWorker:
    return start_worker(WorkerLaunch(run_id=run_id, worker_key="local", arguments=("-c", PAUSE)))


def test_reap_after_the_starter_was_killed(orphaned: tuple[str, str]) -> None:
    worker, child = orphaned
    assert is_alive(worker) is is_alive(child) is HolderStatus.RUNNING
    provider = LocalProvider.from_config("local", {})
    assert provider.reap([worker]) == [worker]
    assert is_alive(worker) is is_alive(child) is HolderStatus.ENDED
    assert provider.reap([worker]) == []


def test_reap_after_starter_and_worker_were_killed(orphaned: tuple[str, str]) -> None:
    worker, child = orphaned
    identity = parse_holder(worker)
    assert identity is not None
    os.kill(identity.pid, signal.SIGKILL)
    assert is_alive(child) is HolderStatus.RUNNING
    assert LocalProvider.from_config("local", {}).reap([worker]) == [worker]
    assert is_alive(child) is HolderStatus.ENDED


def test_a_runs_processes_are_found_and_ended_by_its_id(
    orphaned: tuple[str, str], run_id: str
) -> None:
    found = {holder_of(process.pid) for process in run_processes(run_id)}
    worker, child = orphaned
    assert found == {worker.partition("+")[0], child}
    assert kill_run(run_id) is True
    assert is_alive(worker) is is_alive(child) is HolderStatus.ENDED
    assert kill_run(run_id) is False


def test_the_process_that_now_has_the_pid_is_spared(run_id: str) -> None:
    bystander = launch_paused(run_id)
    identity = parse_holder(bystander.holder)
    assert identity is not None
    stale = replace(identity, started=str(int(identity.started) - 1), token="of-another")
    provider = LocalProvider.from_config("local", {})
    provider.stop(str(stale))
    assert provider.reap([str(stale), str(replace(identity, host="elsewhere"))]) == []
    assert provider.check(bystander.holder) is HolderStatus.RUNNING
    provider.stop(bystander.holder)
    assert bystander.exit_code() == -signal.SIGKILL
    bystander.close()


def test_a_stopped_worker_ends_all_the_same(run_id: str) -> None:
    worker = launch_paused(run_id)
    psutil.Process(worker.pid).suspend()
    assert kill_tree(worker.holder) is True
    assert worker.exit_code() == -signal.SIGKILL
    worker.close()


def test_a_worker_outlives_the_thread_that_started_it(run_id: str) -> None:
    started: list[LocalWorker] = []
    thread = threading.Thread(target=lambda: started.append(launch_paused(run_id)))
    thread.start()
    thread.join()
    (worker,) = started
    assert is_alive(worker.holder) is HolderStatus.RUNNING
    kill_tree(worker.holder)
    assert worker.exit_code() == -signal.SIGKILL
    worker.close()


def test_a_worker_that_reads_nothing_is_not_waited_for_for_ever(run_id: str) -> None:
    worker = launch_paused(run_id)
    worker._send_timeout_seconds = 0.05
    with pytest.raises(TimeoutError, match="has read nothing for"):
        worker.send(bytes(4_000_000))
    kill_tree(worker.holder)
    with pytest.raises(BrokenPipeError):
        worker.send(b"x")
    assert worker.receive() == b""
    assert worker.exit_code() == -signal.SIGKILL
    worker.close()
    assert (worker.fileno(), worker.receive()) == (-1, b"")
