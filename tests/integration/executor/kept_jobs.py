"""Two steps that hand a file to each other; the first fits one place only.

No deferred annotations here: Dagster reads the config classes from them.
"""

import threading
from pathlib import Path

import dagster as dg

from cu_market import compute, market_executor

MIB = 2**20


@dg.op(
    tags=compute(cpu=0.1, memory="1536MiB", duration="1s", sizing="fixed"),
    config_schema={"folder": str},
)
def write(context: dg.OpExecutionContext) -> str:
    path = Path(context.op_config["folder"], "scratch")
    path.write_text("written")
    return str(path)


@dg.op(tags=compute(cpu=0.1, memory="64MiB", duration="1s"), config_schema={"mib": int})
def read(context: dg.OpExecutionContext, path: str) -> str:
    """Holds its memory until it is ended the first time; the second time it is content."""
    seen = Path(f"{path}.seen")
    is_first = not seen.exists()
    seen.touch()
    held = b"x" * (context.op_config["mib"] * MIB)
    if is_first and held:
        threading.Event().wait()
    return Path(path).read_text()


@dg.job(executor_def=market_executor)
def scratch() -> None:
    read(write())


defs = dg.Definitions(jobs=[scratch])
