"""A running step as its zygote sees it: process, channel, meter, ending."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from dataclasses import asdict
from typing import Any

import psutil

from cu_market.deo.worker.frames import Decoder, Frame
from cu_market.deo.worker.kernel_oom import kernel_oom_kills
from cu_market.deo.worker.meter import Meter
from cu_market.deo.worker.recorder import POINTS, CurveRecorder
from cu_market.deo.worker.resident import ResidentSet
from cu_market.deo.worker.samples import Samples
from cu_market.domain.units import format_bytes
from cu_market.domain.usage import Ending

METER_SECONDS = 0.05


class StepProcess:
    """One step's process.

    Args:
        stream: the fencing token of its lease.
        pid: the process, which leads its own group.
        connection: the zygote's end of the step's channel.
        memory_limit: bytes; the step is ended past it.
        baseline_bytes: private memory of the code loaded before the fork.
        is_watched: whether its samples are told while it runs.
        curve_points: how finely its use over time is kept.
        has_gpu: whether its lease has a GPU.
    """

    def __init__(
        self,
        *,
        stream: int,
        pid: int,
        connection: socket.socket,
        memory_limit: int,
        baseline_bytes: int,
        is_watched: bool = False,
        curve_points: int = POINTS,
        has_gpu: bool = False,
    ) -> None:
        self.stream = stream
        self.pid = pid
        self.connection = connection
        self.decoder = Decoder()
        self.memory_limit = memory_limit
        self.logs: list[LogMirror] = []
        self.is_finished = False
        self.is_closed = False
        self.error: str | None = None
        self._ending: Ending | None = None
        self._detail = ""
        self._interrupted = False
        self._meter = Meter(pid, baseline_bytes, has_gpu=has_gpu)
        self._metered_at = float("-inf")
        self._oom_kills = kernel_oom_kills() or 0
        self._recorder = CurveRecorder(curve_points)
        self._samples = Samples() if is_watched else None

    def fileno(self) -> int:
        """Returns the descriptor of the step's channel."""
        return self.connection.fileno()

    def watch(self) -> None:
        """Samples the step, at most every METER_SECONDS, and ends it past its memory limit."""
        now = time.monotonic()
        if now - self._metered_at < METER_SECONDS:
            return
        self._metered_at = now
        used = self._meter.sample(now=now)
        self._record()
        if used > self.memory_limit and self._ending is None:
            self._ending = Ending.OUT_OF_MEMORY
            self._detail = (
                f"out of memory: used {format_bytes(used)} of {format_bytes(self.memory_limit)}"
            )
            self.kill()

    def take_samples(self) -> list[tuple[int, int]]:
        """Returns the samples that are to be told now: (milliseconds, bytes), oldest first."""
        if self._samples is None or self._ending is not None:
            return []
        return self._samples.take(self.memory_limit)

    def _record(self) -> None:
        so_far = self._meter.measurement()
        if self._samples is not None:
            self._samples.add(so_far.wall_ms, self._meter.memory_bytes)
        self._recorder.add(
            so_far.wall_ms,
            self._meter.memory_bytes,
            so_far.cpu_ms,
            so_far.read_bytes + so_far.written_bytes,
        )

    def measure(self) -> Frame:
        """Returns the figures so far, sampled now."""
        with contextlib.suppress(psutil.Error):
            self._meter.sample()
        return asdict(self._meter.measurement())

    def finish(self, frame: Frame) -> None:
        """Takes what the step says as its last."""
        self.is_finished, self.error = True, frame["error"]
        memory = frame["memory"]
        self._meter.note_last(memory["private_bytes"], ResidentSet(**memory["resident"]))

    def interrupt(self) -> None:
        """Asks the step to end: Dagster turns the signal into its own interruption."""
        self._interrupted = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Ends the step and all that it started, at once."""
        for process in list(self._meter.processes()):
            with contextlib.suppress(psutil.Error):
                process.kill()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def lose(self) -> None:
        """Ends the step as one whose lease is gone."""
        self._ending = self._ending or Ending.PREEMPTED
        self.kill()

    def ended(self, status: int, usage: Any) -> Frame:
        """Returns the frame that tells how the step ended.

        Args:
            status: as waitpid gives it.
            usage: the kernel's rusage of the process and its waited-for children.
        """
        self.kill()  # whatever it left behind
        code = os.waitstatus_to_exitcode(status)
        ending = self._ending or self._classify(code)
        cpu_ms = round(1000 * (usage.ru_utime + usage.ru_stime))
        return {
            "kind": "ended",
            "stream": self.stream,
            "ending": ending.value,
            "detail": self._detail,
            "exit_code": code,
            "finished": self.is_finished,
            "error": self.error,
            "memory_limit": self.memory_limit,
            "measurement": asdict(self._meter.measurement(cpu_ms=cpu_ms)),
            "curve": self._recorder.curve().to_record(),
        }

    def _classify(self, code: int) -> Ending:
        if self.is_finished:
            return Ending.OK
        if self._interrupted:
            return Ending.INTERRUPTED
        if code == -signal.SIGKILL and (kernel_oom_kills() or 0) > self._oom_kills:
            limit = format_bytes(self.memory_limit)
            self._detail = f"out of memory: killed by the kernel, leased {limit}"
            return Ending.OUT_OF_MEMORY
        self._detail = (
            f"the step's process was ended by signal {signal.Signals(-code).name}"
            if code < 0
            else f"the step's process exited with code {code} before its step had ended"
        )
        return Ending.LOST


class LogMirror:
    """Copies what a step writes to its captured output on to the worker's own."""

    def __init__(self, path: str, output: str) -> None:
        self._path = path
        self._fd = 2 if output == "stderr" else 1
        self._offset = 0

    def copy(self) -> None:
        """Copies what is new."""
        with contextlib.suppress(OSError), open(self._path, "rb") as file:
            file.seek(self._offset)
            while data := file.read(65536):
                self._offset += len(data)
                os.write(self._fd, data)
