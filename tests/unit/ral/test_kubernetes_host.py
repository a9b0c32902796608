"""Process 1 of a pod, run here: it keeps the worker's channel through cuts and ends with it."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from cu_market.ral.kubernetes.ahead import greeting
from cu_market.ral.kubernetes.host import DISCONNECT_VARIABLE, SOCKET_PREFIX, TOKEN_VARIABLE
from cu_market.ral.kubernetes.session import Session

WAIT_SECONDS = 120
"""For what a machine that does nothing else does at once."""

ECHO = (
    "import os, socket\n"
    "s = socket.socket(fileno=int(os.environ['CU_MARKET_CHANNEL_FD']))\n"
    "while data := s.recv(65536): s.sendall(data.upper())\n"
)


class Pod:
    """A host and the run worker's end of its session."""

    def __init__(self, code: str, disconnect_seconds: float) -> None:
        self.token = secrets.token_hex(8)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cu_market.ral.kubernetes.host", "-c", code],
            env={
                **os.environ,
                TOKEN_VARIABLE: self.token,
                DISCONNECT_VARIABLE: str(disconnect_seconds),
            },
            stderr=subprocess.PIPE,
        )
        self.session = Session(self.token)
        self.connection: socket.socket | None = None

    def connect(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.settimeout(WAIT_SECONDS)
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                self.connection.connect(f"\0{SOCKET_PREFIX}{self.token}")
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline, "the host does not listen"
                time.sleep(0.02)
        self.session.connected()

    def exchange(self, wanted: int) -> bytes:
        """Sends what waits; returns at least so many of the worker's bytes, or up to its end."""
        assert self.connection is not None
        received = b""
        while len(received) < wanted and self.session.peer_end is None:
            while data := self.session.to_send():
                self.connection.sendall(data)
            data = self.connection.recv(65536)
            if not data:
                break
            received += self.session.feed(data)
        return received

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def pods() -> Iterator[list[Pod]]:
    made: list[Pod] = []
    yield made
    for pod in made:
        pod.close()


def start(pods: list[Pod], code: str = ECHO, disconnect_seconds: float = 60) -> Pod:
    pod = Pod(code, disconnect_seconds)
    pods.append(pod)
    return pod


def test_what_is_sent_comes_back_through_any_number_of_cuts(pods: list[Pod]) -> None:
    pod = start(pods)
    received = b""
    sent = b""
    for word in (b"one ", b"two ", b"three ", b"four "):
        pod.connect()
        pod.session.write(word)
        sent += word.upper()
        # Cut at once: part of the answer is still in the pod.
        received += pod.exchange(1)
    pod.connect()
    received += pod.exchange(len(sent) - len(received))
    assert received == sent


def test_the_newest_connection_displaces_the_older(pods: list[Pod]) -> None:
    pod = start(pods)
    pod.connect()
    older = pod.connection
    assert older is not None
    pod.connection = None
    pod.connect()
    pod.session.write(b"x")
    assert pod.exchange(1) == b"X"
    while older.recv(4096):
        pass  # its greeting, then its end
    older.close()


def test_another_run_worker_gets_what_the_first_had_not_stored(pods: list[Pod]) -> None:
    pod = start(pods)
    pod.session = Session(pod.token, epoch=0, is_told=True)
    pod.connect()
    pod.session.write(b"one ")
    assert pod.exchange(4) == b"ONE "
    pod.session.store(4)
    pod.session.write(b"two ")
    assert pod.exchange(4) == b"TWO "  # received, not stored: its run worker is lost now
    first, pod.session = pod.session, Session(pod.token, epoch=1, is_told=True)
    pod.session.write(b"three ")
    pod.connect()
    assert pod.exchange(10) == b"TWO THREE "
    # The first was only cut off, and comes again: it is not let in, and displaces nobody.
    second = pod.connection
    assert second is not None
    pod.connection, mine, pod.session = None, pod.session, first
    pod.connect()
    assert pod.connection is not None
    pod.connection.sendall(first.to_send())
    assert pod.connection.recv(4096) == b""
    pod.connection.close()
    pod.connection, pod.session = second, mine
    pod.session.write(b"four ")
    assert pod.exchange(5) == b"FOUR "


def test_who_started_it_ahead_is_answered_until_a_run_worker_has_it(pods: list[Pod]) -> None:
    pod = start(pods)

    def greet() -> bytes:
        held, pod.connection = pod.connection, None
        pod.connect()
        assert pod.connection is not None
        with pod.connection as starter:
            starter.sendall(greeting(pod.token))
            answer = starter.recv(4096)
        pod.connection = held
        return answer

    assert greet()
    assert greet()
    pod.session = runs = Session(pod.token, epoch=5)
    pod.connect()
    pod.session.write(b"one ")
    assert pod.exchange(4) == b"ONE "
    pod.session = Session(pod.token)
    assert greet() == b""
    pod.session = runs
    pod.session.write(b"two ")
    assert pod.exchange(4) == b"TWO "


def test_a_caller_that_says_nothing_displaces_nobody(pods: list[Pod]) -> None:
    pod = start(pods)
    pod.connect()
    pod.session.write(b"one ")
    assert pod.exchange(4) == b"ONE "
    silent = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    for each in silent:
        each.connect(f"\0{SOCKET_PREFIX}{pod.token}")
    pod.session.write(b"two ")
    assert pod.exchange(4) == b"TWO "
    for each in silent:
        each.close()


def test_another_token_gets_nothing(pods: list[Pod]) -> None:
    pod = start(pods)
    pod.connect()
    thief = Session("guessed")
    thief.connected()
    assert pod.connection is not None
    pod.connection.sendall(thief.to_send())
    while pod.connection.recv(4096):
        pass  # dropped
    pod.connect()
    pod.session.write(b"y")
    assert pod.exchange(1) == b"Y"


def test_the_workers_last_bytes_and_exit_code_arrive(pods: list[Pod]) -> None:
    code = (
        "import os, socket\n"
        "s = socket.socket(fileno=int(os.environ['CU_MARKET_CHANNEL_FD']))\n"
        "s.sendall(b'farewell'); raise SystemExit(7)\n"
    )
    pod = start(pods, code)
    pod.connect()
    assert pod.exchange(100) == b"farewell"
    assert pod.session.peer_end == "the worker ended with exit code 7"
    assert pod.process.wait(WAIT_SECONDS) == 7


def test_a_done_run_worker_ends_the_pod(pods: list[Pod]) -> None:
    pod = start(pods)
    pod.connect()
    pod.session.end("done")
    pod.exchange(1)
    assert pod.process.wait(WAIT_SECONDS) == 0


def test_nobody_comes_for_too_long(pods: list[Pod]) -> None:
    pod = start(pods, disconnect_seconds=0.2)
    # Nobody will fetch the last bytes either: the host waits for that, then gives up.
    assert pod.process.wait(WAIT_SECONDS) == 0


def test_a_deleted_pods_worker_is_ended_and_told_of(pods: list[Pod]) -> None:
    pod = start(pods)
    pod.connect()
    pod.session.write(b"z")
    assert pod.exchange(1) == b"Z"
    pod.process.send_signal(signal.SIGTERM)
    pod.exchange(1)
    assert pod.session.peer_end == "the worker ended with exit code 143"
    assert pod.process.wait(WAIT_SECONDS) == 143


def test_it_is_the_standard_librarys_alone() -> None:
    code = "import cu_market.ral.kubernetes.host, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    roots = {name.partition(".")[0] for name in done.stdout.split()}
    assert roots - {"cu_market", "__main__"} <= {*sys.stdlib_module_names, "_distutils_hack"} | {
        name for name in roots if name.startswith("__editable__")
    }


def test_it_is_not_started_by_hand() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cu_market.ral.kubernetes.host"],
        capture_output=True,
        text=True,
        check=False,
        env={k: v for k, v in os.environ.items() if k != TOKEN_VARIABLE},
    )
    assert done.returncode == 2
    assert "not started by hand" in done.stderr
