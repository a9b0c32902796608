"""Waits for the end of a run that Dagster has been asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cu_market.cli.exits import CommandError, NothingFoundError

if TYPE_CHECKING:
    from dagster import DagsterRun

POLL_SECONDS = 0.5
SEARCHED = 500
"""How many of the newest runs an id's beginning is looked for among."""


def await_run(home: Path, said: str, seconds: float) -> None:
    """Returns once a run has ended, however it did. A run may still be queued, with no auction yet.

    Args:
        home: DAGSTER_HOME.
        said: ``last``, an id, or the beginning of one.
        seconds: to wait at most.

    Raises:
        NothingFoundError: no such run.
        CommandError: it has not ended by then.
    """
    from dagster import DagsterInstance

    ends_at = time.monotonic() + seconds
    with DagsterInstance.from_config(str(home)) as instance:
        run_id = _find(instance.get_runs(limit=1 if said == "last" else SEARCHED), said)
        while True:
            run = instance.get_run_by_id(run_id)
            if run is None:
                raise NothingFoundError(f"run {run_id}: deleted")
            if run.is_finished:
                return
            if time.monotonic() >= ends_at:
                status = run.status.value
                raise CommandError(
                    f"run {run_id}: {status} after {seconds:g} s; wait longer with --wait"
                )
            time.sleep(POLL_SECONDS)


def _find(runs: Sequence[DagsterRun], said: str) -> str:
    """Returns the newest of these runs that was meant."""
    for run in runs:
        if said == "last" or run.run_id.startswith(said):
            return run.run_id
    raise NothingFoundError(f"run {said!r}: Dagster has no such run")
