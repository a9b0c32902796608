"""Runs that wait in Dagster's queue, as far as a launch may look at them: launches are serial."""

from __future__ import annotations

import time
from collections.abc import Iterator

from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

from cu_market.dagster_compat.executor_config import executor_of
from cu_market.dagster_compat.outline import outline_of_snapshot
from cu_market.deo.settings import MARKET
from cu_market.domain.outline import RunOutline

MOST_QUEUED = 4
"""Each launch looks at the next few: all of them are launched in their turn."""

MOST_SECONDS = 0.1
"""No further run is read beyond that."""


def queued_outlines(instance: DagsterInstance, run_id: str) -> Iterator[RunOutline]:
    """Yields the runs that have waited longest in the queue and that the market will run.

    Read from the stored plans: no code is loaded.

    Args:
        instance: whose queue.
        run_id: of the run that is being launched: it is left out.
    """
    began = time.monotonic()
    waiting = RunsFilter(statuses=[DagsterRunStatus.QUEUED])
    for run in instance.get_runs(waiting, limit=MOST_QUEUED + 1, ascending=True):
        if time.monotonic() - began > MOST_SECONDS:
            return
        if run.run_id == run_id or run.execution_plan_snapshot_id is None:
            continue
        snapshot = instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
        executor, branch = executor_of(run, snapshot)
        if executor == MARKET and branch in (None, MARKET):
            yield outline_of_snapshot(run, snapshot)
