"""Workers of this machine that are started ahead of their run, and how a run worker gets one.

Such a worker listens on an abstract Unix socket (Linux) that is named by its token, and loads the
code before it hears anybody. A connection says one line: ``look``, which is answered and keeps it
standing by for longer, or ``take RUN``, after which that connection is the worker's channel, as if
it had been started with it. Only processes of the same user are heard. One that nobody looks after
for its time ends.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from cu_market.ral.local.process import (
    RUN_ID_VARIABLE,
    WORKER_VARIABLE,
    holder_of,
    is_alive,
    parse_holder,
)
from cu_market.ral.local.variables import STANDBY_VARIABLE
from cu_market.ral.local.worker_process import LocalWorker, collect_ended
from cu_market.ral.provider import HolderStatus, Standby, WorkerLaunch

IS_POSSIBLE = sys.platform == "linux"

STANDBY_SECONDS = 30.0
"""How long a worker stands by that nobody looks after."""

_NAME = "\0cu-market-standby-"
_LOOK, _TAKE = b"look", b"take"
_ANSWER = b"ready\n"
_HEAR_SECONDS = 5.0
_LOOK_SECONDS = 0.1
"""How long a look waits for its answer: a worker that still loads gives none."""

_PAUSE_SECONDS = 0.02
_BACKLOG = 128
"""Looks that come while it loads wait here, and whoever takes it then behind them."""

_PER_PROCESS = frozenset({"PWD", "OLDPWD", "SHLVL", "_", "PYTEST_CURRENT_TEST", "SF_PARTNER"})
"""Variables of a shell or a process that no step goes by; the last one is what a code server of
Dagster 1.13 sets for its run workers beyond what it inherits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandbyTerms:
    """What a worker that was started ahead goes by.

    Attributes:
        token: names its socket.
        seconds: how long it stands by that nobody looks after.
    """

    token: str
    seconds: float


def standby_of(environment: MutableMapping[str, str]) -> StandbyTerms | None:
    """Returns the terms of this process, taken out of its environment; None where it was not
    started ahead."""
    seconds = environment.pop(STANDBY_VARIABLE, None)
    if seconds is None:
        return None
    return StandbyTerms(token=environment[WORKER_VARIABLE], seconds=float(seconds))


# -- the worker's side


def open_standby(terms: StandbyTerms) -> socket.socket:
    """Returns the socket by which this process can be taken from now on, while it loads its code.

    Raises:
        OSError: another has it.
    """
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{_NAME}{terms.token}")
    listener.listen(_BACKLOG)
    return listener


def await_run(listener: socket.socket, terms: StandbyTerms) -> socket.socket | None:
    """Returns the channel to the run worker that takes this process, or None where none came."""
    with listener:
        until = time.monotonic() + terms.seconds
        while (left := until - time.monotonic()) > 0:
            if not select.select([listener], [], [], left)[0]:
                return None
            connection, _ = listener.accept()
            said = _hear(connection)
            if said.startswith(_TAKE):
                os.environ[RUN_ID_VARIABLE] = said.partition(b" ")[2].decode()
                return connection
            connection.close()
            if said == _LOOK:
                until = time.monotonic() + terms.seconds
    return None


def _hear(connection: socket.socket) -> bytes:
    """Returns what a process of this user has said; empty for any other, or one that has left."""
    connection.settimeout(_HEAR_SECONDS)
    peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", peer)
    if user not in (os.getuid(), 0):
        return b""
    try:
        said = _read_line(connection)
        if said == _LOOK:
            connection.sendall(_ANSWER)
    except OSError:
        return b""
    connection.settimeout(None)
    return said


def _read_line(connection: socket.socket) -> bytes:
    """Returns a line without its end, and reads nothing past it.

    Raises:
        OSError: the connection ends before it.
    """
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            raise ConnectionResetError("the connection closed within a line")
        line += byte
    return bytes(line[:-1])


# -- the market's side


def fit_of(launch: WorkerLaunch) -> str:
    """Returns a digest of all by which a process on this machine differs from another: host,
    interpreter, directory, environment, and where the job's code is."""
    origin = getattr(launch.run, "job_code_origin", None)
    variables = sorted(item for item in os.environ.items() if item[0] not in _PER_PROCESS)
    parts = (
        socket.gethostname(),
        sys.executable,
        launch.working_directory or os.getcwd(),
        variables,
        repr(getattr(origin, "repository_origin", None)),
    )
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def start_standby(launch: WorkerLaunch, *, seconds: float = STANDBY_SECONDS) -> str:
    """Starts a worker that stands by, as a session of its own; returns its holder.

    Raises:
        OSError: it cannot be started.
    """
    token = secrets.token_hex(16)
    collect_ended()
    environment: Mapping[str, str] = {
        **os.environ,
        **launch.environment,
        RUN_ID_VARIABLE: launch.run_id,
        WORKER_VARIABLE: token,
        STANDBY_VARIABLE: f"{seconds:g}",
    }
    process = subprocess.Popen(
        [sys.executable, *launch.arguments],
        stdin=subprocess.DEVNULL,
        cwd=launch.working_directory,
        env=environment,
        start_new_session=True,
    )
    holder = holder_of(process.pid, token)
    collect_ended(process)  # so that it is no zombie once it has ended
    return holder


def look_after(holder: str) -> Standby:
    """Returns how a worker that was started ahead gets on, and has it stand by for longer."""
    collect_ended()
    if is_alive(holder) is not HolderStatus.RUNNING:
        return Standby.GONE
    try:
        with _say(holder, _LOOK) as connection:
            connection.settimeout(_LOOK_SECONDS)
            return Standby.READY if _read_line(connection) + b"\n" == _ANSWER else Standby.GONE
    except OSError:
        return Standby.STARTING if is_alive(holder) is HolderStatus.RUNNING else Standby.GONE


def take_over(holder: str, launch: WorkerLaunch) -> LocalWorker:
    """Returns the worker, whose channel is this process's; it may be loading its code yet.

    Raises:
        OSError: it has gone, or another has it.
    """
    deadline = time.monotonic() + _HEAR_SECONDS
    while True:
        try:
            channel = _say(holder, _TAKE + b" " + launch.run_id.encode())
            break
        except ConnectionRefusedError:
            # Its interpreter may just be starting: it listens before it loads anything.
            is_there = is_alive(holder) is HolderStatus.RUNNING
            if not is_there or time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
    channel.settimeout(None)
    identity = parse_holder(holder)
    assert identity is not None
    return LocalWorker(_Another(holder, identity.pid), channel, holder)


def _say(holder: str, what: bytes) -> socket.socket:
    identity = parse_holder(holder)
    if identity is None or not identity.token:
        raise ConnectionRefusedError(f"{holder!r} names no worker that stands by")
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(_HEAR_SECONDS)
        connection.connect(f"{_NAME}{identity.token}")
        connection.sendall(what + b"\n")
    except BaseException:
        connection.close()
        raise
    return connection


class _Another:
    """A process that is another's child: of its end no more is known than that."""

    def __init__(self, holder: str, pid: int) -> None:
        self._holder = holder
        self.pid = pid

    def poll(self) -> int | None:
        """Returns 1 once it has ended, None while it runs."""
        return 1 if is_alive(self._holder) is HolderStatus.ENDED else None
