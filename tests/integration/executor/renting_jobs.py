"""Jobs whose steps can share CUs: a step, several that wait for it, and one that waits for them."""

import multiprocessing
import time
from pathlib import Path

import dagster as dg

from cu_market import compute, market_executor

MANY = 4 * multiprocessing.cpu_count() + 2
"""Steps: more than run at once on a machine of one's own."""

SIZE = compute(cpu=1, memory="0.5GiB", duration=120)


@dg.op(tags=SIZE)
def begin() -> int:
    return 1


@dg.op(tags=SIZE)
def work(number: int) -> int:
    return number + 1


@dg.op(tags=SIZE)
def end(numbers: list[int]) -> int:
    return sum(numbers)


@dg.job(executor_def=market_executor)
def fanned() -> None:
    first = begin()
    end([work.alias(f"work_{n}")(first) for n in range(4)])


class Meeting(dg.Config):
    folder: str


@dg.op(tags=SIZE)
def meet(context: dg.OpExecutionContext, config: Meeting) -> None:
    """Ends once all of them have begun: none would if they did not run at once."""
    folder = Path(config.folder)
    (folder / context.op_handle.name).touch()
    deadline = time.monotonic() + 300
    while len(list(folder.iterdir())) < MANY:
        if time.monotonic() > deadline:
            raise TimeoutError("the others have not begun")
        time.sleep(0.05)


@dg.job(executor_def=market_executor, tags={"cu/value_of_time_usd_per_hour": "1000"})
def meeting() -> None:
    for n in range(MANY):
        meet.alias(f"meet_{n}")()


@dg.op(out=dg.DynamicOut(int), tags=SIZE)
def spread():
    for number in range(6):
        yield dg.DynamicOutput(number, mapping_key=str(number))


@dg.job(executor_def=market_executor)
def mapped() -> None:
    end(spread().map(work).collect())


defs = dg.Definitions(jobs=[fanned, mapped, meeting])
