"""Process 1 with its carrier, as in a pod, and the run worker's end of its session."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from postgres_server import PASSWORD_VARIABLE, PostgresServer

from cu_market.deo.channel.carrier import DatabaseCarrier, DatabaseChannel
from cu_market.ledger.location import follow
from cu_market.ledger.sql import SqlLedger, open_ledger
from cu_market.ral.carrier import CutError
from cu_market.ral.kubernetes.host import (
    CARRIER_VARIABLE,
    DISCONNECT_VARIABLE,
    TOKEN_VARIABLE,
)
from cu_market.ral.kubernetes.session import Session

UPPER = (
    "import os, socket\n"
    "s = socket.socket(fileno=int(os.environ['CU_MARKET_CHANNEL_FD']))\n"
    "while data := s.recv(65536): s.sendall(data.upper())\n"
)
FAREWELL = (
    "import os, socket\n"
    "s = socket.socket(fileno=int(os.environ['CU_MARKET_CHANNEL_FD']))\n"
    "s.sendall(b'x' * 300000 + b'farewell'); raise SystemExit(7)\n"
)


class Pod:
    """Process 1 with its carrier, and the run worker's end of its session."""

    def __init__(
        self, carrier: DatabaseCarrier, code: str, *, disconnect_seconds: float, log: Path
    ) -> None:
        self.carrier = carrier
        self.token = secrets.token_hex(8)
        self.log = log
        with log.open("ab") as file:
            self.process = self._start(code, disconnect_seconds, file)
        self.session = Session(self.token)
        self.epoch = 0
        self.channel: DatabaseChannel | None = None
        self.cuts = 0

    def _start(self, code: str, disconnect_seconds: float, log: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "cu_market.ral.kubernetes.host", "-c", code],
            env={
                **os.environ,
                TOKEN_VARIABLE: self.token,
                DISCONNECT_VARIABLE: str(disconnect_seconds),
                CARRIER_VARIABLE: self.carrier.program,
                **self.carrier.environment,
            },
            stderr=log,
        )

    def exchange(self, wanted: int, seconds: float = 240) -> bytes:
        """Sends what waits; returns at least so many of the worker's bytes, or all up to its end.

        Connects anew as often as it takes, as a WarmPod does.
        """
        received = b""
        deadline = time.monotonic() + seconds
        while len(received) < wanted and self.session.peer_end is None:
            assert time.monotonic() < deadline, f"{len(received)} bytes; {self.log.read_text()}"
            try:
                received += self._turn()
            except CutError:
                self.cuts += 1
                self.drop()
                time.sleep(0.1)
        if self.channel is not None:
            while data := self.session.to_send():
                self.channel.send(data)  # that it has it
        return received

    def _turn(self) -> bytes:
        if self.channel is None:
            self.channel = self.carrier.connect(self.token, "run", self.epoch)
            self.session.connected()
        while data := self.session.to_send():
            self.channel.send(data)
        if self.channel.has_buffered() or select.select([self.channel], [], [], 1.0)[0]:
            return self.session.feed(self.channel.receive())
        return b""

    def drop(self) -> None:
        if self.channel is not None:
            self.channel.close()
            self.channel = None

    def carrying_process(self) -> int | None:
        """Returns the process that carries for process 1, once there is one."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for pid in map(int, children.read_text().split()):
            with contextlib.suppress(OSError):  # it has just ended
                if self.carrier.program.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    return pid
        return None

    def close(self) -> None:
        self.drop()
        self.process.kill()
        self.process.wait()


Start = Callable[..., Pod]
"""Starts a pod on the ledger that a reference leads to; see the fixture ``started``."""


def reference_of(server: PostgresServer, port: int | None = None) -> dict[str, Any]:
    return {
        "postgres_db": {
            "hostname": server.host,
            "port": port or server.port,
            "username": "postgres",
            "password": {"env": PASSWORD_VARIABLE},
            "db_name": "postgres",
        }
    }


def ledger_of(pod: Pod) -> SqlLedger:
    return open_ledger(follow(json.loads(pod.carrier.environment["CU_MARKET_LEDGER"]), "ledger"))


def say(pod: Pod, words: bytes) -> None:
    pod.session.write(words)
    assert pod.exchange(len(words)) == words.upper()
