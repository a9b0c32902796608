"""What this machine really has: cores and memory, as the kernel will grant them.

A container sees the whole host in ``/proc``, so the totals that psutil reports are only an upper
bound: CPU affinity and the control groups (versions 1 and 2, the tightest on the way up) cut it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import psutil

from cu_market.domain.units import GIB, MILLIS


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Usable cores and memory, and what set each of them.

    Attributes:
        cpu_millis: thousandths of a core that may be used at once.
        memory_bytes: bytes that may be used before the kernel ends a process.
        cpu_source: what cut the cores: ``affinity`` or the control group's file.
        memory_source: what cut the memory: ``physical`` or the control group's file.
    """

    cpu_millis: int
    memory_bytes: int
    cpu_source: str = "affinity"
    memory_source: str = "physical"


@dataclass(frozen=True, slots=True)
class _Mount:
    """One control group hierarchy: where it is mounted and which part of it is seen there."""

    directory: Path
    root: str
    controllers: frozenset[str]  # empty for version 2, which has one hierarchy for all


def read_machine(
    root: Path = Path("/"),
    *,
    usable_cores: int | None = None,
    physical_bytes: int | None = None,
) -> Machine:
    """Returns the smallest of what hardware, affinity and control groups allow.

    Args:
        root: where ``proc`` and ``sys`` are looked for.
        usable_cores: cores that this process may run on; asked of the kernel if None.
        physical_bytes: the machine's memory; asked of the kernel if None.
    """
    cores = count_usable_cores() if usable_cores is None else usable_cores
    memory = psutil.virtual_memory().total if physical_bytes is None else physical_bytes
    cpu, memory_limit = (cores * MILLIS, "affinity"), (memory, "physical")
    for directory, version in _own_groups(root):
        cpu = min(cpu, *_cpu_quotas(directory, version))
        memory_limit = min(memory_limit, *_memory_limits(directory, version))
    return Machine(
        cpu_millis=cpu[0],
        memory_bytes=memory_limit[0],
        cpu_source=cpu[1],
        memory_source=memory_limit[1],
    )


def count_usable_cores() -> int:
    """Returns how many cores this process may be scheduled on (cpusets are part of it)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_reserve_bytes(memory_bytes: int) -> int:
    """Returns what is kept back for the control plane: max(1 GiB, a tenth), at most half."""
    return min(max(GIB, memory_bytes // 10), memory_bytes // 2)


def _own_groups(root: Path) -> Iterator[tuple[Path, int]]:
    """Yields (directory, cgroup version) of this process's groups, each with all its ancestors."""
    mounts = list(_mounts(root))
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        controllers = frozenset(filter(None, names.split(",")))
        for mount in mounts:
            version = 1 if mount.controllers else 2
            if (version == 2) == (not controllers) and controllers <= mount.controllers:
                for directory in _ancestry(mount, path):
                    yield directory, version


def _mounts(root: Path) -> Iterator[_Mount]:
    """Yields the control group hierarchies that mountinfo (see proc(5)) lists."""
    for line in _read(root / "proc/self/mountinfo").splitlines():
        fields, dash, described = line.partition(" - ")
        left, right = fields.split(" "), described.split(" ")
        if not dash or len(left) < 5 or right[0] not in ("cgroup", "cgroup2"):
            continue
        options = frozenset(right[-1].split(",")) if right[0] == "cgroup" else frozenset()
        directory = root / _unescape(left[4]).lstrip("/")
        yield _Mount(directory=directory, root=_unescape(left[3]), controllers=options)


def _ancestry(mount: _Mount, path: str) -> Iterator[Path]:
    """Yields the group's directory and each one above it, up to the mount point.

    A container without a cgroup namespace sees its host's path in ``/proc/self/cgroup`` while only
    its own part is mounted (``root`` says which); a group outside of what is mounted (``/../x``)
    shows nothing but the mount point.
    """
    group = PurePosixPath(path)
    below = PurePosixPath()
    if ".." not in group.parts and group.is_relative_to(mount.root):
        below = group.relative_to(mount.root)
    for part in (below, *below.parents):
        yield mount.directory / part


def _cpu_quotas(directory: Path, version: int) -> Iterator[tuple[int, str]]:
    """Yields (milli-cores, file) where the group has a CPU quota, else a bound nobody meets."""
    if version == 2:
        name = "cpu.max"
        quota, _, period = _read(directory / name).partition(" ")
    else:
        name = "cpu.cfs_quota_us"
        quota, period = _read(directory / name), _read(directory / "cpu.cfs_period_us")
    if quota.isdigit() and period.isdigit() and int(period) > 0:
        yield max(1, int(quota) * MILLIS // int(period)), name
    yield _UNBOUNDED


def _memory_limits(directory: Path, version: int) -> Iterator[tuple[int, str]]:
    """Yields (bytes, file) where the group limits memory, else a bound nobody meets."""
    name = "memory.max" if version == 2 else "memory.limit_in_bytes"
    limit = _read(directory / name)
    if limit.isdigit() and int(limit) > 0:
        yield int(limit), name  # version 1 says "none" by a number near 2^63: the minimum drops it
    yield _UNBOUNDED


_UNBOUNDED = (2**63, "")


def _read(path: Path) -> str:
    """Returns a file's text without its end of line, empty where there is no such file."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""  # not Linux, another cgroup version, or hidden from this container: no limit here


def _unescape(field: str) -> str:
    """Returns a mountinfo field with its octal escapes (space, tab, newline, backslash) undone."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, character)
    return field
