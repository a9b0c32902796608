"""What an attempt really used, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cu_market.domain.features import NO_FEATURES, StepFeatures
from cu_market.domain.request import StepIdentity


class Ending(StrEnum):
    """How an attempt ended."""

    OK = "ok"
    ERROR = "error"
    OUT_OF_MEMORY = "out of memory"
    LOST = "lost"
    PREEMPTED = "preempted"
    INTERRUPTED = "interrupted"


class GpuScope(StrEnum):
    """Whose the figures of a GPU are."""

    PROCESS = "the step's processes"
    DEVICE = "the whole device"
    MIXED = "memory: the step's processes; utilisation: the whole device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The meter's figures of one attempt.

    Attributes:
        wall_ms: milliseconds from the step's process start to its end.
        cpu_ms: CPU-milliseconds of the process and what it started.
        peak_memory_bytes: most private bytes held at once; never the shared pages of a fork.
        baseline_bytes: memory of the code loaded before the step began, which a cold process
            needs on top.
        read_bytes: bytes read from storage.
        written_bytes: bytes written to storage.
        waited_ms: milliseconds spent runnable but without a core (the kernel's run-queue delay),
            or None where the kernel does not say.
        gpu_peak_bytes: most GPU memory held at once, all devices together, or None where no GPU
            was used or nobody tells.
        gpu_busy_millis: mean GPU utilisation, in thousandths of one device, all together, or None.
        gpu_scope: whose figures these are, one of GpuScope, or None.
    """

    wall_ms: int
    cpu_ms: int
    peak_memory_bytes: int
    baseline_bytes: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    waited_ms: int | None = None
    gpu_peak_bytes: int | None = None
    gpu_busy_millis: int | None = None
    gpu_scope: str | None = None

    @property
    def delivered_millis(self) -> int | None:
        """Share of the CPU asked for that was given, in thousandths, or None if unknown."""
        if self.waited_ms is None or self.cpu_ms + self.waited_ms < 50:
            return None  # too little CPU time for the ratio to say anything
        return 1000 * self.cpu_ms // (self.cpu_ms + self.waited_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One row of history: one attempt's identity, what it was given, what it used.

    Attributes:
        run_id, step_key, attempt: the allocation's key.
        identity: what history is kept by.
        code_version: the asset's or op's declared version, or empty.
        job_name: for display only.
        provider, resource_id: where it ran.
        started_at, ended_at: aware UTC.
        cpu_millis, memory_bytes: the size it was given.
        measurement: what it used.
        ending: how it ended.
        input_bytes: bytes of its inputs as measured when upstream wrote them, or None.
        features: what else was known of its work.
        declared_bytes: the memory that its own tags asked for, or None.
        external: only waited for a remote system; not learned from.
    """

    run_id: str
    step_key: str
    attempt: int
    identity: StepIdentity
    code_version: str = ""
    job_name: str = ""
    provider: str
    resource_id: str
    started_at: datetime
    ended_at: datetime
    cpu_millis: int
    memory_bytes: int
    measurement: Measurement
    ending: Ending
    input_bytes: int | None = None
    features: StepFeatures = NO_FEATURES
    declared_bytes: int | None = None
    external: bool = False
