"""A pipeline whose input grows from run to run, until one step needs twice as much and more."""

import time

import dagster as dg

from cu_market import compute, market_executor

MIB, PAGE = 2**20, 4096
NUMBER = "test/number"
DRIFT_AT = 20


def hold(size_mib: float) -> None:
    """Holds memory long enough to be metered."""
    held = bytearray(round(size_mib * MIB))
    held[::PAGE] = bytes(1) * len(range(0, len(held), PAGE))  # touched, no second copy made
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
    usual = 90 + 1.5 * number
    hold(usual if number < DRIFT_AT else 2 * usual + 14 * (number - DRIFT_AT))


@dg.job(executor_def=market_executor)
def growing() -> None:
    fit(load())


defs = dg.Definitions(jobs=[growing])
