"""A job whose steps run until they are ended."""

import time

import dagster as dg

from cu_market import compute, market_executor


@dg.op(tags=compute(cpu=0.5, memory="256MiB"))
def endless() -> None:
    while True:
        time.sleep(0.05)


@dg.op(tags=compute(cpu=0.5, memory="256MiB"))
def quick() -> int:
    return 1


@dg.job(executor_def=market_executor)
def endless_job() -> None:
    quick()
    endless.alias("endless_a")()
    endless.alias("endless_b")()


@dg.job(executor_def=market_executor)
def quick_job() -> None:
    quick()


@dg.job
def unrouted_job() -> None:
    quick()


@dg.job(tags={"cu/mode": "recommend"})
def recommended_job() -> None:
    quick()


defs = dg.Definitions(jobs=[endless_job, quick_job, unrouted_job, recommended_job])
