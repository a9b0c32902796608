"""Real processes on one ledger: racing, dying, opening together, forking."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from ledger_rows import ONE_CU, T0, an_award, give_back, take

from cu_market.domain.allocation import AllocationState
from cu_market.domain.auction import Auction
from cu_market.ledger.errors import LeaseLostError
from cu_market.ledger.sql import open_ledger

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

SPAWN = multiprocessing.get_context("spawn")


KINDS = [
    "sqlite",
    pytest.param("postgres", marks=pytest.mark.postgres),
    pytest.param("pgbouncer", marks=pytest.mark.pgbouncer),
]


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a ledger that nobody has opened yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    return str(request.getfixturevalue(f"{request.param}_url"))


def race(url: str, number: int, start: Barrier, report: Connection) -> None:
    # Opened inside the race: sixteen first opens migrate one new file.
    start.wait()
    with open_ledger(url) as ledger:
        lease = take(ledger, f"run-{number}", "step")
        report.send(None if lease is None else lease.fencing_token)


def loop(url: str, number: int, report: Connection) -> None:
    with open_ledger(url) as ledger:
        for step in range(10**9):
            lease = take(ledger, f"run-{number}", f"step-{step}")
            if lease is not None:
                give_back(ledger, lease)
            if step == 20:
                report.send("at work")


def race_for_award(url: str, number: int, steps: int, start: Barrier, report: Connection) -> None:
    """Leases (an even number) or moves (an odd one) the same awards, one after the other."""
    won = []
    with open_ledger(url) as ledger:
        start.wait()
        for step in (f"step-{k}" for k in range(steps)):
            if number % 2 == 0:
                try:
                    given = take(ledger, "run", step, ONE_CU.times(steps))
                except LeaseLostError:
                    continue
                won.append((step, given is not None and given.attempt))
                continue
            theirs = Auction(
                auction_id=f"{step} by {number}",
                run_id="run",
                held_at=T0,
                mode="market",
                place="together",
            )
            new = an_award("run", step, attempt=2, auction_id=theirs.auction_id)
            won += [(step, row.attempt) for row in ledger.supersede(theirs, [new], [])]
    report.send(won)


def start_all(target: Callable[..., None], arguments: list[tuple[Any, ...]]) -> list[Any]:
    """Returns (process, connection) pairs, all started."""
    pairs = []
    for each in arguments:
        here, there = SPAWN.Pipe(duplex=False)
        process = SPAWN.Process(target=target, args=(*each, there))
        process.start()
        there.close()
        pairs.append((process, here))
    return pairs


def test_sixteen_processes_racing_for_one_cu_get_one_lease(url: str) -> None:
    start = SPAWN.Barrier(16)
    pairs = start_all(race, [(url, number, start) for number in range(16)])
    answers = [connection.recv() for _, connection in pairs]
    for process, connection in pairs:
        process.join()
        connection.close()
        assert process.exitcode == 0
    assert sorted(answers, key=str) == [1, *[None] * 15]
    with open_ledger(url) as ledger:
        assert [row.state for row in ledger.allocations()] == [AllocationState.LEASED]
        assert ledger.held("local") == ONE_CU


def test_processes_killed_mid_loop_leave_a_consistent_ledger(url: str, tmp_path: Path) -> None:
    with open_ledger(url) as ledger:
        pairs = start_all(loop, [(url, number) for number in range(4)])
        for process, connection in pairs:
            assert connection.recv() == "at work"  # whatever it is doing now is cut
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            connection.close()
        rows = ledger.allocations()
        done = [row for row in rows if row.state is AllocationState.SETTLED]
        live = [row for row in rows if row.state is AllocationState.LEASED]
        assert done
        assert len(done) + len(live) == len(rows)
        assert len(live) <= 1  # one CU
        assert {row.cost_microusd for row in done} == {1000}
        assert {use.step_key + use.run_id for use in ledger.usages()} == {
            row.step_key + row.run_id for row in done
        }
        by_token = sorted(row.fencing_token for row in rows)
        assert by_token == list(range(1, len(rows) + 1))
        for row in live:
            assert ledger.revoke(row.run_id, now=T0)[0].key == row.key
        assert take(ledger, "after", "step") is not None
    if url.startswith("sqlite"):
        file = sqlite3.connect(tmp_path / "ledger.db")
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        file.close()


def test_an_award_that_processes_lease_and_move_goes_to_one_of_them(url: str) -> None:
    steps = 40
    with open_ledger(url) as ledger:
        awards = [an_award("run", f"step-{k}") for k in range(steps)]
        held = Auction(
            auction_id="auction", run_id="run", held_at=T0, mode="market", place="launcher"
        )
        ledger.record_auction(held, awards)
    start = SPAWN.Barrier(4)
    pairs = start_all(race_for_award, [(url, number, steps, start) for number in range(4)])
    answers = [connection.recv() for _, connection in pairs]
    for process, connection in pairs:
        process.join()
        connection.close()
        assert process.exitcode == 0
    with open_ledger(url) as ledger:
        rows = {(row.step_key, row.attempt): row.state for row in ledger.allocations()}
    leased = {step for (step, _), state in rows.items() if state is AllocationState.LEASED}
    moved = {step for step, attempt in rows if attempt == 2}
    assert leased | moved == {f"step-{k}" for k in range(steps)}
    assert not leased & moved
    for step in moved:  # the old award is gone, the new one waits for its run
        assert rows[step, 1] is AllocationState.RELEASED
        assert rows[step, 2] is AllocationState.AWARDED
    told = [step for number, won in enumerate(answers) for step, _ in won if number % 2]
    assert sorted(told) == sorted(moved)  # whoever moved one was told so, and nobody else


@pytest.mark.skipif(sys.platform == "win32", reason="nothing forks on Windows")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_parent_and_forked_child_share_no_connection(url: str, tmp_path: Path) -> None:
    with open_ledger(url) as ledger:
        lease = take(ledger, "parent", "step")
        assert lease is not None
        child = os.fork()
        if child == 0:
            status = 1
            try:
                opened = [name for name in open_files() if name.startswith(str(tmp_path))]
                give_back(ledger, lease)
                status = 0 if not opened and take(ledger, "child", "step") is not None else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert take(ledger, "parent", "again") is None
        states = {row.key: row.state for row in ledger.allocations()}
    assert states == {
        ("parent", "step", 1): AllocationState.SETTLED,
        ("child", "step", 1): AllocationState.LEASED,
    }


def open_files() -> list[str]:
    """Returns the paths of this process's open files; none where the system does not tell."""
    directory = Path("/proc/self/fd")
    names = []
    for entry in directory.iterdir() if directory.is_dir() else ():
        try:
            names.append(str(entry.readlink()))
        except OSError:  # the descriptor of the listing itself, gone by now
            continue
    return names
