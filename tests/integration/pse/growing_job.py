"""A small pipeline whose input grows from run to run, until one step needs twice as much."""

import os
import time

import dagster as dg

from cu_market import compute, market_executor

MIB = 2**20
NUMBER = "test/number"
DRIFT_AT = 20


def hold(size_mib: float) -> None:
    """Holds memory long enough to be metered."""
    held = bytearray(os.urandom(1) * round(size_mib * MIB))
    time.sleep(0.25)
    del held


def number_of(context: dg.OpExecutionContext) -> int:
    return int(context.run.tags[NUMBER])


@dg.op(tags=compute(cpu=0.5, memory="512MiB"))
def load(context: dg.OpExecutionContext) -> int:
    hold(60 + number_of(context))
    return 1


@dg.op(tags=compute(cpu=0.5, memory="512MiB"))
def fit(context: dg.OpExecutionContext, rows: int) -> None:
    number = number_of(context)
    hold((90 + 1.5 * number) * (2 if number >= DRIFT_AT else 1) * rows)


@dg.job(executor_def=market_executor)
def growing() -> None:
    fit(load())


defs = dg.Definitions(jobs=[growing])
