"""A worker process of this machine and the socket that ties it to its starter."""

from __future__ import annotations

import os
import secrets
import select
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Protocol

from cu_market.ral.local.process import (
    CHANNEL_VARIABLE,
    RUN_ID_VARIABLE,
    WORKER_VARIABLE,
    holder_of,
)
from cu_market.ral.provider import EndKind, WorkerEnd, WorkerLaunch

_CHUNK_BYTES = 64 * 1024
_SEND_TIMEOUT_SECONDS = 60.0

# Processes of closed workers that had not ended yet. Held here until they have: none stays a zombie
# for longer than until the next worker starts, and none is forgotten while it still runs.
_ending: list[Process] = []
_ending_lock = threading.Lock()


class Process(Protocol):
    """A worker's process, its starter's child or another's: its id, and its exit code once it has
    ended."""

    @property
    def pid(self) -> int:
        """Returns the process id."""

    def poll(self) -> int | None:
        """Returns the exit code, or None while it runs."""


class LocalWorker:
    """A started worker and its end of the channel. For use by one thread.

    Attributes:
        holder: names the process; see cu_market.ral.local.process.
        pid: its process id.
    """

    def __init__(
        self,
        process: Process,
        channel: socket.socket,
        holder: str,
        *,
        send_timeout_seconds: float = _SEND_TIMEOUT_SECONDS,
    ) -> None:
        self.holder = holder
        self.pid = process.pid
        self._process = process
        self._channel = channel
        self._send_timeout_seconds = send_timeout_seconds
        # What arrived while a send was waiting. A selector would not see it, since it has left the
        # socket: so fileno() is a selector over the socket and a bell that rings while it is here.
        self._arrived = bytearray()
        self._bell, self._bell_rope = socket.socketpair()
        self._readable = selectors.DefaultSelector()
        self._readable.register(channel, selectors.EVENT_READ)
        self._readable.register(self._bell, selectors.EVENT_READ)

    def fileno(self) -> int:
        """Returns a descriptor that is readable when receive() would not block; -1 once closed."""
        if self._channel.fileno() < 0:
            return -1
        number: int = self._readable.fileno()
        return number

    def send(self, data: bytes) -> None:
        """Sends all of data, taking in what arrives meanwhile: two full pipes never lock up.

        Raises:
            OSError: the channel is gone.
            TimeoutError: (an OSError) the worker has read nothing for a minute.
        """
        left = memoryview(data)
        while left:
            try:
                sent = self._channel.send(left, socket.MSG_DONTWAIT)
            except BlockingIOError:
                self._wait_for_room()
            else:
                left = left[sent:]

    def receive(self) -> bytes:
        """Returns what has arrived, about 64 KiB at most; empty when the channel has closed."""
        if self._arrived:
            data = bytes(self._arrived)
            self._arrived.clear()
            self._bell.recv(1)
            return data
        if self._channel.fileno() < 0:
            return b""
        try:
            return os.read(self._channel.fileno(), _CHUNK_BYTES)
        except ConnectionResetError:
            return b""  # the worker ended with something unread: closed all the same

    def close(self) -> None:
        """Closes the channel: the worker then ends itself and its steps."""
        self._readable.close()
        for end in (self._channel, self._bell, self._bell_rope):
            end.close()
        collect_ended(self._process)

    def exit_code(self) -> int | None:
        """Returns the process's exit code (negative: the signal), or None while it runs."""
        return self._process.poll()

    def end(self) -> WorkerEnd | None:
        """Returns its exit code and the words for it, or None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        how = f"ended by signal {-code}" if code < 0 else f"exited with code {code}"
        detail = f"the worker's process {self.pid} {how}"
        return WorkerEnd(kind=EndKind.EXITED, detail=detail, exit_code=code)

    def _wait_for_room(self) -> None:
        """Returns when the socket takes more, having kept what came in until then."""
        watch = select.poll()
        watch.register(self._channel, select.POLLIN | select.POLLOUT)
        ready = watch.poll(self._send_timeout_seconds * 1000)
        if not ready:
            raise TimeoutError(
                f"worker {self.holder} has read nothing for {self._send_timeout_seconds:.0f} s"
            )
        _, events = ready[0]
        if events & select.POLLIN and not events & select.POLLOUT:
            data = self._channel.recv(_CHUNK_BYTES, socket.MSG_DONTWAIT)
            if not data:
                raise BrokenPipeError(f"worker {self.holder} has closed its channel")
            if not self._arrived:
                self._bell_rope.send(b"!")
            self._arrived += data


def start_worker(launch: WorkerLaunch) -> LocalWorker:
    """Starts a worker as a session of its own by a clean exec of this interpreter.

    PR_SET_PDEATHSIG is not used: it fires when the *thread* that forked ends. A worker learns of
    its starter's death from its end of the channel.

    Raises:
        OSError: it cannot be started; nothing is left open or running.
    """
    token = secrets.token_hex(8)
    collect_ended()
    with ExitStack() as on_failure:
        ours, theirs = socket.socketpair()
        on_failure.callback(ours.close)
        with theirs, ExitStack() as opened:
            log = (
                opened.enter_context(open(launch.log_path, "ab"))
                if launch.log_path is not None
                else None
            )
            process = subprocess.Popen(
                [sys.executable, *launch.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=launch.working_directory,
                env=_environment(launch, token, theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        on_failure.pop_all()
    # A child that has ended already is a zombie until it is waited for, so it still has a holder.
    return LocalWorker(process, ours, holder_of(process.pid, token))


def collect_ended(*closed: Process) -> None:
    """Takes the exit codes of closed workers' processes that have ended; waits for none."""
    with _ending_lock:
        _ending[:] = [process for process in [*_ending, *closed] if process.poll() is None]


def _environment(launch: WorkerLaunch, token: str, channel_fd: int) -> Mapping[str, str]:
    """Returns the inherited environment, the launch's additions, and what makes it findable."""
    return {
        **os.environ,
        **launch.environment,
        RUN_ID_VARIABLE: launch.run_id,
        WORKER_VARIABLE: token,
        CHANNEL_VARIABLE: str(channel_fd),
    }
