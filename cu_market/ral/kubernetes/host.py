"""Process 1 of a warm pod: starts the worker, keeps its channel through cuts, ends with it.

``python -m cu_market.ral.kubernetes.host ARGUMENTS...`` starts ``python ARGUMENTS...`` with the
channel's descriptor, as on the run worker's own machine. The run worker comes and goes by exec of a
bridge to this process's abstract Unix socket, or by a program that is started here for it where
exec is not allowed; the newest connection that knows the token holds the session. Another run
worker may take over from one that is gone: what that one had not stored is still here. Standard
library only.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import cast

from cu_market.ral.kubernetes.carrier_process import CarrierProcess
from cu_market.ral.kubernetes.session import Session, SessionError

SOCKET_PREFIX = "cu-market-"
TOKEN_VARIABLE = "CU_MARKET_WORKER_TOKEN"
CHANNEL_VARIABLE = "CU_MARKET_CHANNEL_FD"
DISCONNECT_VARIABLE = "CU_MARKET_DISCONNECT_SECONDS"
CARRIER_VARIABLE = "CU_MARKET_CARRIER"
"""Module of the program that carries the channel; not set: exec does."""

_CHUNK_BYTES = 256 * 1024
_FAREWELL_SECONDS = 15.0
"""How long the worker's last bytes are offered after it has ended."""

_CARRY_SECONDS = 5.0
"""How long what has been handed to the carrier may take to leave the pod."""

_KILL_SECONDS = 10.0
"""From the order to end until the worker's processes are killed."""

_CALLERS = 8
"""Connections that have not greeted yet, at most."""


