"""Runs that are cancelled, workers that are killed, results that come too late."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from execution_record import HERE, MARKET, MULTIPROCESS, Bench
from held_steps import HeldSteps
from unhurried import UNHURRIED

from cu_market.deo.executor.workers import WorkerGone, Workers

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(1800),
    # Dagster reads its config classes in a way that pydantic has deprecated.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]

DEADLINE_SECONDS = 600.0


def wait_until(reached: Callable[[], object]) -> None:
    """Returns when it is so.

    Raises:
        TimeoutError: it was not within the deadline.
    """
    deadline = time.monotonic() + DEADLINE_SECONDS
    pause = threading.Event()
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not reached within {DEADLINE_SECONDS} s")
        pause.wait(0.05)


def ops(folder: Path) -> dict[str, Any]:
    return {f"holds_{i}": {"config": {"folder": str(folder)}} for i in range(3)}


def meanwhile(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def cancel_when(bench: Bench, reached: Callable[[], object]) -> threading.Thread:
    """Cancels the instance's only unfinished run once it is so, as a launcher does."""

    def work() -> None:
        wait_until(reached)
        run = next(run for run in bench.instance.get_runs() if not run.is_finished)
        bench.instance.report_run_canceling(run)
        os.kill(os.getpid(), signal.SIGINT)

    return meanwhile(work)


@pytest.mark.parametrize("execution", [MULTIPROCESS, MARKET], ids=["multiprocess", "market"])
def test_a_cancelled_run_ends_its_steps(
    bench: Bench, tmp_path: Path, held: HeldSteps, execution: Mapping[str, Any]
) -> None:
    canceller = cancel_when(bench, lambda: len(held.all()) == 2)
    (name, options) = next(iter(execution.items()))
    config = {name: {**options, "max_concurrent": 2}}
    run_id = bench.run("holding", config, ops=ops(tmp_path))
    canceller.join()
    record = bench.record(run_id)
    assert record.status == "CANCELED"
    running = {step for step in record.events if "STEP_START" in record.events[step]}
    assert len(running) == 2
    assert all(record.events[step][-1] == "STEP_FAILURE" for step in running)
    wait_until(lambda: all(step.is_gone() for step in held.all().values()))


def test_a_run_is_cancelled_while_it_waits_for_room(
    bench: Bench, tmp_path: Path, held: HeldSteps
) -> None:
    settings = {**UNHURRIED, "providers": {"local": {"cores": 1}}}

    def waits() -> bool:
        return any(
            message.startswith("Waiting for room")
            for run in bench.instance.get_runs()
            for message in bench.engine_messages(run.run_id)
        ) and bool(held.all())

    canceller = cancel_when(bench, waits)
    run_id = bench.run("holding", {"market": {"settings": settings}}, ops=ops(tmp_path))
    canceller.join()
    assert bench.record(run_id).status == "CANCELED"
    rows = bench.allocations(run_id)
    assert {row.state for row in rows} <= {"SETTLED", "RELEASED"}
    assert sum(row.leased_at is not None for row in rows) == 1


def test_a_killed_worker_costs_no_retry(bench: Bench, tmp_path: Path, held: HeldSteps) -> None:
    """The warm worker dies mid-step: its steps are leased again, the run succeeds."""

    def kill() -> None:
        wait_until(lambda: len(held.all()) == 2)
        step = next(iter(held.all().values()))
        step.kill_worker()
        # A pod that was deleted may live on for a moment: its step must not end well in it.
        wait_until(
            lambda: any(
                " was lost: " in message
                for run in bench.instance.get_runs()
                for message in bench.engine_messages(run.run_id)
            )
        )
        (tmp_path / "go").touch()

    killer = meanwhile(kill)
    run_id = bench.run("holding", {"market": {"max_concurrent": 2}}, ops=ops(tmp_path))
    killer.join()
    record = bench.record(run_id)
    assert record.status == "SUCCESS"
    assert all("STEP_UP_FOR_RETRY" not in events for events in record.events.values())
    assert any(" was lost: " in message for message in bench.engine_messages(run_id))
    rows = bench.allocations(run_id)
    assert {row.state for row in rows} == {"SETTLED"}
    assert max(row.attempt for row in rows) == 2


def test_a_killed_run_worker_leaves_no_process(
    bench: Bench, tmp_path: Path, held: HeldSteps
) -> None:
    """Worker and steps end when their channel does: nobody has to come and look for them."""
    with subprocess.Popen(
        [sys.executable, str(HERE / "killed_run_worker.py"), str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as run_worker:
        try:
            wait_until(held.all)
            steps = held.all().values()  # before the processes: others start meanwhile
            family = psutil.Process(run_worker.pid).children(recursive=True)
        finally:
            run_worker.send_signal(signal.SIGKILL)
            run_worker.wait()
    if held.cluster is None:
        assert {step.pid for step in steps} <= {process.pid for process in family}
    wait_until(lambda: not any(process.is_running() for process in family))
    wait_until(lambda: all(step.is_gone() for step in held.all().values()))


def test_the_late_result_of_a_lost_step_is_dropped(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is taken for lost with all that it sends withheld, which then arrives too late."""
    (tmp_path / "go").touch()
    poll = Workers.poll
    withheld: list[tuple[Any, Any]] = []
    lost: list[Any] = []

    def late(self: Workers, timeout: float) -> Iterator[Any]:
        for arrival in poll(self, timeout):
            if isinstance(arrival, WorkerGone) or arrival[0] in lost:
                continue
            warm, frames = arrival
            kinds = {frame["kind"] for frame in frames}
            if lost and "started" in kinds:
                yield from withheld  # the lost attempts' results, once their successors run
                withheld.clear()
            if lost or not ({"entry", "entries", "ended"} & kinds or withheld):
                yield arrival
                continue
            withheld.append(arrival)
            for frame in frames:
                if frame["kind"] in ("entry", "entries"):
                    warm.send(
                        {"kind": "stored", "stream": frame["stream"], "number": frame["number"]}
                    )
            if "ended" in kinds:
                lost.append(warm)
                warm.streams |= {frame["stream"] for frame in frames if "stream" in frame}
                yield self._forget(warm, "declared lost")

    monkeypatch.setattr(Workers, "poll", late)
    run_id = bench.run("holding", {"market": {"max_concurrent": 1}}, ops=ops(tmp_path))
    assert lost
    assert not withheld
    record = bench.record(run_id)
    assert record.status == "SUCCESS"
    assert [events.count("STEP_SUCCESS") for events in record.events.values()] == [1, 1, 1]
    rows = bench.allocations(run_id)
    assert sorted(row.attempt for row in rows) == [1, 1, 1, 2]
    assert {row.state for row in rows} == {"SETTLED"}
