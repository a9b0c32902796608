"""Whether this process may fork a step.

A fork copies the calling thread alone: a lock that another thread holds stays locked for ever in
the child, and an OpenMP pool that has run waits for threads that are not there (seen: a
HistGradientBoosting fit in the parent hung the child).
"""

from __future__ import annotations

import threading
from pathlib import Path


def reason_not_to_fork() -> str | None:
    """Returns why a fork is unsafe now, or None when it is safe."""
    python_threads = [t for t in threading.enumerate() if t is not threading.main_thread()]
    if python_threads:
        names = ", ".join(sorted(t.name for t in python_threads))
        return f"importing the code started {len(python_threads)} Python thread(s): {names}"
    native = native_thread_count()
    if native is not None and native > 1:
        return f"importing the code started {native - 1} native thread(s), such as an OpenMP pool"
    return None


def native_thread_count() -> int | None:
    """Returns how many threads the kernel knows of this process, or None where it does not say."""
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    except OSError:
        return None
