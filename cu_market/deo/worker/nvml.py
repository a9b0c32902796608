"""What NVIDIA's management library (NVML) tells of this machine's GPUs, by ``nvidia-ml-py``."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


class DeviceLostError(Exception):
    """A device that does not answer any more."""


class Device:
    """One GPU, as one step's meter asks it. What the device or its driver does not tell is None.

    Args:
        handle: NVML's.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._since_us = time.time_ns() // 1000

    def process_bytes(self) -> Mapping[int, int] | None:
        """Returns the memory of each process that computes on the device.

        Raises:
            DeviceLostError: it does not answer.
        """
        import pynvml

        found = _ask(pynvml.nvmlDeviceGetComputeRunningProcesses, self._handle)
        if found is None or any(process.usedGpuMemory is None for process in found):
            return None
        used: dict[int, int] = {}
        for process in found:  # on a divided GPU a process stands there once a part
            used[process.pid] = used.get(process.pid, 0) + int(process.usedGpuMemory)
        return used

    def process_percent(self) -> Mapping[int, float] | None:
        """Returns each process's mean share of the device's cores since the last call; others: 0.

        Raises:
            DeviceLostError: it does not answer.
        """
        import pynvml

        ask = pynvml.nvmlDeviceGetProcessUtilization
        try:
            found = _ask(ask, self._handle, self._since_us)
        except _NoSamplesError:
            return {}
        if found is None:
            return None
        shares: dict[int, list[int]] = {}
        for sample in found:
            shares.setdefault(sample.pid, []).append(sample.smUtil)
            self._since_us = max(self._since_us, sample.timeStamp)
        return {pid: sum(each) / len(each) for pid, each in shares.items()}

    def used_bytes(self) -> int | None:
        """Returns the device's memory in use, whoever's it is.

        Raises:
            DeviceLostError: it does not answer.
        """
        import pynvml

        found = _ask(pynvml.nvmlDeviceGetMemoryInfo, self._handle)
        return None if found is None else int(found.used)

    def used_percent(self) -> float | None:
        """Returns the share of time in which the device was lately busy, whoever's it is.

        Raises:
            DeviceLostError: it does not answer.
        """
        import pynvml

        found = _ask(pynvml.nvmlDeviceGetUtilizationRates, self._handle)
        return None if found is None else float(found.gpu)


def open_devices() -> Sequence[Device]:
    """Returns the GPUs that this process sees: none without package, library, driver or device."""
    return [Device(handle) for handle in _handles()]


@functools.cache
def _handles() -> Sequence[Any]:
    """Returns NVML's handles. It is initialised once a process, and is no hindrance to forks."""
    try:
        import pynvml
    except ImportError:
        return ()
    found = []
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        for index in range(pynvml.nvmlDeviceGetCount()):
            with contextlib.suppress(pynvml.NVMLError):  # one that has failed hides no other
                found.append(pynvml.nvmlDeviceGetHandleByIndex(index))
    return found


class _NoSamplesError(Exception):
    """NVML has no samples since the moment asked for: nobody has used the device."""


def _ask(function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns what NVML says, or None where this device, driver or user is not told."""
    import pynvml

    try:
        return function(*arguments)
    except pynvml.NVMLError as error:
        if error.value == pynvml.NVML_ERROR_NOT_FOUND:
            raise _NoSamplesError from error
        if error.value in (
            pynvml.NVML_ERROR_NOT_SUPPORTED,
            pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
            pynvml.NVML_ERROR_NO_PERMISSION,
        ):
            return None
        raise DeviceLostError(str(error)) from error
