"""Measures what a step's processes use, from outside them.

Memory is private bytes (USS): a forked child's resident set holds its parent's pages too, and would
show 192 MB for a step that owns 28. Reading USS walks the page tables, so it is read again only
after the resident set has moved; in between, what the anonymous pages grew by is counted as private
(pages of files are not: a forked child maps its parent's anew as it touches them). A peak between
two samples is not missed: the kernel keeps the largest resident set, and what that was above the
present one counts too.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from cu_market.deo.worker.gpu import GpuMeter
from cu_market.deo.worker.resident import ResidentSet, process_private_bytes, read_resident
from cu_market.domain.usage import Measurement

RESCAN_SECONDS = 0.5
"""How often the process tree is walked: a walk reads every process of the machine."""

REMEASURE_RATIO = 0.05
REMEASURE_BYTES = 8 * 2**20
REMEASURE_SECONDS = 1.0


@dataclass(slots=True)
class _Member:
    """One process of the step, as last seen. Sums keep what it used after it has ended."""

    process: psutil.Process
    peak_resident_bytes: int
    private_bytes: int = 0
    spike_bytes: int = 0
    at_private: ResidentSet | None = None
    private_at: float = float("-inf")
    cpu_seconds: float = 0.0
    read_bytes: int = 0
    written_bytes: int = 0
    waited_ns: int = 0

    def spike_of(self, resident: ResidentSet) -> int:
        """Returns by how much the process was above its resident set since it was last read."""
        has_grown = resident.peak_bytes > self.peak_resident_bytes
        return resident.peak_bytes - resident.total_bytes if has_grown else 0


class Meter:
    """Watches one step: its process and all that descend from it.

    Args:
        pid: the step's process.
        baseline_bytes: private memory of the code loaded before the fork.
        has_gpu: whether the step holds a GPU.
    """

    def __init__(self, pid: int, baseline_bytes: int = 0, *, has_gpu: bool = False) -> None:
        self._started = time.monotonic()
        self._gpu = GpuMeter(self._started, has_gpu=has_gpu)
        self._baseline_bytes = baseline_bytes
        self._members: dict[int, _Member] = {}
        self._ended: list[_Member] = []
        self._scanned_at = float("-inf")
        self._root = psutil.Process(pid)
        self._peak_bytes = 0
        self._memory_bytes = 0
        # Only what grows from here on is the step's: a forked child starts with its parent's peak.
        self._members[pid] = self._root_member = _Member(self._root, read_resident(pid).peak_bytes)

    @property
    def memory_bytes(self) -> int:
        """Private bytes at the last sample."""
        return self._memory_bytes

    @property
    def peak_bytes(self) -> int:
        """Most private bytes at any moment, also between samples where the kernel tells of it."""
        return self._peak_bytes

    def sample(self, *, now: float | None = None) -> int:
        """Reads every process of the step once; returns private bytes now."""
        now = time.monotonic() if now is None else now
        if now - self._scanned_at >= RESCAN_SECONDS:
            self._scanned_at = now
            self._adopt_children()
        for pid, member in list(self._members.items()):
            try:
                self._read(member, now)
            except psutil.ZombieProcess:
                pass  # its counters were read before; the memory is gone
            except (psutil.NoSuchProcess, ProcessLookupError):
                self._ended.append(member)
                member.private_bytes = 0
                del self._members[pid]
        self._gpu.sample(self._members, now)
        self._memory_bytes = sum(member.private_bytes for member in self._members.values())
        spike = max((member.spike_bytes for member in self._members.values()), default=0)
        self._peak_bytes = max(self._peak_bytes, self._memory_bytes + spike)
        return self._memory_bytes

    def note_last(self, private_bytes: int, resident: ResidentSet) -> None:
        """Takes the step's own reading at its end, which no sample is sure to catch."""
        root = self._root_member
        others = self._memory_bytes - root.private_bytes
        spike = root.spike_of(resident)
        self._peak_bytes = max(self._peak_bytes, others + private_bytes + spike)

    def measurement(self, *, cpu_ms: int | None = None) -> Measurement:
        """Returns the figures so far.

        Args:
            cpu_ms: the kernel's own total for the ended process and its children, which no
                sampling can miss, or None while it runs.
        """
        everyone = [*self._members.values(), *self._ended]
        waited = sum(member.waited_ns for member in everyone)
        gpu = self._gpu.use()
        sampled_ms = round(1000 * sum(member.cpu_seconds for member in everyone))
        return Measurement(
            wall_ms=round(1000 * (time.monotonic() - self._started)),
            cpu_ms=max(cpu_ms or 0, sampled_ms),
            peak_memory_bytes=self._peak_bytes,
            baseline_bytes=self._baseline_bytes,
            read_bytes=sum(member.read_bytes for member in everyone),
            written_bytes=sum(member.written_bytes for member in everyone),
            waited_ms=waited // 10**6 if waited else None,
            gpu_peak_bytes=gpu.peak_bytes if gpu else None,
            gpu_busy_millis=gpu.busy_millis if gpu else None,
            gpu_scope=gpu.scope if gpu else None,
        )

    def processes(self) -> Iterator[psutil.Process]:
        """Yields the processes seen at the last walk."""
        for member in self._members.values():
            yield member.process

    def _adopt_children(self) -> None:
        with contextlib.suppress(psutil.Error):
            for child in self._root.children(recursive=True):
                if child.pid not in self._members:
                    self._members[child.pid] = _Member(child, read_resident(child.pid).peak_bytes)

    def _read(self, member: _Member, now: float) -> None:
        process = member.process
        with process.oneshot():
            times = process.cpu_times()
            member.cpu_seconds = times.user + times.system
        self._read_private(member, now)
        with contextlib.suppress(psutil.AccessDenied, AttributeError):
            counters = process.io_counters()
            member.read_bytes = counters.read_bytes
            member.written_bytes = counters.write_bytes
        member.waited_ns = max(member.waited_ns, _run_queue_wait_ns(process.pid))

    def _read_private(self, member: _Member, now: float) -> None:
        resident = read_resident(member.process.pid)
        if resident.total_bytes == 0:
            member.private_bytes = member.spike_bytes = 0  # it has ended
            return
        before = member.at_private
        moved = abs(resident.total_bytes - before.total_bytes) if before else 0
        threshold = max(REMEASURE_BYTES, int(REMEASURE_RATIO * resident.total_bytes))
        stale = moved > 0 and now - member.private_at >= REMEASURE_SECONDS
        if before is None or moved > threshold or stale:
            with contextlib.suppress(psutil.AccessDenied):
                member.private_bytes = process_private_bytes(member.process)
                member.at_private, member.private_at = resident, now
        elif resident.own_bytes > before.own_bytes:
            member.private_bytes += resident.own_bytes - before.own_bytes
            member.at_private = resident
        member.spike_bytes = member.spike_of(resident)
        member.peak_resident_bytes = max(resident.peak_bytes, member.peak_resident_bytes)


def _run_queue_wait_ns(pid: int) -> int:
    """Returns nanoseconds that the process's threads were runnable but not running, 0 if unknown.

    Linux only: the second figure of each thread's schedstat.
    """
    waited = 0
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError, IndexError, ValueError):
                waited += int((task / "schedstat").read_text().split()[1])
    return waited
