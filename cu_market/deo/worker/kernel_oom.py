"""How often the kernel has killed for memory in this process's control group.

Signal 9 alone does not say why. In a container of cgroup v1, or of v2 without memory.oom.group, the
kernel kills one process and the container lives on: only this counter tells (kubernetes#117793).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


def kernel_oom_kills(root: Path = Path("/")) -> int | None:
    """Returns the kills so far, or None where the kernel does not say.

    Args:
        root: of the file system that holds proc and sys.
    """
    for path in _counters(root):
        with contextlib.suppress(OSError, ValueError):
            for line in path.read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return None


def _counters(root: Path) -> Iterator[Path]:
    """Yields where the counter may be: the group's own, else the mount's root (a container's)."""
    groups = root / "sys/fs/cgroup"
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                yield groups / path.lstrip("/") / "memory.events"
            elif "memory" in controllers.split(","):
                yield groups / "memory" / path.lstrip("/") / "memory.oom_control"
    yield groups / "memory.events"
    yield groups / "memory" / "memory.oom_control"
