"""The worker that stays warm on a CU: loads the code once and forks a process for each step.

It imports, forks, meters and forwards; it never executes a step. One thread, no database, so that a
fork is safe; where importing the code has started threads, steps get fresh processes instead. When
its channel closes, every step of it ends, and so does it.

Frames it takes: load, step, stored, interrupt, lose, grow, attach, close. Frames it gives: ready,
failed, started, entry, samples, ended, attached.

A run worker that takes over from another says attach. By attached it knows that it has all that its
predecessor had not stored, which steps were begun here, and up to which entry each has got.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import traceback
from collections import deque
from typing import Any

import psutil

from cu_market.deo.worker.fork_safety import reason_not_to_fork
from cu_market.deo.worker.frames import Decoder, Frame, encode
from cu_market.deo.worker.preload import Prepared, changed_since, prepare
from cu_market.deo.worker.recorder import FINE_POINTS, POINTS
from cu_market.deo.worker.resident import process_private_bytes
from cu_market.deo.worker.step import STEP_FD_VARIABLE, run_forked
from cu_market.deo.worker.step_process import METER_SECONDS, LogMirror, StepProcess
from cu_market.domain.usage import Ending

logger = logging.getLogger(__name__)

BACKLOG_BYTES = 8 * 2**20
"""Past it, steps are not read from until the run worker has caught up."""


class Zygote:
    """The warm worker's event loop.

    Args:
        channel: connected socket to the executor.
        prepared: what this process has imported; it does so when it begins to serve, unless given.
    """

    def __init__(self, channel: socket.socket, prepared: Prepared | None = None) -> None:
        self._channel = channel
        self._channel.setblocking(False)
        self._decoder = Decoder()
        self._outgoing: deque[bytes] = deque()
        self._outgoing_bytes = 0
        self._steps: dict[int, StepProcess] = {}
        self._begun: dict[int, int] = {}
        self._loaded: Any = None
        self._outline: Frame = {}
        self._unsafe: str | None = None
        self._baseline_bytes = 0
        self._prepared = prepared
        self._is_closing = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(channel, selectors.EVENT_READ, "channel")
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, selectors.EVENT_READ, "wake")

    def run(self) -> None:
        """Serves until the channel closes."""
        signal.set_wakeup_fd(self._wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's ^C is the executor's
        self._prepared = self._prepared or prepare()
        try:
            while not self._is_closing:
                for key, events in self._selector.select(METER_SECONDS if self._steps else None):
                    self._serve(key.data, events)
                for step in self._steps.values():
                    with contextlib.suppress(psutil.Error):
                        step.watch()
                    if samples := step.take_samples():
                        self._send({"kind": "samples", "stream": step.stream, "samples": samples})
                self._reap()
        finally:
            for step in self._steps.values():
                step.kill()

    # -- what arrives

    def _serve(self, source: Any, events: int) -> None:
        if source == "wake":
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 4096)
        elif source == "channel":
            if events & selectors.EVENT_WRITE:
                self._flush()
            if events & selectors.EVENT_READ:
                self._read_channel()
        else:
            self._read_step(source)

    def _read_channel(self) -> None:
        try:
            data = self._channel.recv(262144)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._is_closing = True
            return
        for frame in self._decoder.feed(data):
            self._handle(frame)

    def _handle(self, frame: Frame) -> None:
        kind = frame["kind"]
        if kind == "load":
            self._load(frame["outline"])
        elif kind == "step":
            self._start(frame)
        elif kind == "attach":
            self._tell_what_runs()
        elif kind == "close":
            self._is_closing = True
        else:
            step = self._steps.get(frame["stream"])
            if step is None:
                return  # it has ended meanwhile
            if kind == "stored":
                with contextlib.suppress(OSError):
                    step.connection.sendall(encode(frame))
            elif kind == "interrupt":
                step.interrupt()
            elif kind == "lose":
                step.lose()
            elif kind == "grow":
                step.memory_limit = int(frame["memory_bytes"])

    def _read_step(self, step: StepProcess) -> None:
        try:
            data = step.connection.recv(262144)
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(step.connection)
            step.is_closed = True
            return
        for frame in step.decoder.feed(data):
            self._forward(step, frame)

    def _forward(self, step: StepProcess, frame: Frame) -> None:
        if frame["kind"] == "finished":
            step.finish(frame)
        elif frame["kind"] == "log":
            step.logs.append(LogMirror(frame["path"], frame["output"]))
        else:
            self._begun[step.stream] = int(frame["number"])
            if frame["event"] == "ASSET_MATERIALIZATION":
                frame["measurement"] = step.measure()
            self._send({**frame, "stream": step.stream})

    # -- the code

    def _load(self, outline: Frame) -> None:
        self._outline = outline
        stale = changed_since(self._prepared.stamps if self._prepared is not None else {})
        if stale is not None:  # what is loaded is not what the run is to run: each step loads anew
            self._unsafe = f"{stale} has changed since it was loaded ahead"
        else:
            try:
                from cu_market.dagster_compat.step_execution import LoadedRun, RunOutline

                loaded = LoadedRun(RunOutline(**outline))
                loaded.load_code()
            except BaseException:  # noqa: BLE001 - an import may raise anything, SystemExit too
                self._send({"kind": "failed", "error": traceback.format_exc()})
                return
            self._loaded = loaded
            self._unsafe = reason_not_to_fork()
        gc.collect()
        gc.freeze()  # keeps the collector from touching, and so copying, the shared pages
        self._baseline_bytes = process_private_bytes(psutil.Process())
        self._send(
            {
                "kind": "ready",
                "pid": os.getpid(),
                "baseline_bytes": self._baseline_bytes,
                "no_fork": self._unsafe,
            }
        )

    # -- steps

    def _start(self, frame: Frame) -> None:
        ours, theirs = socket.socketpair()
        assert self._prepared is not None
        frame["thread_variables"] = dict(self._prepared.thread_variables)
        self._unsafe = self._unsafe or reason_not_to_fork()
        with theirs:
            try:
                pid = (
                    self._spawn(theirs, frame) if self._unsafe else self._fork(ours, theirs, frame)
                )
            except OSError as error:
                ours.close()
                self._send_unstarted(frame, error)
                return
            if self._unsafe:
                ours.sendall(encode({**frame, "outline": self._outline}))
        step = StepProcess(
            stream=frame["stream"],
            pid=pid,
            connection=ours,
            memory_limit=int(frame["memory_bytes"]),
            is_watched=bool(frame.get("is_watched")),
            has_gpu=bool(frame.get("gpu_count")),
            curve_points=FINE_POINTS if frame.get("is_new") else POINTS,
            baseline_bytes=0 if self._unsafe else self._baseline_bytes,
        )
        self._steps[step.stream] = step
        self._begun[step.stream] = 0
        self._selector.register(ours, selectors.EVENT_READ, step)
        self._send({"kind": "started", "stream": step.stream, "pid": pid})

    def _tell_what_runs(self) -> None:
        """Tells every step that was begun here, and the number of its latest entry."""
        self._send({"kind": "attached", "begun": list(self._begun.items())})

    def _fork(self, ours: socket.socket, theirs: socket.socket, frame: Frame) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            ours.close()
            self._channel.close()
            self._selector.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            for sibling in self._steps.values():
                sibling.connection.close()
            run_forked(theirs, self._loaded, frame)
        return pid

    @staticmethod
    def _spawn(theirs: socket.socket, frame: Frame) -> int:
        environment = {**os.environ, STEP_FD_VARIABLE: str(theirs.fileno())}
        process = subprocess.Popen(
            [sys.executable, "-m", "cu_market.deo.worker.step"],
            pass_fds=[theirs.fileno()],
            env=environment,
            start_new_session=True,
        )
        pid = process.pid
        process.returncode = 0  # reaped here by wait4, not by Popen
        return pid

    def _send_unstarted(self, frame: Frame, error: OSError) -> None:
        self._begun[frame["stream"]] = 0
        self._send(
            {
                "kind": "ended",
                "stream": frame["stream"],
                "ending": Ending.LOST.value,
                "detail": f"the step's process could not be started: {error}",
                "exit_code": None,
                "finished": False,
                "error": None,
                "measurement": {"wall_ms": 0, "cpu_ms": 0, "peak_memory_bytes": 0},
            }
        )

    def _reap(self) -> None:
        for stream, step in list(self._steps.items()):
            for mirror in step.logs:
                mirror.copy()
            pid, status, usage = os.wait4(step.pid, os.WNOHANG)
            if pid == 0:
                continue
            step.connection.setblocking(False)
            while self._has_more(step):
                pass
            for mirror in step.logs:
                mirror.copy()
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(step.connection)
            step.connection.close()
            del self._steps[stream]
            self._send(step.ended(status, usage))

    def _has_more(self, step: StepProcess) -> bool:
        """Forwards what the ended step had still sent; whether there may be more."""
        try:
            data = step.connection.recv(262144)
        except OSError:
            return False
        for frame in step.decoder.feed(data):
            self._forward(step, frame)
        return bool(data)

    # -- what leaves

    def _send(self, frame: Frame) -> None:
        data = encode(frame)
        self._outgoing.append(data)
        self._outgoing_bytes += len(data)
        self._flush()

    def _flush(self) -> None:
        while self._outgoing:
            data = self._outgoing[0]
            try:
                sent = self._channel.send(data)
            except BlockingIOError:
                break
            except OSError:
                self._is_closing = True
                return
            self._outgoing_bytes -= sent
            if sent < len(data):
                self._outgoing[0] = data[sent:]
            else:
                self._outgoing.popleft()
        self._listen()

    def _listen(self) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._outgoing else 0)
        self._selector.modify(self._channel, events, "channel")
        is_behind = self._outgoing_bytes > BACKLOG_BYTES
        for step in self._steps.values():
            is_read = step.connection in self._selector.get_map()
            if is_behind and is_read:
                self._selector.unregister(step.connection)
            elif not is_behind and not is_read and not step.is_closed:
                with contextlib.suppress(ValueError):
                    self._selector.register(step.connection, selectors.EVENT_READ, step)
