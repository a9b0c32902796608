"""Process 1 of a warm pod: starts the worker, keeps its channel through cuts, ends with it.

``python -m cu_market.ral.kubernetes.host ARGUMENTS...`` starts ``python ARGUMENTS...`` with the
channel's descriptor, as on the run worker's own machine. The run worker comes and goes by exec of a
bridge to this process's abstract Unix socket; the newest connection that knows the token holds the
session. Standard library only.
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

from cu_market.ral.kubernetes.session import Session, SessionError

SOCKET_PREFIX = "cu-market-"
TOKEN_VARIABLE = "CU_MARKET_WORKER_TOKEN"
CHANNEL_VARIABLE = "CU_MARKET_CHANNEL_FD"
DISCONNECT_VARIABLE = "CU_MARKET_DISCONNECT_SECONDS"

_CHUNK_BYTES = 256 * 1024
_FAREWELL_SECONDS = 15.0
"""How long the worker's last bytes are offered after it has ended."""

_KILL_SECONDS = 10.0
"""From the order to end until the worker's processes are killed."""


class Host:
    """The event loop. One worker, at most one run worker at a time.

    Args:
        arguments: after the interpreter.
        token: names the socket and opens the session.
        disconnect_seconds: without a run worker for so long, the worker is ended.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        arguments: list[str],
        *,
        token: str,
        disconnect_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = Session(token)
        self._disconnect_seconds = disconnect_seconds
        self._clock = clock
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"\0{SOCKET_PREFIX}{token}")
        self._listener.listen(8)
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
                elif key.fileobj is self._connection:
                    self._serve_connection(events)
            if self._is_terminated:
                self._end_worker()
            self._reap()
            self._watch_absence()
        return self._exit_code if self._exit_code is not None else 1

    def _terminate(self, *_: object) -> None:
        self._is_terminated = True  # the loop is woken by the signal and does the rest

    # -- connections

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        connection.setblocking(False)
        # Displaces the older one: its run worker's end may have been cut without a word.
        self._drop_connection()
        self._connection = connection
        self._outgoing.clear()
        self._session.connected()
        self._selector.register(connection, selectors.EVENT_READ, "connection")
        self._last_seen = self._clock()

    def _serve_connection(self, events: int) -> None:
        connection = self._connection
        assert connection is not None
        try:
            if events & selectors.EVENT_READ:
                data = connection.recv(_CHUNK_BYTES)
                if not data:
                    self._drop_connection()
                    return
                self._last_seen = self._clock()
                self._to_worker += self._session.feed(data)
                if self._session.peer_end is not None and not self._to_worker:
                    self._end_worker()
            if events & selectors.EVENT_WRITE and self._outgoing:
                del self._outgoing[: connection.send(self._outgoing)]
        except BlockingIOError:
            return
        except (OSError, SessionError) as error:
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
            if pid == self._worker.pid:
                code = os.waitstatus_to_exitcode(status)
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
    )
    return host.run()


if __name__ == "__main__":
    sys.exit(main())
