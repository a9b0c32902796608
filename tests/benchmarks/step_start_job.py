"""Twenty trivial ops in a module that imports what real ones import."""

import dagster as dg
import pandas as pd
import sklearn.ensemble
import sklearn.linear_model

from cu_market import market_executor

OPS = 20
LIBRARIES = (pd.__name__, sklearn.ensemble.__name__, sklearn.linear_model.__name__)


@dg.op
def trivial() -> int:
    return 1


@dg.job(executor_def=market_executor)
def trivial_ops() -> None:
    for index in range(OPS):
        trivial.alias(f"trivial_{index}")()


@dg.op(config_schema={"count": int}, out=dg.DynamicOut(int))
def numbers(context: dg.OpExecutionContext):
    for index in range(context.op_config["count"]):
        yield dg.DynamicOutput(index, mapping_key=f"n{index}")


@dg.op
def mapped(value: int) -> int:
    return value


@dg.job(executor_def=market_executor)
def mapped_ops() -> None:
    numbers().map(mapped)


defs = dg.Definitions(jobs=[trivial_ops, mapped_ops])
