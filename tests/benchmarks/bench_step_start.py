"""Seconds a step of twenty trivial ops, from the run's start to its last STEP_SUCCESS over twenty.

``python tests/benchmarks/bench_step_start.py [--rounds 5]``: multiprocess (spawn), multiprocess
with a forkserver and the module preloaded, in-process and the market in turn, two at a time, first
load of the code included; medians as one JSON line on stdout.
"""

from __future__ import annotations

import argparse
import json
import logging
from statistics import median
from typing import Any

from dagster import DagsterEventType
from execution import event_times, fresh_instance, progress, run_job
from step_start_job import OPS

WAYS: dict[str, dict[str, Any]] = {
    "multiprocess": {"multiprocess": {"max_concurrent": 2}},
    "forkserver": {
        "multiprocess": {
            "max_concurrent": 2,
            "start_method": {"forkserver": {"preload_modules": ["step_start_job"]}},
        }
    },
    "in_process": {"in_process": {}},
    "market": {"market": {"max_concurrent": 2}},
}


def seconds_per_step(way: str) -> float:
    """Runs the job once; returns its seconds a step."""
    with fresh_instance() as instance:
        run_id = run_job(instance, "trivial_ops", {"execution": {"config": WAYS[way]}})
        began = event_times(instance, run_id, DagsterEventType.RUN_START)[0]
        ended = event_times(instance, run_id, DagsterEventType.STEP_SUCCESS)
        assert len(ended) == OPS
        return (ended[-1] - began) / OPS


def main() -> None:
    """Prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    logging.getLogger("dagster").setLevel(logging.ERROR)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(1, rounds + 1):
        for way, found in seconds.items():
            found.append(seconds_per_step(way))
            progress(f"round {number}: {way} {found[-1]:.3f} s a step")
    medians = {way: median(found) for way, found in seconds.items()}
    print(
        json.dumps(
            {
                **{f"{way}_seconds_per_step": round(value, 4) for way, value in medians.items()},
                "ratio": round(medians["market"] / medians["multiprocess"], 4),
                "forkserver_ratio": round(medians["market"] / medians["forkserver"], 4),
                "rounds": rounds,
            }
        )
    )


if __name__ == "__main__":
    main()
