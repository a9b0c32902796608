"""What the kernel tells of a process's memory."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from typing import Any

import psutil


@dataclass(frozen=True, slots=True)
class ResidentSet:
    """Pages of a process that are in memory, in bytes.

    Attributes:
        own_bytes: anonymous ones and shared memory, not those of files.
        total_bytes: all; 0 for a process that has ended.
        peak_bytes: most at any time; at least total_bytes.
    """

    own_bytes: int
    total_bytes: int
    peak_bytes: int


_FIELDS = {b"VmHWM": "peak", b"VmRSS": "total", b"RssAnon": "own", b"RssShmem": "shared"}


def read_resident(pid: int) -> ResidentSet:
    """Returns the resident set of a process; elsewhere than on Linux all of it counts as own.

    Raises:
        psutil.NoSuchProcess: there is none; one that ended but was not waited for reads as zeros.
    """
    try:
        status = open(f"/proc/{pid}/status", "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return _of_psutil(pid)
    found = dict.fromkeys(_FIELDS.values(), 0)
    with status, contextlib.suppress(ProcessLookupError):
        for line in status:
            name, _, value = line.partition(b":")
            if name in _FIELDS:
                found[_FIELDS[name]] = int(value.split()[0]) * 1024
    total = found["total"]
    return ResidentSet(found["own"] + found["shared"], total, max(found["peak"], total))


def process_private_bytes(process: psutil.Process) -> int:
    """Returns bytes that only this process holds, swapped-out ones included."""
    memory = process.memory_full_info()
    return int(memory.uss + getattr(memory, "swap", 0))


def read_own_memory() -> dict[str, Any]:
    """Returns this process's private bytes and its resident set, as a frame takes them."""
    process = psutil.Process()
    resident = asdict(read_resident(process.pid))
    return {"private_bytes": process_private_bytes(process), "resident": resident}


def _of_psutil(pid: int) -> ResidentSet:
    total = int(psutil.Process(pid).memory_info().rss)
    return ResidentSet(total, total, total)
