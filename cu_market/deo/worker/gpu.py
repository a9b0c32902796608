"""Measures what a step uses of GPUs.

The driver keeps its account by process number. A step is not found there where the numbers are
another namespace's (containers), nor where the driver keeps no account of processes. Then the
figures of the devices stand in for those of a step that holds a GPU, and say so.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from cu_market.deo.worker.nvml import Device, DeviceLostError, open_devices
from cu_market.domain.usage import GpuScope

GPU_SECONDS = 0.25
"""How often the devices are asked. Their own samples of utilisation are about as old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuUse:
    """What a step has used of GPUs, all devices together.

    Attributes:
        peak_bytes: most device memory held at once.
        busy_millis: mean utilisation in thousandths of one GPU, or None where nobody tells.
        scope: whose figures these are.
    """

    peak_bytes: int
    busy_millis: int | None
    scope: GpuScope


@dataclass(slots=True)
class _Sums:
    """The highest memory, and utilisation in percent times seconds."""

    peak_bytes: int = 0
    percent_seconds: float = 0.0
    is_use_known: bool = True

    def add(self, memory_bytes: int, percent: float | None, seconds: float) -> None:
        self.peak_bytes = max(self.peak_bytes, memory_bytes)
        self.percent_seconds += (percent or 0.0) * seconds
        self.is_use_known = self.is_use_known and percent is not None

    def busy_millis(self, seconds: float) -> int | None:
        if not self.is_use_known or seconds <= 0:
            return None
        return round(10 * self.percent_seconds / seconds)


@dataclass(slots=True)
class _Reading:
    """What one device or all of them told at one moment."""

    is_listed: bool = False
    own_bytes: int = 0
    own_percent: float | None = 0.0
    all_bytes: int = 0
    all_percent: float | None = 0.0

    def plus(self, other: _Reading) -> _Reading:
        return _Reading(
            is_listed=self.is_listed or other.is_listed,
            own_bytes=self.own_bytes + other.own_bytes,
            own_percent=_sum(self.own_percent, other.own_percent),
            all_bytes=self.all_bytes + other.all_bytes,
            all_percent=_sum(self.all_percent, other.all_percent),
        )


class GpuMeter:
    """Watches the GPUs for one step.

    A device that fails while the step runs is asked no more; what it told before is kept.

    Args:
        now: monotonic seconds at the step's start.
        has_gpu: whether the step holds a GPU: only then a device's figures may stand for its own.
    """

    def __init__(self, now: float, *, has_gpu: bool = False) -> None:
        self._devices = list(open_devices())
        self._has_gpu = has_gpu
        self._sampled_at = now
        self._seconds = 0.0
        self._own, self._all = _Sums(), _Sums()
        self._has_sample = self._is_listed = False

    def sample(self, pids: Collection[int], now: float) -> None:
        """Asks each device, at most every GPU_SECONDS.

        Args:
            pids: the step's processes.
            now: monotonic seconds.
        """
        seconds = now - self._sampled_at
        if not self._devices or (self._has_sample and seconds < GPU_SECONDS):
            return
        self._sampled_at = now
        reading = _Reading()
        for device in list(self._devices):
            try:
                reading = reading.plus(_read(device, pids))
            except DeviceLostError:
                self._devices.remove(device)
        if not self._devices:
            return
        self._has_sample = True
        self._seconds += seconds
        self._is_listed = self._is_listed or reading.is_listed
        self._own.add(reading.own_bytes, reading.own_percent, seconds)
        self._all.add(reading.all_bytes, reading.all_percent, seconds)

    def use(self) -> GpuUse | None:
        """Returns the figures so far, or None where there are none of the step."""
        if not self._has_sample or not (self._is_listed or self._has_gpu):
            return None
        busy = self._all.busy_millis(self._seconds)
        if not self._is_listed:
            return GpuUse(peak_bytes=self._all.peak_bytes, busy_millis=busy, scope=GpuScope.DEVICE)
        own = self._own.busy_millis(self._seconds)
        peak = self._own.peak_bytes
        if own is None and busy is not None and self._has_gpu:
            return GpuUse(peak_bytes=peak, busy_millis=busy, scope=GpuScope.MIXED)
        return GpuUse(peak_bytes=peak, busy_millis=own, scope=GpuScope.PROCESS)


def _read(device: Device, pids: Collection[int]) -> _Reading:
    account, shares = device.process_bytes(), device.process_percent()
    listed = [used for pid, used in (account or {}).items() if pid in pids]
    return _Reading(
        is_listed=bool(listed),
        own_bytes=sum(listed),
        own_percent=None if shares is None else sum(shares.get(pid, 0.0) for pid in pids),
        all_bytes=device.used_bytes() or 0,
        all_percent=device.used_percent(),
    )


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other
