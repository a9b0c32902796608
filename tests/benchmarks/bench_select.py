"""Measures selection: seconds from requests and bids to a verified plan within a proven 1 %.

Run: make bench-select ARGS='--sizes 100x50 1000x200 --contentions 1.0 0.1 --seeds 10'
Prints one JSON line per seed and one per size and contention with the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from selection_instance import generate

from cu_market.dnm import plan
from cu_market.dnm.programs.solve import InProcessSolver
from cu_market.dnm.selection.search import warm
from cu_market.domain.plan import Plan

EARLY_SECONDS = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How many steps and bids, and the factor on every quantity."""

    steps: int
    bids: int
    contention: float


def measure(
    data: Path, seed: int, shape: Shape, arguments: argparse.Namespace
) -> dict[str, float | int | str | bool]:
    """Returns one seed's figures; seconds include feasibility, building, solving, verification."""
    instance = generate(
        data, steps=shape.steps, bids=shape.bids, contention=shape.contention, seed=seed
    )

    def planned(limit: float) -> tuple[Plan, float]:
        began = time.perf_counter()
        found = plan(
            instance.requests,
            instance.bids,
            instance.capacities,
            solver=InProcessSolver(time.perf_counter),
            limit_seconds=limit,
            gap=arguments.gap,
            fixed_starts=True,
            surcharges=instance,
            clock=time.perf_counter,
        )
        return found, time.perf_counter() - began

    used = time.process_time()
    found, seconds = planned(arguments.limit)
    used = time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    early = found if seconds <= EARLY_SECONDS else planned(EARLY_SECONDS)[0]
    return {
        "seed": seed,
        "seconds": round(seconds, 3),
        "cpu_seconds": round(used, 3),
        "build_seconds": found.build_ms / 1000,
        "solve_seconds": found.solve_ms / 1000,
        "gap_ratio": round(found.gap_ratio, 6),
        "gap_ratio_at_1.5_s": round(early.gap_ratio, 6),
        "is_proven": found.gap_ratio <= arguments.gap and found.is_bound_independent,
        "is_bound_independent": found.is_bound_independent,
        "bound_microusd": found.bound_microusd,
        "objective_microusd": found.objective_microusd,
        "unserved": len(found.unserved),
        "solver": found.solver,
        "is_cut": found.is_cut,
        "peak_memory_mib": peak,
    }


def main() -> int:
    """Runs every seed; returns 0, also where there is no data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["10x20", "100x50", "1000x200", "5000x500"])
    parser.add_argument("--contentions", type=float, nargs="+", default=[1.0, 0.25, 0.1])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--gap", type=float, default=0.01)
    parser.add_argument("--limit", type=float, default=10.0)
    arguments = parser.parse_args()
    folder = os.environ.get("CU_MARKET_DATA", "")
    if not folder or not (Path(folder) / "workflows").is_dir():
        print(
            f"skipped: CU_MARKET_DATA={folder!r} is not a folder with workflows/ and catalogs/; "
            "set it to one to measure selection",
        )
        return 0
    _load()
    for size in arguments.sizes:
        steps, bids = map(int, size.split("x"))
        for contention in arguments.contentions:
            shape = Shape(steps=steps, bids=bids, contention=contention)
            rows = []
            for seed in range(arguments.seeds):
                rows.append(measure(Path(folder), seed, shape, arguments))
                print(json.dumps({"steps": steps, "bids": bids, **rows[-1]}), flush=True)
            print(json.dumps(summary(rows, shape)), flush=True)
    return 0


def _load() -> None:
    """Loads solver and compiled code before anything is measured, as a daemon has them.

    The first model of a process writes a banner to standard output, where lines of JSON are to be.
    """
    warm()
    import pulp  # noqa: F401

    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        import highspy

        highspy.Highs()
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def summary(rows: list[dict[str, float | int | str | bool]], shape: Shape) -> dict[str, object]:
    """Returns the medians over the seeds."""
    return {
        "bench": "select",
        "steps": shape.steps,
        "bids": shape.bids,
        "contention": shape.contention,
        "seeds": len(rows),
        "median_seconds": statistics.median(float(row["seconds"]) for row in rows),
        "median_cpu_seconds": statistics.median(float(row["cpu_seconds"]) for row in rows),
        "within_1.5_s": sum(float(row["seconds"]) <= EARLY_SECONDS for row in rows),
        "max_gap_ratio": max(float(row["gap_ratio"]) for row in rows),
        "max_gap_ratio_at_1.5_s": max(float(row["gap_ratio_at_1.5_s"]) for row in rows),
        "max_seconds": max(float(row["seconds"]) for row in rows),
        "median_build_seconds": statistics.median(float(row["build_seconds"]) for row in rows),
        "median_gap_ratio": statistics.median(float(row["gap_ratio"]) for row in rows),
        "proven": sum(bool(row["is_proven"]) for row in rows),
        "peak_memory_mib": max(int(row["peak_memory_mib"]) for row in rows),
    }


if __name__ == "__main__":
    sys.exit(main())
