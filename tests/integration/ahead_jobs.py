"""Jobs on schedules: one whose ticks launch it, one whose ticks are skipped."""

import os

import dagster as dg
import pandas as pd

from cu_market import compute, market_executor


@dg.op(tags=compute(cpu=0.25, memory="256MiB", sizing="fixed"))
def first(context: dg.OpExecutionContext) -> int:
    context.log.info(f"zygote {os.getppid()}")
    return len(pd.DataFrame({"a": [1, 2]}))


@dg.op(tags=compute(cpu=0.25, memory="256MiB", sizing="fixed"))
def second(rows: int) -> int:
    return rows


@dg.job(executor_def=market_executor)
def ticking_job() -> None:
    second(first())


@dg.job(executor_def=market_executor)
def skipping_job() -> None:
    first()


ticking = dg.ScheduleDefinition(
    name="ticking",
    job=ticking_job,
    cron_schedule="* * * * *",
    execution_timezone="Europe/Berlin",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
skipping = dg.ScheduleDefinition(
    name="skipping",
    job=skipping_job,
    cron_schedule="* * * * *",
    should_execute=lambda _: False,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)

defs = dg.Definitions(jobs=[ticking_job, skipping_job], schedules=[ticking, skipping])
