"""A pod's channel through PostgreSQL: milliseconds there and back, MB/s, and what looking costs.

``python tests/benchmarks/bench_channel.py [--trips 100]``: process 1 with an echoing worker runs
here, with what carries for it; no cluster is needed. Trips are made one after the other, at once
and after a second of silence. A server of its own, with fsync. One JSON line on stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import select
import subprocess
import sys
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "servers"))

import psutil
from execution import progress
from postgres_server import PASSWORD, PASSWORD_VARIABLE, PostgresServer, find_binaries

from cu_market.deo.channel.carrier import DatabaseCarrier
from cu_market.ledger.location import follow
from cu_market.ledger.sql import open_ledger
from cu_market.ral.kubernetes.host import CARRIER_VARIABLE, TOKEN_VARIABLE
from cu_market.ral.kubernetes.session import Session

ECHO = (
    "import os, socket\n"
    "s = socket.socket(fileno=int(os.environ['CU_MARKET_CHANNEL_FD']))\n"
    "while data := s.recv(262144): s.sendall(data)\n"
)
BULK_BYTES = 32 * 2**20
SILENCE_SECONDS = 1.0


class Conversation:
    """A session with an echoing worker."""

    def __init__(self, carrier: DatabaseCarrier) -> None:
        token = secrets.token_hex(8)
        variables = {TOKEN_VARIABLE: token, CARRIER_VARIABLE: carrier.program}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cu_market.ral.kubernetes.host", "-c", ECHO],
            env={**os.environ, **variables, **carrier.environment},
        )
        self._session = Session(token, limit_bytes=2 * BULK_BYTES)
        self._channel = carrier.connect(token, "bench")
        self._session.connected()

    def seconds_of(self, data: bytes) -> float:
        """Returns how long these bytes take there and back."""
        began = time.perf_counter()
        self._session.write(data)
        received = 0
        while received < len(data):
            while out := self._session.to_send():
                self._channel.send(out)
            if not self._channel.has_buffered():
                select.select([self._channel], [], [])
            received += len(self._session.feed(self._channel.receive()))
        return time.perf_counter() - began

    def carrying_bytes(self) -> int:
        """Returns the private memory of what carries."""
        for child in psutil.Process(self.process.pid).children():
            if any("bridge" in part for part in child.cmdline()):
                return int(child.memory_full_info().uss)
        return 0

    def close(self) -> None:
        self._channel.close()
        self.process.kill()
        self.process.wait()


def measure(server: PostgresServer, trips: int) -> dict[str, Any]:
    """Returns the figures."""
    name = {"env": PASSWORD_VARIABLE}
    place = {"hostname": server.host, "port": server.port, "db_name": server.create_database()}
    reference = {"postgres_db": {**place, "username": "postgres", "password": name}}
    with open_ledger(follow(reference, "ledger")) as ledger:
        talk = Conversation(DatabaseCarrier(ledger.channels, reference))
        try:
            first_seconds = talk.seconds_of(b"first")
            at_once = [1000 * talk.seconds_of(b"x" * 1000) for _ in range(trips)]
            late = []
            for _ in range(max(5, trips // 10)):
                time.sleep(SILENCE_SECONDS)
                late.append(1000 * talk.seconds_of(b"x" * 1000))
            bulk_seconds = talk.seconds_of(os.urandom(BULK_BYTES))
            used_before, at = time.process_time(), time.perf_counter()
            time.sleep(10)
            idle_share = (time.process_time() - used_before) / (time.perf_counter() - at)
            return {
                "first_seconds": round(first_seconds, 2),
                "trip_ms": round(median(at_once), 1),
                "trip_ms_p95": round(quantiles(at_once, n=20)[-1], 1),
                "trip_ms_after_1s": round(median(late), 1),
                "mb_per_second_both_ways": round(BULK_BYTES / bulk_seconds / 1e6, 1),
                "idle_share_of_a_core_here": round(idle_share, 4),
                "carrying_mb": round(talk.carrying_bytes() / 1e6, 1),
            }
        finally:
            talk.close()


def main() -> int:
    """Prints the figures; 3 where there is no PostgreSQL."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trips", type=int, default=100)
    trips = parser.parse_args().trips
    if find_binaries() is None:
        progress("no PostgreSQL is installed here")
        return 3
    os.environ[PASSWORD_VARIABLE] = PASSWORD
    with PostgresServer(is_durable=True) as server:
        print(json.dumps(measure(server, trips)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
