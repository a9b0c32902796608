"""A pod's channel through a real database, process 1 and all: cuts and deaths lose nothing.

Process 1 and what carries for it run here, as in a pod; the run worker's end is a WarmPod's session
over the carrier's connections.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cutting_proxy import CuttingProxy
from postgres_server import PASSWORD, PASSWORD_VARIABLE, PostgresServer

from cu_market.deo.channel.carrier import DatabaseCarrier, DatabaseChannel
from cu_market.deo.channel.link import channel_of
from cu_market.ledger.channels import Sender
from cu_market.ledger.location import Reference, follow
from cu_market.ledger.sql import SqlLedger, open_ledger
from cu_market.ral.carrier import CutError
from cu_market.ral.kubernetes.host import (
    CARRIER_VARIABLE,
    DISCONNECT_VARIABLE,
    TOKEN_VARIABLE,
)
from cu_market.ral.kubernetes.session import Session

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

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

    def exchange(self, wanted: int, seconds: float = 60) -> bytes:
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
            if self.carrier.program.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        return None

    def close(self) -> None:
        self.drop()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server that the test may kill."""
    try:
        started = PostgresServer()
    except LookupError as error:
        pytest.skip(str(error))
    with started:
        yield started


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


Start = Callable[..., Pod]


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts pods on the ledger that a reference leads to."""
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    made: list[Any] = []

    def start(
        reference: Reference,
        code: str = UPPER,
        *,
        disconnect_seconds: float = 60,
        theirs: Reference | None = None,
    ) -> Pod:
        ledger = open_ledger(follow(reference, "ledger"))
        carrier = DatabaseCarrier(ledger.channels, reference)
        if theirs is not None:
            carrier.environment = DatabaseCarrier(ledger.channels, theirs).environment
        pod = Pod(
            carrier, code, disconnect_seconds=disconnect_seconds, log=tmp_path / f"{len(made)}.log"
        )
        made.extend([pod, ledger])
        return pod

    yield start
    for each in made:
        each.close()


def ledger_of(pod: Pod) -> SqlLedger:
    return open_ledger(follow(json.loads(pod.carrier.environment["CU_MARKET_LEDGER"]), "ledger"))


def say(pod: Pod, words: bytes) -> None:
    pod.session.write(words)
    assert pod.exchange(len(words)) == words.upper()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def reference(request: pytest.FixtureRequest, tmp_path: Path) -> Reference:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    return reference_of(request.getfixturevalue("server"))


def test_bytes_go_both_ways_and_nothing_is_left_of_them(
    reference: Reference, started: Start
) -> None:
    pod = started(reference)
    for word in (b"one", b"two", b"three" * 200_000):
        say(pod, word)
    pod.session.end("done")
    pod.exchange(1)
    assert pod.session.peer_end == "the worker ended with exit code 0"
    assert pod.process.wait(20) == 0
    pod.drop()
    pod.carrier.forget(pod.token)
    with ledger_of(pod) as ledger:
        assert ledger.channels.take(channel_of(pod.token), "me") is None
        assert ledger.channels.forget_run("run") == 0
    assert pod.cuts == 0


def test_the_workers_last_bytes_and_exit_code_arrive(reference: Reference, started: Start) -> None:
    pod = started(reference, FAREWELL)
    assert pod.exchange(10**6) == b"x" * 300_000 + b"farewell"
    assert pod.session.peer_end == "the worker ended with exit code 7"
    assert pod.process.wait(20) == 7


def test_any_number_of_cuts_loses_nothing(reference: Reference, started: Start) -> None:
    pod = started(reference)
    sent = received = b""
    for word in (b"one ", b"two ", b"three ", b"four "):
        pod.session.write(word)
        sent += word.upper()
        received += pod.exchange(1)
        pod.drop()  # part of the answer is still on its way
    received += pod.exchange(len(sent) - len(received))
    assert received == sent


def test_what_carries_is_killed_in_the_midst_and_started_again(
    reference: Reference, started: Start
) -> None:
    pod = started(reference)
    say(pod, b"before")
    words = b"".join(b"%07d " % n for n in range(500_000))
    pod.session.write(words)
    received = pod.exchange(1)
    victim = pod.carrying_process()
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    received += pod.exchange(len(words) - len(received))
    assert received == words.upper()
    assert pod.cuts >= 1
    assert pod.carrying_process() not in (None, victim)


def test_a_run_workers_end_that_died_is_followed_by_another(
    reference: Reference, started: Start
) -> None:
    pod = started(reference)
    say(pod, b"before")
    # It dies in the midst of a message, and before the answer to another was read.
    dead = pod.channel
    assert dead is not None
    pod.session.write(b"on its way ")
    dead.send(pod.session.to_send())
    until_arrived(dead)
    pod.session.write(b"cut in half ")
    dead.send(pod.session.to_send()[:20])
    with ledger_of(pod) as other:
        pod.carrier = DatabaseCarrier(other.channels, "unused")
        pod.channel = None
        pod.session.write(b"after")
        assert pod.exchange(28) == b"ON ITS WAY CUT IN HALF AFTER"
        pod.drop()
    dead.close()


def test_a_run_worker_that_takes_over_has_what_was_not_stored_and_keeps_the_channel(
    reference: Reference, started: Start
) -> None:
    pod = started(reference)
    pod.session = Session(pod.token, epoch=0, is_told=True)
    say(pod, b"stored")
    pod.session.store(6)
    say(pod, b"received")
    predecessor, left = pod.carrier, pod.channel
    assert left is not None
    with ledger_of(pod) as other:
        pod.carrier = DatabaseCarrier(other.channels, "unused")
        pod.session, pod.epoch = Session(pod.token, epoch=7, is_told=True), 7
        pod.channel = None
        assert pod.exchange(8) == b"RECEIVED"
        pod.session.store(8)
        say(pod, b"after")
        # The predecessor was only cut off: it tries again, and clears away what it thinks its own.
        with pytest.raises(CutError, match="took over"):
            receive_all(left)
        with pytest.raises(CutError, match="has taken over"):
            predecessor.connect(pod.token, "run")
        predecessor.forget(pod.token)
        say(pod, b"still here")
        assert pod.cuts == 0
        pod.drop()
    left.close()


def receive_all(channel: DatabaseChannel) -> None:
    while True:
        channel.receive()


def until_arrived(channel: DatabaseChannel) -> None:
    assert select.select([channel], [], [], 20.0)[0]


def test_the_newest_connection_displaces_the_older(reference: Reference, started: Start) -> None:
    pod = started(reference)
    say(pod, b"first")
    with ledger_of(pod) as other:
        thief = DatabaseCarrier(other.channels, "unused").connect(pod.token, "run")
        assert pod.channel is not None
        select.select([pod.channel], [], [], 20.0)
        with pytest.raises(CutError, match="took over"):
            receive_all(pod.channel)
        thief.close()
    pod.drop()
    say(pod, b"again")


def test_nobody_comes_for_too_long(reference: Reference, started: Start) -> None:
    pod = started(reference, disconnect_seconds=0.2)
    assert pod.process.wait(60) == 0
    assert "no run worker for" in pod.log.read_text()


def test_it_ends_with_process_1_however_that_ended(reference: Reference, started: Start) -> None:
    pod = started(reference)
    say(pod, b"x")
    carrying = pod.carrying_process()
    assert carrying is not None
    pod.process.kill()
    pod.process.wait()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{carrying}/cmdline").exists() and is_running(carrying):
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_ledger_that_is_not_there_is_said_and_given_up(tmp_path: Path, started: Start) -> None:
    pod = started(f"sqlite:///{tmp_path / 'ledger.db'}", theirs={"env": "CU_MARKET_TEST_NOT_SET"})
    assert pod.process.wait(30) == 1
    assert "CU_MARKET_TEST_NOT_SET" in pod.log.read_text()
    assert "not set" in pod.log.read_text()


@pytest.mark.postgres
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_database_restart_is_a_pause(server: PostgresServer, started: Start, how: str) -> None:
    pod = started(reference_of(server))
    say(pod, b"before")
    words = b"".join(b"%07d " % n for n in range(200_000))
    pod.session.write(words)
    received = pod.exchange(1)
    getattr(server, how)()
    server.start()
    received += pod.exchange(len(words) - len(received))
    assert received == words.upper()


@pytest.mark.postgres
@pytest.mark.parametrize("statement", [b"INSERT INTO cu_market.parcels", b"DELETE FROM", b"COMMIT"])
def test_a_lost_answer_stores_nothing_twice(
    server: PostgresServer, started: Start, statement: bytes
) -> None:
    proxy = CuttingProxy(server.host, server.port)
    pod = started(reference_of(server, proxy.port), theirs=reference_of(server))
    try:
        received = sent = b""
        for number in range(20):
            if number % 4 == 0:
                proxy.cut_after(statement)
            words = b"%03d " % number
            sent += words
            pod.session.write(words)
            received += pod.exchange(4)
        received += pod.exchange(len(sent) - len(received)) if len(received) < len(sent) else b""
        assert received == sent
        assert proxy.cuts >= 3
    finally:
        proxy.close()


@pytest.mark.postgres
def test_its_tables_write_no_log(server: PostgresServer, started: Start) -> None:
    started(reference_of(server))
    rows = server.execute(
        "SELECT relname, relpersistence FROM pg_class WHERE relname IN ('channels', 'parcels')"
    )
    assert sorted(rows) == [("channels", "u"), ("parcels", "u")]


@pytest.mark.pgbouncer
def test_a_pooler_may_stand_between(
    pgbouncer_url: str, started: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CU_MARKET_TEST_URL", pgbouncer_url)
    pod = started({"env": "CU_MARKET_TEST_URL"})
    for _ in range(5):
        say(pod, b"word" * 100_000)
    pod.drop()
    say(pod, b"after a cut")


def test_parcels_are_bounded_where_nobody_reads(reference: Reference, started: Start) -> None:
    pod = started(reference)
    say(pod, b"x")
    pod.session.write(b"y" * 8 * 2**20)
    assert pod.channel is not None
    while data := pod.session.to_send():
        pod.channel.send(data)  # the echo fills the way back, and nothing here takes it
    with ledger_of(pod) as ledger:
        deadline = time.monotonic() + 3
        most = 0
        while time.monotonic() < deadline:
            most = max(most, len(stored(ledger, pod)))
            time.sleep(0.05)
    assert 1 <= most <= 4
    assert pod.exchange(8 * 2**20) == b"Y" * 8 * 2**20


def stored(ledger: SqlLedger, pod: Pod) -> list[int]:
    """Returns the numbers of the worker's parcels under way."""
    from sqlalchemy import select as sql_select

    from cu_market.ledger.schema import PARCELS

    query = sql_select(PARCELS.c.number).where(PARCELS.c.sender == Sender.WORKER.value)
    return list(ledger._database.read(lambda c: c.scalars(query).all()))
