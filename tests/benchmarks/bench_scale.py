"""The run worker's CPU a step at 100 and at 1,000 mapped trivial steps.

``python tests/benchmarks/bench_scale.py [--steps 100 1000]``: each size in a fresh process; CPU of
that process alone (its children's not counted) from the first mapped STEP_START to its end, over
the steps; peak memory of that process. One JSON line on stdout.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import subprocess
import sys
import time
from collections.abc import Sequence

from dagster import DagsterInstance, EventLogEntry
from execution import fresh_instance, progress, run_job

from cu_market.deo.executor import relay


def measure(steps: int) -> dict[str, float]:
    """Runs so many mapped steps in this process; returns its figures."""
    logging.getLogger("dagster").setLevel(logging.ERROR)
    started: list[float] = []
    original = relay.store_entries

    def watch(instance: DagsterInstance, entries: Sequence[EventLogEntry]) -> None:
        if not started and any(_is_step_start(entry) for entry in entries):
            started.append(time.process_time())
        original(instance, entries)

    relay.store_entries = watch
    with fresh_instance() as instance:
        run_job(
            instance,
            "mapped_ops",
            {
                "execution": {"config": {"market": {"max_concurrent": 2}}},
                "ops": {"numbers": {"config": {"count": steps}}},
            },
        )
    return {
        "cpu_seconds_per_step": (time.process_time() - started[0]) / steps,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _is_step_start(entry: EventLogEntry) -> bool:
    event = entry.dagster_event
    return event is not None and event.is_step_start


def main() -> None:
    """Prints the figures of each size and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs=2, default=[100, 1000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one)))
        return
    found = {}
    for steps in options.steps:
        output = subprocess.run(
            [sys.executable, __file__, "--one", str(steps)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        found[steps] = json.loads(output.strip().splitlines()[-1])
        progress(f"{steps} steps: {found[steps]}")
    few, many = options.steps
    print(
        json.dumps(
            {
                "by_steps": found,
                "ratio": round(
                    found[many]["cpu_seconds_per_step"] / found[few]["cpu_seconds_per_step"], 4
                ),
            }
        )
    )


if __name__ == "__main__":
    main()
