"""A chain whose first step runs far longer than it says, until a file lets it end."""

import os
import time
from pathlib import Path
from typing import Any

import dagster as dg

from cu_market import compute, market_executor

FOLDER = Path(os.environ.get("CHANGING_FOLDER", "."))


@dg.op(tags=compute(cpu=0.5, memory="64MiB", duration="1s", sizing="fixed", provider="gamma"))
def slow() -> int:
    deadline = time.monotonic() + 1500
    time.sleep(3)
    while not (FOLDER / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return 0


def _link(name: str, provider: str) -> dg.OpDefinition:
    tags = compute(cpu=0.5, memory="64MiB", duration="1s", sizing="fixed", provider=provider)

    @dg.op(name=name, tags=tags)
    def link(before: int) -> int:
        return before + 1

    return link


@dg.job(executor_def=market_executor, tags={"cu/deadline_seconds": "1200"})
def changing() -> None:
    value = slow()
    for k in range(2):
        value = _link(f"cheap_{k}", "alpha,gamma")(value)
    for k in range(2):
        value = _link(f"gone_{k}", "beta,gamma")(value)


def _waiting(name: str, **more: Any) -> dg.OpDefinition:
    tags = compute(cpu=0.5, memory="64MiB", duration="600s", sizing="fixed", **more)

    @dg.op(name=name, tags=tags)
    def wait() -> None:
        deadline = time.monotonic() + 1500
        while not (FOLDER / "go").exists() and time.monotonic() < deadline:
            time.sleep(0.05)

    return wait


def _half(name: str) -> dg.OpDefinition:
    """Returns a step of ten minutes by its word that fills a CU of half a core."""
    tags = compute(cpu=0.5, memory="64MiB", duration="600s", sizing="fixed")

    @dg.op(name=name, tags=tags)
    def half(before: int) -> int:
        return before + 1

    return half


@dg.op(tags=compute(cpu=0.5, memory="64MiB", duration="600s", sizing="fixed"))
def held() -> int:
    deadline = time.monotonic() + 1500
    while not (FOLDER / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return 0


@dg.job(executor_def=market_executor, tags={"cu/deadline_seconds": "1400"})
def fanning() -> None:
    first = held()
    for k in range(3):
        _half(f"part_{k}")(first)


@dg.job(executor_def=market_executor)
def moving() -> None:
    _waiting("free", provider="alpha,gamma")()
    _waiting("pinned", provider="alpha,gamma", interruptible=False)()


defs = dg.Definitions(jobs=[changing, fanning, moving])
