"""Jobs that the suite runs on the provider: no data passes between steps, nothing is configured.

In the package, so that every CU that has cu_market installed can load them. Annotations are not
postponed: Dagster reads that of an op's context as an object.
"""

import dagster as dg

from cu_market import compute, market_executor

MIB = 2**20


@dg.op(tags=compute(cpu=0.1, memory="200MiB"), out=dg.Out(dg.Nothing))
def first(context: dg.OpExecutionContext) -> None:
    """Says that it is here, in its log."""
    context.log.info("the first step speaks")


@dg.op(tags=compute(cpu=0.1, memory="200MiB"), ins={"start": dg.In(dg.Nothing)})
def second(context: dg.OpExecutionContext) -> None:
    """Reports a materialization, into which the market writes its use and cost."""
    context.log_event(dg.AssetMaterialization("conformance"))


@dg.job(executor_def=market_executor)
def two_steps() -> None:
    """One step after the other."""
    second(first())


@dg.op(tags=compute(cpu=0.1, memory="100MiB", on_oom="fail"), out=dg.Out(dg.Nothing))
def hungry() -> None:
    """Takes more memory than was leased for it, touching every page, and keeps it."""
    taken = [bytearray(10 * MIB) for _ in range(100)]
    while taken:
        for block in taken:
            block[::4096] = b"x" * len(block[::4096])


@dg.job(executor_def=market_executor)
def too_hungry() -> None:
    """One step that cannot end otherwise than for its memory."""
    hungry()


@dg.op(tags=compute(cpu=0.1, memory="200MiB"), out=dg.Out(dg.Nothing))
def failing() -> None:
    """Fails by the user's own fault."""
    raise ValueError("of the user's own making")


@dg.job(executor_def=market_executor)
def failed_step() -> None:
    """One step that fails."""
    failing()


defs = dg.Definitions(jobs=[two_steps, too_hungry, failed_step])
