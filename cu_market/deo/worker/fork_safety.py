"""Whether this process may fork a step.

A fork copies the calling thread alone: a lock that another thread holds stays locked for ever in
the child, and an OpenMP pool that has run waits for threads that are not there (seen: a
HistGradientBoosting fit in the parent hung the child).
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path


def reason_not_to_fork() -> str | None:
    """Returns why a fork is unsafe now, or None when it is safe."""
    python_threads = [t for t in threading.enumerate() if t is not threading.main_thread()]
    if python_threads:
        names = ", ".join(sorted(t.name for t in python_threads))
        return f"importing the code started {len(python_threads)} Python thread(s): {names}"
    native = native_thread_names()
    if len(native) > 1:
        return (
            f"importing the code started {len(native) - 1} native thread(s), such as an OpenMP "
            f"pool: {', '.join(native)}"
        )
    return None


FORK_SAFE_THREADS = frozenset({"jemalloc_bg_thd"})
"""Threads that their library stops before a fork and starts again after it: jemalloc's, which comes
with pyarrow (seen in 25.0)."""


def native_thread_names() -> list[str]:
    """Returns the kernel's names of this process's threads, fork-safe ones left out."""
    names = []
    with contextlib.suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):
                names.append((task / "comm").read_text().strip())
    return sorted(name for name in names if name not in FORK_SAFE_THREADS)
