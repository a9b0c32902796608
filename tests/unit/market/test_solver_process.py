"""The solver's process: hostile children change nothing but the gap."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import psutil
import pytest

from cu_market.dnm.planner import plan
from cu_market.dnm.programs.solve import InProcessSolver
from cu_market.domain.bid import Bid
from cu_market.domain.plan import Plan
from cu_market.domain.profile import CUProfile
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GIB
from cu_market.market.solver.process import SolverProcess

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ANSWER = (
    '{"solver":"liar","values":%s,"duals":[],"claimed_bound_microusd":%s,"is_cut":false,'
    '"build_seconds":0,"failure":""}'
)


def child(body: str) -> list[str]:
    """A child that says it is ready, then does this with each line."""
    code = f"import os, sys, time\nprint('ready', flush=True)\nfor line in sys.stdin:\n    {body}\n"
    return [sys.executable, "-c", code]


HOSTILE = {
    "hangs": child("time.sleep(600)"),
    "dies": child("os._exit(3)"),
    "is killed": child("os.kill(os.getpid(), 9)"),
    "answers garbage": child("print('not json', flush=True)"),
    "answers a list": child("print('[1]', flush=True)"),
    "lies about its bound": child(f"print('''{ANSWER % ('[[0,1.0]]', '1e18')}''', flush=True)"),
    "returns fractions": child(f"print('''{ANSWER % ('[[0,0.5],[1,0.5]]', '0')}''', flush=True)"),
    "names columns that are not there": child(
        f"print('''{ANSWER % ('[[999999,1.0]]', '0')}''', flush=True)"
    ),
    "never gets ready": [sys.executable, "-c", "import time; time.sleep(600)"],
    "floods": child("[print('x' * 2**20, end='') for _ in range(80)]"),
    "says nothing": child("pass"),
    "does not exist": ["/nonexistent/solver"],
}


def contested() -> tuple[list[ResourceRequest], list[Bid], dict[str, ResourceVector]]:
    """A selection in which each request taking its cheapest bid does not fit."""
    requests = [
        ResourceRequest(
            request_id=f"r{i}",
            timestamp=NOW,
            duration_ms=60_000 + 1000 * i,
            needs=ResourceVector(cpu_millis=1000, memory_bytes=GIB),
            value_of_time_microusd_per_hour=50_000,
        )
        for i in range(6)
    ]
    bids = [
        Bid(
            bid_id=f"b{k}",
            profile=CUProfile(
                cu_id=f"cu{k}",
                provider="p",
                location="here",
                capacity_id=f"c{k}",
                cpu_millis=1000,
                memory_bytes=2 * GIB,
                price_microusd_per_hour=40_000 + 30_000 * k,
            ),
            price_microusd_per_hour=40_000 + 30_000 * k,
            quantity=2,
        )
        for k in range(3)
    ]
    capacities = {f"c{k}": ResourceVector(cpu_millis=2000, memory_bytes=4 * GIB) for k in range(3)}
    return requests, bids, capacities


def planned(solver: SolverProcess | InProcessSolver | None, limit: float = 0.3) -> Plan:
    requests, bids, capacities = contested()
    found = plan(
        requests, bids, capacities, solver=solver, limit_seconds=limit, gap=0.0, fixed_starts=True
    )
    return replace(found, build_ms=0, solve_ms=0)  # what was measured differs between equal plans


@pytest.fixture
def real() -> Iterator[SolverProcess]:
    # On a busy machine with nothing compiled yet, loading PuLP and HiGHS has been seen to take
    # longer than a market would wait, and it counts in the plan's limit: 60 s wherever plans are
    # compared, so that the clock cuts none.
    solver = SolverProcess(start_seconds=240)
    yield solver
    solver.close()


def test_the_child_finds_what_the_same_solver_finds_in_process(real: SolverProcess) -> None:
    assert [a.bid_id for a in planned(real, 60).awards] == [
        a.bid_id for a in planned(InProcessSolver(), 60).awards
    ]


@pytest.mark.parametrize("manner", HOSTILE)
def test_a_hostile_solver_changes_nothing_but_the_gap(manner: str) -> None:
    solver = SolverProcess(
        HOSTILE[manner], grace_seconds=0.1, start_seconds=0.3 if "ready" in manner else 20
    )
    baseline = planned(None)
    try:
        outcome = planned(solver)
    finally:
        solver.close()
    assert [a.bid_id for a in outcome.awards] == [a.bid_id for a in baseline.awards]
    assert outcome.objective_microusd == baseline.objective_microusd
    assert outcome.bound_microusd <= outcome.objective_microusd


def test_a_hanging_solver_is_killed_and_the_plan_marked_as_cut() -> None:
    solver = SolverProcess(HOSTILE["hangs"], grace_seconds=0.1)
    solver.warm()
    process = solver._process
    assert process is not None
    requests, bids, capacities = contested()
    bids = bids[:1]  # one bid for six requests at once: the construction proves nothing
    outcome = plan(
        requests, bids, capacities, solver=solver, limit_seconds=0.1, gap=0.0, fixed_starts=True
    )
    assert process.poll() is not None
    assert outcome.is_cut == (outcome.bound_microusd < outcome.objective_microusd)


def test_the_child_dies_with_its_parent() -> None:
    code = (
        "import os, time\n"
        "from cu_market.market.solver.process import SolverProcess\n"
        "s = SolverProcess(); s.warm(); print(s._process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    read, write = os.pipe()
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", code],
        dict(os.environ),
        file_actions=[(os.POSIX_SPAWN_DUP2, write, 1), (os.POSIX_SPAWN_CLOSE, read)],
    )
    os.close(write)
    with os.fdopen(read) as output:
        child_pid = int(output.readline())
    os.waitpid(pid, 0)
    deadline = time.monotonic() + 240
    while not has_ended(child_pid):
        assert time.monotonic() < deadline, "it outlives its parent"
        time.sleep(0.02)


def has_ended(pid: int) -> bool:
    """Whether there is no such process, or one that nobody has waited for yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # also where it goes between two looks at it
        return True


def test_nothing_is_started_at_import_or_construction() -> None:
    solver = SolverProcess()
    assert solver._process is None
    solver.close()


def test_the_child_outlives_the_thread_that_asked_for_it(real: SolverProcess) -> None:
    # Linux sends the parent-death signal when the parent *thread* ends: a launcher's auction
    # threads end at once, and the child would be cold at every launch.
    outcomes: list[Plan] = []
    thread = threading.Thread(target=lambda: outcomes.append(planned(real, 60)))
    thread.start()
    thread.join()
    process = real._process
    assert process is not None
    again = planned(real, 60)
    assert real._process is process
    assert process.poll() is None
    assert outcomes == [again]


def test_a_child_that_was_killed_is_replaced(real: SolverProcess) -> None:
    first = planned(real, 60)
    process = real._process
    assert process is not None
    process.kill()
    process.wait()
    assert planned(real, 60) == first
    assert real._process is not process
    real.close()
    assert planned(real, 60) == first
