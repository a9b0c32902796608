"""Runs one of the benchmarks' jobs in a fresh instance and reads times from its event log."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dagster import DagsterEventType, DagsterInstance, execute_job
from dagster._core.definitions.reconstruct import ReconstructableRepository

HERE = Path(__file__).parent


@contextmanager
def fresh_instance() -> Iterator[DagsterInstance]:
    """Yields an instance of its own home, removed afterwards."""
    home = tempfile.mkdtemp(prefix="cu_market_bench_")
    Path(home, "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    before = os.environ.get("DAGSTER_HOME")
    os.environ["DAGSTER_HOME"] = home
    try:
        with DagsterInstance.get() as instance:
            yield instance
    finally:
        if before is None:
            del os.environ["DAGSTER_HOME"]
        else:
            os.environ["DAGSTER_HOME"] = before
        shutil.rmtree(home, ignore_errors=True)


def run_job(instance: DagsterInstance, job: str, run_config: Mapping[str, Any]) -> str:
    """Runs a job to its end; returns its run_id.

    Raises:
        RuntimeError: it failed.
    """
    repository = ReconstructableRepository.for_file(
        str(HERE / "step_start_job.py"), "defs", str(HERE)
    )
    result = execute_job(
        repository.get_reconstructable_job(job), instance, run_config=dict(run_config)
    )
    if not result.success:
        raise RuntimeError(f"{job} failed under {run_config}")
    return result.run_id


def event_times(instance: DagsterInstance, run_id: str, kind: DagsterEventType) -> list[float]:
    """Returns when events of a kind happened, rising, seconds since the epoch."""
    return sorted(entry.timestamp for entry in instance.all_logs(run_id, of_type=kind))


def progress(text: str) -> None:
    """Tells a person what goes on, on stderr."""
    print(text, file=sys.stderr, flush=True)
