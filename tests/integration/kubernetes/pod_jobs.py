"""Jobs whose steps go to pods, or half of them."""

import os
import time
from pathlib import Path

import dagster as dg

from cu_market import compute, market_executor

HERE = compute(provider="local", cpu=0.25, memory="128MiB", sizing="fixed")
THERE = compute(provider="cluster", cpu=0.25, memory="128MiB", sizing="fixed")


@dg.op(tags=HERE)
def numbers() -> list[int]:
    return list(range(100))


@dg.op(tags=THERE)
def squares(values: list[int]) -> list[int]:
    return [value * value for value in values]


@dg.op(tags=HERE)
def cubes(values: list[int]) -> list[int]:
    return [value**3 for value in values]


@dg.op(tags=THERE)
def halves(context: dg.OpExecutionContext, values: list[int]) -> list[float]:
    print("halving")
    context.log.info("halved %d values", len(values))
    return [value / 2 for value in values]


@dg.op(tags=HERE)
def total(squared: list[int], cubed: list[int], halved: list[float]) -> float:
    return sum(squared) + sum(cubed) + sum(halved)


@dg.op(tags=THERE, out={"low": dg.Out(float), "high": dg.Out(float)})
def bounds(squared: list[int], cubed: list[int], halved: list[float]):
    everything = [*squared, *cubed, *halved]
    yield dg.Output(float(min(everything)), "low")
    yield dg.Output(float(max(everything)), "high")


@dg.op(tags=HERE)
def report(amount: float, low: float, high: float) -> str:
    return f"{low} <= {amount} <= {high * 1000}"


@dg.op(tags=THERE)
def shout(text: str) -> str:
    return text.upper()


def _mixed() -> None:
    values = numbers()
    squared, cubed, halved = squares(values), cubes(values), halves(values)
    low, high = bounds(squared, cubed, halved)
    shout(report(total(squared, cubed, halved), low, high))


mixed_job = dg.job(name="mixed_job", executor_def=market_executor)(_mixed)
reference_job = dg.job(name="reference_job", executor_def=dg.in_process_executor)(_mixed)


def _wait_for_release(context: dg.OpExecutionContext) -> None:
    signals = Path(os.environ["CU_MARKET_TEST_SIGNALS"])
    (signals / f"{context.run_id}.{context.op_handle}").touch()
    while not (signals / f"{context.run_id}.go").exists():
        time.sleep(0.05)


@dg.op(tags=THERE, retry_policy=dg.RetryPolicy(max_retries=1))
def patient(context: dg.OpExecutionContext) -> int:
    _wait_for_release(context)
    return context.retry_number


@dg.job(executor_def=market_executor)
def patient_job() -> None:
    patient()


@dg.op(tags=THERE, retry_policy=dg.RetryPolicy(max_retries=1))
def talkative(context: dg.OpExecutionContext) -> int:
    """Says something twenty times a second until it is let go, then how often."""
    signals = Path(os.environ["CU_MARKET_TEST_SIGNALS"])
    (signals / f"{context.run_id}.{context.op_handle}").touch()
    said = 0
    while not (signals / f"{context.run_id}.go").exists():
        said += 1
        context.log.info("word %d", said)
        time.sleep(0.05)
    return said


@dg.job(executor_def=market_executor)
def talkative_job() -> None:
    talkative()


@dg.op(tags=THERE, retry_policy=dg.RetryPolicy(max_retries=1))
def steadfast(context: dg.OpExecutionContext):
    """Counts its executions in a file; speaks until it is let go, then says how often it did."""
    signals = Path(os.environ["CU_MARKET_TEST_SIGNALS"])
    with (signals / f"{context.run_id}.begun").open("a") as file:
        file.write(f"{os.uname().nodename}\n")
    (signals / f"{context.run_id}.{context.op_handle}").touch()
    said = 0
    while not (signals / f"{context.run_id}.go").exists():
        said += 1
        context.log.info("word %d", said)
        time.sleep(0.05)
    (signals / f"{context.run_id}.said").write_text(str(said))
    yield dg.AssetMaterialization("words", metadata={"said": said})
    yield dg.Output(said)


@dg.op(tags=THERE)
def repeat(said: int) -> int:
    return said


@dg.job(executor_def=market_executor)
def steadfast_job() -> None:
    repeat(steadfast())


@dg.op(
    tags=compute(provider="cluster", cpu=0.25, memory="64MiB"),
    retry_policy=dg.RetryPolicy(max_retries=1),
)
def hungry(context: dg.OpExecutionContext) -> int:
    held = [bytearray(8 * 2**20) for _ in range(20)]
    for block in held:
        block[::4096] = b"x" * len(block[::4096])
        time.sleep(0.02)
    return len(held)


@dg.job(executor_def=market_executor)
def hungry_job() -> None:
    hungry()


@dg.op(tags=compute(provider=["absent", "cluster"], cpu=0.25, memory="128MiB", sizing="fixed"))
def anywhere() -> int:
    return 1


@dg.job(executor_def=market_executor)
def anywhere_job() -> None:
    anywhere()


@dg.op(tags=compute(provider="absent", cpu=0.25, memory="128MiB", sizing="fixed"))
def nowhere() -> int:
    return 1


@dg.job(executor_def=market_executor)
def nowhere_job() -> None:
    nowhere()


@dg.op(
    tags={
        **THERE,
        "dagster-k8s/config": {
            "container_config": {"env": [{"name": "FLAVOUR", "value": "vanilla"}]},
            "pod_template_spec_metadata": {"labels": {"team": "science"}},
        },
    }
)
def refined(context: dg.OpExecutionContext) -> str:
    _wait_for_release(context)
    return os.environ["FLAVOUR"]


@dg.job(executor_def=market_executor)
def refined_job() -> None:
    refined()


defs = dg.Definitions(
    jobs=[
        mixed_job,
        reference_job,
        patient_job,
        talkative_job,
        steadfast_job,
        hungry_job,
        anywhere_job,
        nowhere_job,
        refined_job,
    ]
)
