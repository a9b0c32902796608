"""A run's steps and what they depend on, as Dagster has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cu_market.cli.exits import NothingFoundError

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from cu_market.domain.outline import RunOutline


def read_outline(instance: DagsterInstance, said: str) -> RunOutline:
    """Returns the outline of the run that was meant: ``last``, an id, or the beginning of one.

    Raises:
        NothingFoundError: none, several, or one without an execution plan.
    """
    from cu_market.dagster_compat.outline import outline_of_snapshot

    runs = [run for run in instance.get_runs() if said == "last" or run.run_id.startswith(said)]
    if not runs or runs[0].execution_plan_snapshot_id is None:
        raise NothingFoundError(f"run {said!r}: Dagster has no run of it with a plan")
    if said != "last" and len(runs) > 1:
        raise NothingFoundError(f"run {said!r} may be any of {len(runs)}: write more of it")
    snapshot = instance.get_execution_plan_snapshot(runs[0].execution_plan_snapshot_id)
    return outline_of_snapshot(runs[0], snapshot)
