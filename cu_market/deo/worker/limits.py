"""What a step's own process sets up for itself before any user code runs."""

from __future__ import annotations

import contextlib
import os
import sys

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "POLARS_MAX_THREADS",
)


def set_niceness(niceness: int) -> None:
    """Lowers the process's CPU priority by that much."""
    if niceness > 0:
        with contextlib.suppress(OSError):
            os.nice(niceness)


def set_thread_pools(cpu_millis: int, inherited: dict[str, str | None]) -> None:
    """Sets numerical libraries' pools to the cores that the step has.

    What the user's environment says stays. Pools loaded before the fork are set through
    threadpoolctl where it is installed; ones loaded later read the environment.

    Args:
        cpu_millis: thousandths of a core; a part of a core counts as one.
        inherited: the variables' values as the user set them, before the worker held them at one.
    """
    threads = max(1, -(-cpu_millis // 1000))
    for name in THREAD_VARIABLES:
        value = inherited.get(name)
        os.environ[name] = value if value is not None else str(threads)
    pools = sys.modules.get("threadpoolctl")
    if pools is not None:
        asked = inherited.get("OMP_NUM_THREADS") or ""
        pools.threadpool_limits(limits=int(asked) if asked.isdigit() else threads)


def reseed() -> None:
    """Gives the forked process random numbers of its own; siblings would all draw the same."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
