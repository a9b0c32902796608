"""Measures the market under forecast errors and on spot, by replay of real workflows.

Run from the repository: make bench-sim ARGS='--replays 300'. Prints one JSON line a workflow and
experiment, then their means: errors (sigma 0.3, factor 1.0, beside sigma 0) and spot (a real trace,
factor 1.25); then scaling ahead over a day.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

from cu_market.dnm.schedule import Budget
from cu_market.market.solver.process import SolverProcess
from cu_market.sim.ahead import simulate_day
from cu_market.sim.case import Case
from cu_market.sim.inputs import read_kinds, read_machines, read_spot, read_workflow
from cu_market.sim.study import study


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replays", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--trace", default="preemption-aws-us-east-1b-intel-64.json")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    data = os.environ.get("CU_MARKET_DATA")
    if not data:
        print("CU_MARKET_DATA is not set: no workflows to replay", file=sys.stderr)
        return 0
    root = Path(data)
    machines = read_machines([root / "catalogs" / "aws-us-east-1.csv"])
    trace = read_spot(root / "spot" / options.trace)
    budget, rows = Budget(limit_seconds=options.seconds), []
    solver = SolverProcess()
    for path in sorted((root / "workflows").glob("*.json")):
        if options.only not in path.stem:
            continue
        base: dict[str, Any] = {"name": path.stem.split("-")[0], "tasks": read_workflow(path)}
        base |= {"machines": machines, "replays": options.replays, "kinds": read_kinds(path)}

        def figures(policies: list[str], **more: Any) -> dict[str, Any]:
            case = Case(**(base | more))  # noqa: B023 - called within this turn
            return study(case, policies, solver=solver, budget=budget, clock=time.perf_counter)

        exact = figures(["market"])
        wrong = figures(["market"], runtime_error=0.3)
        alone = figures(["market"], runtime_error=0.3, reacts=False)
        spot = figures(["market", "static-spot"], deadline_factor=1.25, trace=trace)
        static = figures(["static"], deadline_factor=1.25)["policies"]["static"]["cost_usd"]
        deadline = exact["deadline_seconds"]
        market, blind = wrong["policies"]["market"], alone["policies"]["market"]
        row = {
            "workflow": base["name"],
            "error_finish_mean": market["finish_seconds"] / deadline,
            "error_finish_p95": market["finish_seconds_p95"] / deadline,
            "error_cost": market["cost_usd"] / exact["policies"]["market"]["cost_usd"],
            "unreacting_finish_mean": blind["finish_seconds"] / deadline,
            "unreacting_finish_p95": blind["finish_seconds_p95"] / deadline,
            "unreacting_cost": blind["cost_usd"] / exact["policies"]["market"]["cost_usd"],
            "moves": market["moves"],
            "spot_cost_of_static": spot["policies"]["market"]["cost_usd"] / static,
            "spot_late_ratio": spot["policies"]["market"]["late_ratio"],
            "spot_failed_attempts": spot["policies"]["market"]["failed_attempts"],
            "static_spot_cost_of_static": spot["policies"]["static-spot"]["cost_usd"] / static,
            "static_spot_late_ratio": spot["policies"]["static-spot"]["late_ratio"],
        }
        rows.append(row)
        print(json.dumps(row), flush=True)
    solver.close()
    summary = {
        "workflow": "geometric mean",
        **{
            key: math.exp(sum(math.log(row[key]) for row in rows) / len(rows))
            for key in ("error_finish_mean", "error_cost", "unreacting_finish_mean")
        },
        "spot_cost_of_static": math.exp(
            sum(math.log(row["spot_cost_of_static"]) for row in rows) / len(rows)
        ),
        "worst_error_finish_p95": max(row["error_finish_p95"] for row in rows),
        "worst_spot_late_ratio": max(row["spot_late_ratio"] for row in rows),
    }
    print(json.dumps(summary))
    print(json.dumps({"ahead": simulate_day(seed=0)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
