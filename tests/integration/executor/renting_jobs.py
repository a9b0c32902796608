"""Jobs whose steps can share CUs: a step, several that wait for it, and one that waits for them."""

import dagster as dg

from cu_market import compute, market_executor

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


@dg.op(out=dg.DynamicOut(int), tags=SIZE)
def spread():
    for number in range(6):
        yield dg.DynamicOutput(number, mapping_key=str(number))


@dg.job(executor_def=market_executor)
def mapped() -> None:
    end(spread().map(work).collect())


defs = dg.Definitions(jobs=[fanned, mapped])
