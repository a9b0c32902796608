"""What launches the pipeline by itself: a clock, and a directory that is watched."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg

WATCH_VARIABLE = "CU_MARKET_EXAMPLE_INBOX"
"""Environment variable that names the directory; ``inbox`` in DAGSTER_HOME where it is not set."""

flights_job = dg.define_asset_job(
    "flights_job",
    selection=dg.AssetSelection.all(),
    description="The whole pipeline, from raw files to the report.",
)

every_morning = dg.ScheduleDefinition(
    name="every_morning",
    job=flights_job,
    cron_schedule="0 6 * * *",
    execution_timezone="America/New_York",
    description="Launches the pipeline at six in the morning, New York's time.",
)


@dg.sensor(job=flights_job, minimum_interval_seconds=10)
def inbox_changed(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Launches the pipeline when a file is put into the inbox, or one there changes."""
    inbox = watched_directory(context.instance.root_directory)
    if not inbox.is_dir():
        return dg.SkipReason(f"{inbox} is not a directory: create it, or set {WATCH_VARIABLE}")
    newest = newest_change_ns(inbox)
    if newest <= int(context.cursor or 0):
        return dg.SkipReason(f"nothing new in {inbox}")
    return dg.SensorResult(
        run_requests=[dg.RunRequest(run_key=f"inbox-{newest}")], cursor=str(newest)
    )


def watched_directory(dagster_home: str) -> Path:
    """Returns the directory that the sensor watches."""
    return Path(os.environ.get(WATCH_VARIABLE) or Path(dagster_home) / "inbox")


def newest_change_ns(directory: Path) -> int:
    """Returns when the newest file there changed, nanoseconds since 1970; 0 if there is none."""
    return max(
        (file.stat().st_mtime_ns for file in directory.iterdir() if file.is_file()), default=0
    )
