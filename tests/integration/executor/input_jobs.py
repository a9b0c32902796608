"""A step whose memory follows the size of what the step before it has written."""

import time

import dagster as dg

from cu_market import compute, market_executor

MIB, PAGE = 2**20, 4096


@dg.op(config_schema={"mib": int})
def write(context: dg.OpExecutionContext) -> bytes:
    return bytes(context.op_config["mib"] * MIB)


@dg.op(tags=compute(memory="1GiB"))
def read(data: bytes) -> None:
    held = bytearray(4 * len(data))
    held[::PAGE] = bytes(1) * len(range(0, len(held), PAGE))  # touched, no second copy made
    time.sleep(0.3)


@dg.job(executor_def=market_executor)
def growing_input() -> None:
    read(write())


@dg.op(config_schema={"mib": int}, tags=compute(memory="256MiB"))
def creeping(context: dg.OpExecutionContext) -> None:
    """Takes 2 MiB more every tenth of a second: slowly, lest a busy machine notices too late."""
    held = []
    for _ in range(context.op_config["mib"] // 2):
        held.append(bytes(1) * (2 * MIB))
        time.sleep(0.1)


@dg.job(executor_def=market_executor)
def creeps() -> None:
    creeping()


@dg.asset(partitions_def=dg.DailyPartitionsDefinition(start_date="2024-01-01"))
def daily() -> None:
    held = bytearray(150 * MIB)
    held[::PAGE] = bytes(1) * len(range(0, len(held), PAGE))
    time.sleep(0.3)


by_date = dg.define_asset_job("by_date", [daily], executor_def=market_executor)

defs = dg.Definitions(assets=[daily], jobs=[growing_input, by_date, creeps])
