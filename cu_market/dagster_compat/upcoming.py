"""What an instance says of launches to come, and of those that came: no code location is loaded.

Private: InstigatorState's data and status, the plan snapshot of a job's last run, backfills'
remaining partitions; seen in 1.13.27. Default-on schedules are DECLARED_IN_CODE, not RUNNING. Which
job a schedule launches is read from the runs that carry its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.scheduler.instigation import InstigatorStatus, ScheduleInstigatorData
from dagster._core.storage.tags import BACKFILL_ID_TAG, SCHEDULE_NAME_TAG
from dagster._utils.schedules import schedule_execution_time_iterator

from cu_market.dagster_compat.outline import location_name, outline_of_snapshot
from cu_market.domain.outline import RunOutline

Job = tuple[str, str]
"""(code location, job)."""

WAITING = [DagsterRunStatus.QUEUED, DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING]
NEWEST_RUNS = 2000


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
    instance: DagsterInstance, now: datetime, horizon: timedelta
) -> list[tuple[Job, datetime]]:
    """Returns ticks of schedules that are on and have launched before, earliest first."""
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
            now.timestamp(), data.cron_schedule, execution_timezone=_timezone(state)
        )
        for moment in moments:
            at = moment.astimezone(UTC)
            if at > now + horizon:
                break
            found.append((job_of(last[0]), at))
    return sorted(found, key=lambda each: each[1])


def last_outline(instance: DagsterInstance, job: Job) -> RunOutline | None:
    """Returns the plan of a job's newest run that has one, or None."""
    for run in instance.get_runs(RunsFilter(job_name=job[1]), limit=20):
        if job_of(run) == job and run.execution_plan_snapshot_id:
            snapshot = instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
            return outline_of_snapshot(run, snapshot)
    return None


def _timezone(state: object) -> str | None:
    """Returns None: a stored state does not say the schedule's time zone (UTC is taken)."""
    return getattr(state, "execution_timezone", None)
