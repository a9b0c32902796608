"""Jobs that compete: many short steps of one core, and steps that others may push out."""

import time
from pathlib import Path

import dagster as dg

from cu_market import compute, market_executor


class Marks(dg.Config):
    folder: str


def _short(name: str, seconds: float) -> dg.OpDefinition:
    said = compute(cpu=1, memory="64MiB", duration=f"{seconds}s", sizing="fixed")

    @dg.op(name=name, tags=said)
    def short(context: dg.OpExecutionContext, config: Marks) -> None:
        with (Path(config.folder) / f"{context.run_id}.{name}").open("a") as file:
            file.write("ran\n")
        time.sleep(seconds)

    return short


def _many(name: str, count: int, seconds: float) -> dg.JobDefinition:
    @dg.job(name=name, executor_def=market_executor)
    def many() -> None:
        for i in range(count):
            _short(f"short_{i}", seconds)()

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
        time.sleep(900)  # until it is pushed out


@dg.op(tags=compute(cpu=1, memory="64MiB", duration="1s", sizing="fixed", interruptible=False))
def pushing(context: dg.OpExecutionContext, config: Marks) -> None:
    (Path(config.folder) / "pushing").touch()


@dg.job(executor_def=market_executor)
def cheap() -> None:
    pushed()


@dg.job(executor_def=market_executor)
def firm() -> None:
    pushing()


def _mark(context: dg.OpExecutionContext, config: Marks) -> None:
    with (Path(config.folder) / f"{context.run_id}.{context.op.name}").open("a") as file:
        file.write("ran\n")


# Expected to take longer than the tests of it do: what follows is planned by that, gives way by
# that, and a step that overruns it would have the run's awards reviewed.
@dg.op(tags=compute(cpu=1, memory="64MiB", duration="600s", sizing="fixed"))
def before(context: dg.OpExecutionContext, config: Marks) -> int:
    _mark(context, config)
    (Path(config.folder) / "begun").touch()
    deadline = time.monotonic() + 900
    while not (Path(config.folder) / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return 0


@dg.op(tags=compute(cpu=1, memory="64MiB", duration="3000s", sizing="fixed"))
def long_one(context: dg.OpExecutionContext, config: Marks, value: int) -> int:
    _mark(context, config)
    return value


@dg.op(tags=compute(cpu=1, memory="64MiB", duration="5s", sizing="fixed"))
def quick_one(context: dg.OpExecutionContext, config: Marks) -> None:
    _mark(context, config)


@dg.job(executor_def=market_executor)
def patient() -> None:
    long_one(before())


@dg.job(executor_def=market_executor)
def urgent() -> None:
    quick_one()


# Steps that share a pool take several times as long as a run worker takes to ask for the next one:
# an account that does not ask at the moment is not owed what it does not take.
MANY = [_many("few", 4, 0.3), _many("some", 24, 0.7), _many("lots", 48, 0.7)]

defs = dg.Definitions(jobs=[*MANY, cheap, firm, patient, urgent])
