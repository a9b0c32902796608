"""What a worker has imported before anybody asks anything of it: the framework, and the code of the
run that it was started ahead of.

A worker that is started ahead loads a job's code as it is then. Where a file that it loaded has
changed by the time a run comes, its steps get fresh processes, which load it anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from cu_market.deo.worker.limits import THREAD_VARIABLES

PRELOAD_VARIABLE = "CU_MARKET_PRELOAD"
"""JSON of the job whose code is loaded ahead, as ReconstructableJob.to_dict gives it."""

Stamps = Mapping[str, tuple[int, int]]
"""Modification time in nanoseconds and size in bytes, by file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A process that is ready to load a run's code.

    Attributes:
        thread_variables: those of the environment, as they were before the imports.
        stamps: of every file that was loaded ahead; empty where nothing was.
    """

    thread_variables: Mapping[str, str | None]
    stamps: Stamps = field(default_factory=dict)


def prepare() -> Prepared:
    """Imports the framework before anybody has said which code to load: in a pod that takes about
    as long as it takes the run worker to reach it. Where the environment names a job, its code too.
    """
    variables = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # its pool would start at import, before the fork
    # Spinning OpenMP threads starve each other where cores are shared: a boosting fit at lower
    # priority on two busy cores took 31 s instead of 2.7 s.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Whatever is wrong, loading the run's code meets it again and tells it.
    with contextlib.suppress(Exception):
        import cu_market.dagster_compat.step_execution  # noqa: F401
    said = os.environ.pop(PRELOAD_VARIABLE, "")
    if not said:
        return Prepared(thread_variables=variables)
    with contextlib.suppress(Exception):
        _load_ahead(said)
    return Prepared(thread_variables=variables, stamps=stamps_of_loaded())


def _load_ahead(said: str) -> None:
    """Loads a job's code; the run's own load then finds it loaded."""
    from cu_market.dagster_compat.step_execution import load_job

    load_job(json.loads(said))


def stamps_of_loaded() -> Stamps:
    """Returns the stamps of the files of every module that is loaded."""
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    return {file: stamp for file in files if file and (stamp := _stamp(file)) is not None}


def changed_since(stamps: Stamps) -> str | None:
    """Returns a file that has changed since, or None."""
    return next((file for file, stamp in sorted(stamps.items()) if _stamp(file) != stamp), None)


def _stamp(file: str) -> tuple[int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
