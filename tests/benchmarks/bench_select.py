"""Measures selection: seconds from requests and bids to a verified plan within a proven 1 %.

Run from the repository: python tests/benchmarks/bench_select.py --steps 100 --bids 50 --seeds 10
Prints one JSON line per seed and one with the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from selection_instance import generate

from cu_market.dnm import plan
from cu_market.dnm.solve import InProcessSolver


def measure(
    data: Path, seed: int, arguments: argparse.Namespace
) -> dict[str, float | int | str | bool]:
    """Returns one seed's figures; seconds include feasibility, building, solving, verification."""
    instance = generate(
        data,
        steps=arguments.steps,
        bids=arguments.bids,
        contention=arguments.contention,
        seed=seed,
    )
    began = time.perf_counter()
    found = plan(
        instance.requests,
        instance.bids,
        instance.capacities,
        solver=InProcessSolver(time.perf_counter),
        limit_seconds=arguments.limit,
        gap=arguments.gap,
        fixed_starts=True,
        surcharges=instance.surcharge,
        clock=time.perf_counter,
    )
    seconds = time.perf_counter() - began
    first = plan(
        instance.requests,
        instance.bids,
        instance.capacities,
        solver=None,
        limit_seconds=0,
        fixed_starts=True,
        surcharges=instance.surcharge,
    )
    return {
        "seed": seed,
        "seconds": round(seconds, 3),
        "build_seconds": found.build_ms / 1000,
        "solve_seconds": found.solve_ms / 1000,
        "gap_ratio": round(found.gap_ratio, 6),
        "is_proven": found.gap_ratio <= arguments.gap and found.is_bound_independent,
        "is_bound_independent": found.is_bound_independent,
        "bound_microusd": found.bound_microusd,
        "objective_microusd": found.objective_microusd,
        "construction_microusd": first.objective_microusd,
        "unserved": len(found.unserved),
        "solver": found.solver,
        "is_cut": found.is_cut,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> int:
    """Runs every seed; returns 0, also where there is no data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--bids", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--contention", type=float, default=1.0)
    parser.add_argument("--gap", type=float, default=0.01)
    parser.add_argument("--limit", type=float, default=30.0)
    arguments = parser.parse_args()
    folder = os.environ.get("CU_MARKET_DATA", "")
    if not folder or not (Path(folder) / "workflows").is_dir():
        print(
            f"skipped: CU_MARKET_DATA={folder!r} is not a folder with workflows/ and catalogs/; "
            "set it to one to measure selection",
        )
        return 0
    import highspy  # noqa: F401 (a warm process is measured: the solver's child stays loaded)
    import pulp  # noqa: F401

    rows = [measure(Path(folder), seed, arguments) for seed in range(arguments.seeds)]
    for row in rows:
        print(json.dumps(row))
    print(json.dumps(summary(rows, arguments)))
    return 0


def summary(
    rows: list[dict[str, float | int | str | bool]], arguments: argparse.Namespace
) -> dict[str, object]:
    """Returns the medians over the seeds."""
    return {
        "bench": "select",
        "steps": arguments.steps,
        "bids": arguments.bids,
        "contention": arguments.contention,
        "seeds": len(rows),
        "median_seconds": statistics.median(float(row["seconds"]) for row in rows),
        "max_seconds": max(float(row["seconds"]) for row in rows),
        "median_build_seconds": statistics.median(float(row["build_seconds"]) for row in rows),
        "median_gap_ratio": statistics.median(float(row["gap_ratio"]) for row in rows),
        "proven": sum(bool(row["is_proven"]) for row in rows),
        "peak_memory_mib": max(int(row["peak_memory_mib"]) for row in rows),
    }


if __name__ == "__main__":
    sys.exit(main())
