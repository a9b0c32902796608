"""Jobs that compete: many short steps of one core, and steps that others may push out."""

import time
from pathlib import Path

import dagster as dg

from cu_market import compute, market_executor


class Marks(dg.Config):
    folder: str


def _short(name: str) -> dg.OpDefinition:
    @dg.op(name=name, tags=compute(cpu=1, memory="64MiB", duration="0.3s", sizing="fixed"))
    def short(context: dg.OpExecutionContext, config: Marks) -> None:
        with (Path(config.folder) / f"{context.run_id}.{name}").open("a") as file:
            file.write("ran\n")
        time.sleep(0.3)

    return short


def _many(name: str, count: int) -> dg.JobDefinition:
    @dg.job(name=name, executor_def=market_executor)
    def many() -> None:
        for i in range(count):
            _short(f"short_{i}")()

    return many


@dg.op(
    tags=compute(cpu=1, memory="64MiB", duration="1s", sizing="fixed"),
    retry_policy=dg.RetryPolicy(max_retries=0),
)
def pushed(context: dg.OpExecutionContext, config: Marks) -> None:
    mark = Path(config.folder) / "pushed"
    is_first = not mark.exists()
    mark.touch()
    if is_first:
        time.sleep(120)


@dg.op(tags=compute(cpu=1, memory="64MiB", duration="1s", sizing="fixed", interruptible=False))
def pushing(context: dg.OpExecutionContext, config: Marks) -> None:
    (Path(config.folder) / "pushing").touch()


@dg.job(executor_def=market_executor)
def cheap() -> None:
    pushed()


@dg.job(executor_def=market_executor)
def firm() -> None:
    pushing()


defs = dg.Definitions(jobs=[_many("few", 4), _many("some", 24), _many("lots", 48), cheap, firm])
