"""What an instance says of launches to come, and of those that came: no code location is loaded.

Private: InstigatorState's data and status, the plan snapshot of a job's last run, backfills'
remaining partitions, the queue's limit, a run's code origin; seen in 1.13.27. Default-on schedules
are DECLARED_IN_CODE, not RUNNING. Which job a schedule launches is read from the runs that carry
its name; its time zone is told by a workspace alone, where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.run_coordinator.queued_run_coordinator import QueuedRunCoordinator
from dagster._core.scheduler.instigation import InstigatorStatus, ScheduleInstigatorData
from dagster._core.snap.execution_plan_snapshot import ExecutionPlanSnapshot
from dagster._core.storage.tags import (
    BACKFILL_ID_TAG,
    SCHEDULE_NAME_TAG,
    SCHEDULED_EXECUTION_TIME_TAG,
)
from dagster._core.workspace.context import BaseWorkspaceRequestContext
from dagster._utils.hosted_user_process import recon_job_from_origin
from dagster._utils.schedules import schedule_execution_time_iterator

from cu_market.dagster_compat.outline import location_name, outline_of_snapshot
from cu_market.domain.outline import RunOutline

Job = tuple[str, str]
"""(code location, job)."""

WAITING = [DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING]
NEWEST_RUNS = 2000

JUST_STARTED = timedelta(minutes=2)

Zones = Mapping[str, str | None]
"""A schedule's time zone by its selector's id."""

UTC_ALONE: Zones = {}


def job_of(run: DagsterRun) -> Job:
    """Returns a run's code location and job."""
    return location_name(run), run.job_name


def arrivals(instance: DagsterInstance, since: datetime) -> Iterator[tuple[Job, datetime]]:
    """Yields launches by sensors and people since then; ticks and backfills are known otherwise."""
    records = instance.get_run_records(RunsFilter(created_after=since), limit=NEWEST_RUNS)
    for record in records:
        tags = record.dagster_run.tags
        if SCHEDULE_NAME_TAG not in tags and BACKFILL_ID_TAG not in tags:
            yield job_of(record.dagster_run), record.create_timestamp.astimezone(UTC)


def queued(instance: DagsterInstance) -> list[tuple[Job, datetime]]:
    """Returns runs that wait to start, with when they were created."""
    records = instance.get_run_records(RunsFilter(statuses=WAITING), limit=NEWEST_RUNS)
    return [(job_of(r.dagster_run), r.create_timestamp.astimezone(UTC)) for r in records]


def next_to_start(instance: DagsterInstance, now: datetime) -> list[DagsterRun]:
    """Returns runs that wait to start and are let start next, oldest first, behind those that
    have just started: their run workers may be loading their code yet.

    As many as the queue's limit has room for: limits by tag are not looked at.
    """
    records = instance.get_run_records(
        RunsFilter(statuses=WAITING), limit=NEWEST_RUNS, ascending=True
    )
    runs = [record.dagster_run for record in records]
    just = RunsFilter(statuses=[DagsterRunStatus.STARTED], updated_after=now - JUST_STARTED)
    started = [
        *instance.get_runs(just),
        *(run for run in runs if run.status is not DagsterRunStatus.QUEUED),
    ]
    waiting = [run for run in runs if run.status is DagsterRunStatus.QUEUED]
    if not isinstance(instance.run_coordinator, QueuedRunCoordinator):
        return started + waiting
    queue = instance.get_concurrency_config().run_queue_config
    limit = -1 if queue is None else queue.max_concurrent_runs
    if limit < 0:
        return started + waiting
    going = instance.get_runs_count(RunsFilter(statuses=_GOING))
    return started + waiting[: max(0, limit - going)]


_GOING = [
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


def due_at(instance: DagsterInstance, run: DagsterRun) -> datetime | None:
    """Returns when a run's launch was due: its schedule's tick, else when it was created."""
    said = run.tags.get(SCHEDULED_EXECUTION_TIME_TAG)
    if said is not None:
        return datetime.fromisoformat(said).astimezone(UTC)
    record = instance.get_run_record_by_id(run.run_id)
    return None if record is None else record.create_timestamp.astimezone(UTC)


def code_of(run: DagsterRun) -> Mapping[str, Any] | None:
    """Returns where a run's job is defined, as ReconstructableJob.to_dict gives it, or None where
    the run does not say."""
    origin = run.job_code_origin
    return None if origin is None else recon_job_from_origin(origin).to_dict()


def zones_of(workspace: BaseWorkspaceRequestContext) -> Zones:
    """Returns the time zone of each schedule of the workspace's code locations that are loaded."""
    return {
        schedule.selector_id: schedule.execution_timezone
        for location in workspace.code_locations
        for repository in location.get_repositories().values()
        for schedule in repository.get_schedules()
    }


def remaining_backfills(instance: DagsterInstance) -> list[tuple[Job, int]]:
    """Returns, by job, partitions that backfills in progress have not launched yet."""
    found = []
    for backfill in instance.get_backfills(status=BulkActionStatus.REQUESTED, limit=50):
        newest = instance.get_runs(
            RunsFilter(tags={BACKFILL_ID_TAG: backfill.backfill_id}), limit=1
        )
        total = len(backfill.partition_names or ())
        if not newest or not total:
            continue  # an asset backfill that has launched nothing yet: its jobs are not known
        launched = instance.get_runs_count(RunsFilter(tags={BACKFILL_ID_TAG: backfill.backfill_id}))
        if total > launched:
            found.append((job_of(newest[0]), total - launched))
    return found


def ticks(
    instance: DagsterInstance, now: datetime, horizon: timedelta, zones: Zones = UTC_ALONE
) -> list[tuple[Job, datetime]]:
    """Returns ticks of schedules that are on and have launched before, earliest first.

    Args:
        instance: whose schedules.
        now: the present.
        horizon: how far ahead.
        zones: time zones where they are known; UTC else, since a stored state does not say it.
    """
    found: list[tuple[Job, datetime]] = []
    for state in instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE):
        data = state.instigator_data
        if state.status is InstigatorStatus.STOPPED or not isinstance(data, ScheduleInstigatorData):
            continue
        last = instance.get_runs(
            RunsFilter(tags={SCHEDULE_NAME_TAG: state.instigator_name}), limit=1
        )
        if not last:
            continue
        moments = schedule_execution_time_iterator(
            now.timestamp(), data.cron_schedule, execution_timezone=zones.get(state.selector_id)
        )
        for moment in moments:
            at = moment.astimezone(UTC)
            if at > now + horizon:
                break
            found.append((job_of(last[0]), at))
    return sorted(found, key=lambda each: each[1])


def last_outline(instance: DagsterInstance, job: Job) -> RunOutline | None:
    """Returns the plan of a job's newest run that has one, or None."""
    found = last_plan(instance, job)
    return None if found is None else outline_of_snapshot(*found)


def last_plan(
    instance: DagsterInstance, job: Job
) -> tuple[DagsterRun, ExecutionPlanSnapshot] | None:
    """Returns a job's newest run that has a plan, and that plan, or None."""
    for run in instance.get_runs(RunsFilter(job_name=job[1]), limit=20):
        if job_of(run) == job and run.execution_plan_snapshot_id:
            return run, instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
    return None
