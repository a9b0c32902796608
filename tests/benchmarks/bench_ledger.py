"""Measures durable award-and-settle transactions a second, by 1 and by 16 processes.

Run: ``python tests/benchmarks/bench_ledger.py``; prints one JSON line: SQLite, and PostgreSQL where
its binaries are installed (a private server of its own, with fsync). What is counted: committed
write transactions, each synced to the disk (SQLite: WAL, synchronous=FULL). A cycle is two of
them: a lease written against a capacity that all processes share and that is checked inside the
transaction, and its settlement with cost and usage row. A refused lease writes nothing and is not
counted. While the processes work, an observer reads what is held as often as it can, and counts
each time that it was more than there is.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

from cu_market.domain.allocation import Allocation
from cu_market.domain.lease import Refusal
from cu_market.domain.resources import ResourceVector
from cu_market.domain.usage import Measurement, Usage
from cu_market.ledger.sql import SqlLedger, open_ledger

sys.path.extend(str(Path(__file__).parents[1] / folder) for folder in ("servers", "samples"))

from ledger_rows import T0, a_usage, an_award

_CAPACITY = ResourceVector(cpu_millis=8_000, memory_bytes=16 * 2**30)


def award(run_id: str, step_key: str) -> Allocation:
    """Returns an award of an eighth of the capacity."""
    return an_award(run_id, step_key, price_microusd_per_hour=50_000, expected_ms=1_000)


def usage_of(lease: Allocation, ended_at: datetime) -> Usage:
    """Returns a usage row for a lease."""
    measurement = Measurement(wall_ms=900, cpu_ms=800, peak_memory_bytes=10**8, waited_ms=10)
    return a_usage(lease, ended_at=ended_at, measurement=measurement)


def cycle(ledger: SqlLedger, run_id: str, number: int) -> int:
    """Returns how many transactions were committed: 2, or 0 where the lease was refused."""
    now = T0 + timedelta(seconds=number)
    lease = ledger.lease(
        award(run_id, f"step_{number}"),
        capacity=_CAPACITY,
        expires_at=now + timedelta(minutes=1),
        now=now,
    )
    if isinstance(lease, Refusal):
        return 0
    ended_at = now + timedelta(seconds=1)
    ledger.settle(
        lease.key, lease.fencing_token, ended_at=ended_at, usage=usage_of(lease, ended_at)
    )
    return 2


def work(url: str, seconds: float, barrier: Barrier, results: Queue[tuple[int, float]]) -> None:
    """Cycles for so many seconds; puts committed transactions and the longest cycle's seconds."""
    with open_ledger(url) as ledger:
        run_id = f"run_{os.getpid()}"
        barrier.wait()
        end = time.perf_counter() + seconds
        committed, number, longest, before = 0, 0, 0.0, time.perf_counter()
        while before < end:
            number += 1
            committed += cycle(ledger, run_id, number)
            after = time.perf_counter()
            longest, before = max(longest, after - before), after
    results.put((committed, longest))


def observe(url: str, done: Event, results: Queue[tuple[int, int]]) -> None:
    """Reads what is held until done; puts how often, and how often it was too much."""
    looked = oversubscribed = 0
    with open_ledger(url) as ledger:
        while not done.is_set():
            looked += 1
            oversubscribed += not ledger.held("local").fits_in(_CAPACITY)
            done.wait(0.01)
    results.put((looked, oversubscribed))


def measure(url: str, processes: int, seconds: float) -> dict[str, float | int]:
    """Returns the figures of so many processes working together."""
    spawn = multiprocessing.get_context("spawn")
    barrier, done = spawn.Barrier(processes), spawn.Event()
    results: Queue[tuple[int, float]] = spawn.Queue()
    seen: Queue[tuple[int, int]] = spawn.Queue()
    open_ledger(url).close()
    observer = spawn.Process(target=observe, args=(url, done, seen))
    workers = [
        spawn.Process(target=work, args=(url, seconds, barrier, results)) for _ in range(processes)
    ]
    for process in (observer, *workers):
        process.start()
    figures = [results.get() for _ in workers]
    done.set()
    looked, oversubscribed = seen.get()
    for process in (observer, *workers):
        process.join()
    return {
        "awards_per_second": round(sum(count for count, _ in figures) / seconds / 2),
        "transactions_per_second": round(sum(count for count, _ in figures) / seconds),
        "longest_cycle_ms": round(1000 * max(longest for _, longest in figures)),
        "fewest_by_a_process": min(count for count, _ in figures),
        "most_by_a_process": max(count for count, _ in figures),
        "observations": looked,
        "oversubscribed": oversubscribed,
    }


def main() -> None:
    """Measures each number of processes on a new ledger and prints one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--directory", help="where to keep the ledgers; its disk is measured")
    arguments = parser.parse_args()
    sqlite = {}
    for processes in arguments.processes:
        with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
            url = f"sqlite:///{Path(directory) / 'ledger.db'}"
            sqlite[f"processes_{processes}"] = measure(url, processes, arguments.seconds)
    postgres = measure_postgres(arguments.processes, arguments.seconds, arguments.directory)
    figures = {"seconds": arguments.seconds, "sqlite": sqlite, "postgres": postgres}
    print(json.dumps(figures))


def measure_postgres(
    processes: list[int], seconds: float, directory: str | None
) -> Mapping[str, object] | str:
    """Returns the figures of PostgreSQL, or why there are none."""
    from postgres_server import PostgresServer, find_binaries

    if find_binaries() is None:
        return "not installed here (Debian's package: postgresql)"
    tempfile.tempdir = directory
    with PostgresServer(is_durable=True) as server:
        version = str(server.execute("SHOW server_version")[0][0])
        return {"version": version} | {
            f"processes_{n}": measure(server.url(server.create_database()), n, seconds)
            for n in processes
        }


if __name__ == "__main__":
    main()