class Host:
    """The event loop. One worker, at most one run worker at a time.

    Args:
        arguments: after the interpreter.
        token: names the socket and opens the session.
        disconnect_seconds: without a run worker for so long, the worker is ended.
        clock: monotonic seconds.
        carrier: module of a program that brings the run worker's connections; None: exec does.
    """

    def __init__(
        self,
        arguments: list[str],
        *,
        token: str,
        disconnect_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        carrier: str | None = None,
    ) -> None:
        self._session = Session(token)
        self._disconnect_seconds = disconnect_seconds
        self._clock = clock
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"\0{SOCKET_PREFIX}{token}")
        self._listener.listen(8)
        self._callers: dict[socket.socket, bytearray] = {}
        self._connection: socket.socket | None = None
        self._outgoing = bytearray()
        self._last_seen = clock()
        self._channel, theirs = socket.socketpair()
        with theirs:
            self._worker = subprocess.Popen(
                [sys.executable, *arguments],
                pass_fds=[theirs.fileno()],
                env={**os.environ, CHANNEL_VARIABLE: str(theirs.fileno())},
                start_new_session=True,
            )
        self._to_worker = bytearray()
        self._channel.setblocking(False)
        self._is_channel_open = True
        self._exit_code: int | None = None
        self._ended_at = 0.0
        self._kill_at: float | None = None
        self._is_terminated = False
        self._selector = selectors.DefaultSelector()
        self._carrier = CarrierProcess(carrier, clock) if carrier else None

    def run(self) -> int:
        """Serves until the worker has ended and its last bytes are delivered, or nobody comes.

        Returns:
            The worker's exit code as a shell gives it.
        """
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._terminate)
        self._selector.register(wake_read, selectors.EVENT_READ, "wake")
        self._selector.register(self._listener, selectors.EVENT_READ, "listener")
        self._selector.register(self._channel, selectors.EVENT_READ, "channel")
        while not self._is_over():
            self._listen()
            for key, events in self._selector.select(1.0):
                if key.data == "wake":
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake_read, 4096)
                elif key.data == "listener":
                    self._accept()
                elif key.data == "channel":
                    self._serve_channel(events)
                elif key.data == "caller":
                    self._hear_caller(cast(socket.socket, key.fileobj))
                elif key.fileobj is self._connection:
                    self._serve_connection(events)
            if self._is_terminated:
                self._end_worker()
            self._reap()
            self._watch_absence()
            if self._carrier is not None:
                self._carrier.watch()
        if self._carrier is not None:
            self._drop_connection()
            self._carrier.finish(_CARRY_SECONDS)
            if self._carrier.has_given_up:
                return 1
        return self._exit_code if self._exit_code is not None else 1

    def _terminate(self, *_: object) -> None:
        self._is_terminated = True  # the loop is woken by the signal and does the rest

    # -- connections

    def _accept(self) -> None:
        caller, _ = self._listener.accept()
        caller.setblocking(False)
        while len(self._callers) >= _CALLERS:
            self._drop_caller(next(iter(self._callers))).close()
        self._callers[caller] = bytearray()
        self._selector.register(caller, selectors.EVENT_READ, "caller")

    def _hear_caller(self, caller: socket.socket) -> None:
        """Takes a caller's greeting: who may hold the session displaces who holds it, whose end may
        have been cut without a word. Who was followed by another run worker may not."""
        if caller not in self._callers:
            return
        try:
            data = caller.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        heard = self._callers[caller]
        heard += data
        is_admitted = self._session.admits(bytes(heard)) if data else False
        if is_admitted is None:
            return
        if not is_admitted:
            print("cu_market: connection refused", file=sys.stderr, flush=True)
            self._drop_caller(caller).close()
            return
        while (older := next(iter(self._callers))) is not caller:
            self._drop_caller(older).close()
        self._drop_caller(caller)
        self._drop_connection()
        self._connection = caller
        self._outgoing.clear()
        self._session.connected()
        self._selector.register(caller, selectors.EVENT_READ, "connection")
        self._take(bytes(heard))

    def _drop_caller(self, caller: socket.socket) -> socket.socket:
        self._selector.unregister(caller)
        del self._callers[caller]
        return caller

    def _serve_connection(self, events: int) -> None:
        connection = self._connection
        assert connection is not None
        try:
            if events & selectors.EVENT_READ:
                data = connection.recv(_CHUNK_BYTES)
                if not data:
                    self._drop_connection()
                    return
                self._take(data)
            if events & selectors.EVENT_WRITE and self._outgoing and self._connection is connection:
                del self._outgoing[: connection.send(self._outgoing)]
        except BlockingIOError:
            return
        except OSError as error:
            self._drop_for(error)

    def _take(self, data: bytes) -> None:
        self._last_seen = self._clock()
        try:
            self._to_worker += self._session.feed(data)
        except SessionError as error:
            self._drop_for(error)
        if self._session.peer_end is not None and not self._to_worker:
            self._end_worker()

    def _drop_for(self, error: Exception) -> None:
        print(f"cu_market: connection dropped: {error}", file=sys.stderr, flush=True)
        self._drop_connection()

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._selector.unregister(self._connection)
            self._connection.close()
            self._connection = None

    # -- the worker

    def _serve_channel(self, events: int) -> None:
        try:
            if events & selectors.EVENT_READ:
                data = self._channel.recv(_CHUNK_BYTES)
                if not data:
                    self._close_channel()
                    return
                self._session.write(data)
            if events & selectors.EVENT_WRITE and self._to_worker:
                del self._to_worker[: self._channel.send(self._to_worker)]
                if self._session.peer_end is not None and not self._to_worker:
                    self._end_worker()
        except BlockingIOError:
            return
        except OSError:
            self._close_channel()

    def _close_channel(self) -> None:
        if self._is_channel_open:
            self._is_channel_open = False
            if self._channel in self._selector.get_map():
                self._selector.unregister(self._channel)
            self._channel.close()

    def _end_worker(self) -> None:
        """Ends the worker: it notices that its channel is gone, ends its steps and exits."""
        self._close_channel()
        if self._kill_at is None:
            self._kill_at = self._clock() + _KILL_SECONDS

    def _reap(self) -> None:
        """Takes every ended child: process 1 inherits the orphans of all steps."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            if self._carrier is not None and pid == self._carrier.pid:
                self._carrier.note_end(code)
                if self._carrier.has_given_up:
                    self._end_worker()  # nobody will ever come; it has said why
            if pid == self._worker.pid:
                self._worker.returncode = code
                self._exit_code = code if code >= 0 else 128 - code
                if self._is_terminated and code == 0:
                    self._exit_code = 128 + signal.SIGTERM  # it did end well, but not by itself
                self._ended_at = self._clock()
                self._drain_channel()
                self._session.end(f"the worker ended with exit code {self._exit_code}")

    def _drain_channel(self) -> None:
        while self._is_channel_open:
            try:
                data = self._channel.recv(_CHUNK_BYTES)
            except OSError:
                data = b""
            if not data:
                self._close_channel()
            self._session.write(data)

    # -- turns

    def _listen(self) -> None:
        """Asks the selector for what can make progress now."""
        if self._connection is not None:
            while len(self._outgoing) < _CHUNK_BYTES and (data := self._session.to_send()):
                self._outgoing += data
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outgoing else 0)
            self._selector.modify(self._connection, wanted, "connection")
        if self._is_channel_open:
            wanted = 0 if self._session.is_full else selectors.EVENT_READ
            wanted |= selectors.EVENT_WRITE if self._to_worker else 0
            is_watched = self._channel in self._selector.get_map()
            if wanted and is_watched:
                self._selector.modify(self._channel, wanted, "channel")
            elif wanted:
                self._selector.register(self._channel, wanted, "channel")
            elif is_watched:
                self._selector.unregister(self._channel)

    def _watch_absence(self) -> None:
        if self._connection is None and self._exit_code is None:
            gone = self._clock() - self._last_seen
            if gone > self._disconnect_seconds:
                print(
                    f"cu_market: no run worker for {gone:.0f} s: the worker is ended",
                    file=sys.stderr,
                    flush=True,
                )
                self._end_worker()
                self._disconnect_seconds = float("inf")

    def _is_over(self) -> bool:
        if self._exit_code is None:
            if self._kill_at is not None and self._clock() > self._kill_at:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._worker.pid, signal.SIGKILL)
            return False
        is_told = self._session.is_delivered and not self._outgoing
        if self._carrier is not None and self._carrier.has_given_up:
            return True
        return is_told or self._clock() - self._ended_at > _FAREWELL_SECONDS


def main() -> int:
    """Runs the worker that the arguments name, with what the environment says of the session."""
    token = os.environ.get(TOKEN_VARIABLE)
    if not token or len(sys.argv) < 2:
        print(
            f"cu_market.ral.kubernetes.host: wants {TOKEN_VARIABLE} and the worker's arguments; "
            "the kubernetes provider starts this program, it is not started by hand",
            file=sys.stderr,
        )
        return 2
    host = Host(
        sys.argv[1:],
        token=token,
        disconnect_seconds=float(os.environ.get(DISCONNECT_VARIABLE, "300")),
        carrier=os.environ.get(CARRIER_VARIABLE),
    )
    return host.run()


if __name__ == "__main__":
    sys.exit(main())
