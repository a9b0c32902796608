"""Measures joint plans of real workflows against the ways people run them, at the same finish.

Run from the repository: make bench-workflows ARGS='--factors 1.0 1.25 2.0 --json'
Policies, all on demand, all with the same memory reserved: static (the cheapest type that holds the
peaks of the earliest-start schedule; its list schedule's finish times the factor is the deadline of
all), right-sized (the cheapest single machine that meets it), one CU per step, greedy (steps by
latest start, each where it costs least, a CU keeping the type it was started with).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cu_market.dnm.schedule import Budget, MachineType, Task, Workload, plan_workload
from cu_market.dnm.schedule.search import warm
from cu_market.market.solver.process import SolverProcess
from cu_market.sim.inputs import read_machines, read_workflow
from cu_market.sim.policies import greedy_plan, one_per_step_plan, right_sized_plan, static_plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """What the policies cost in micro-dollars, and the finish that all must meet."""

    deadline_ms: int
    static: int
    right_sized: int
    one_per_step: int
    greedy: int


def policies(tasks: tuple[Task, ...], machines: tuple[MachineType, ...], factor: float) -> Policies:
    """Returns every policy's cost at the static finish times the factor."""
    static = static_plan(tasks, machines)
    deadline = round(factor * static.finish_ms)
    workload = Workload(tasks=tasks, machines=machines, deadline_ms=deadline)
    single = right_sized_plan(workload)
    if single is None:
        raise SystemExit(f"no single machine meets {deadline / 1000} s: give a larger --factors")
    return Policies(
        deadline_ms=deadline,
        static=static.cost_microusd,
        right_sized=single.cost_microusd,
        one_per_step=one_per_step_plan(workload).cost_microusd,
        greedy=greedy_plan(workload).cost_microusd,
    )


def measure(
    path: Path,
    machines: tuple[MachineType, ...],
    factor: float,
    budget: Budget,
    solver: SolverProcess,
    clock: Callable[[], float],
) -> dict[str, object]:
    """Returns one workflow's figures."""
    tasks = read_workflow(path)
    others = policies(tasks, machines, factor)
    workload = Workload(tasks=tasks, machines=machines, deadline_ms=others.deadline_ms)
    began, used = time.perf_counter(), time.process_time()
    plan = plan_workload(workload, solver=solver, budget=budget, clock=clock)
    return {
        "workflow": path.stem.split("-")[0],
        "factor": factor,
        "tasks": len(tasks),
        "deadline_seconds": others.deadline_ms / 1000,
        "cost_usd": plan.cost_microusd / 1e6,
        "static": plan.cost_microusd / others.static,
        "right_sized": plan.cost_microusd / others.right_sized,
        "one_per_step": plan.cost_microusd / others.one_per_step,
        "greedy": plan.cost_microusd / others.greedy,
        "gap_ratio": plan.gap_ratio,
        "cus": len(plan.cus),
        "unplaced": len(plan.unplaced),
        "found_by": plan.found_by,
        "rounds": plan.rounds,
        "is_cut": plan.is_cut,
        "construction_seconds": plan.construction_ms / 1000,
        "bound_seconds": plan.bound_ms / 1000,
        "search_seconds": plan.search_ms / 1000,
        "seconds": time.perf_counter() - began,
        "own_cpu_seconds": time.process_time() - used,
    }


RATIOS = ("static", "right_sized", "one_per_step", "greedy")


def summary(rows: list[dict[str, object]], factor: float) -> dict[str, object]:
    """Returns geometric means over the workflows of one factor."""
    means = {
        name: statistics.geometric_mean(float(str(row[name])) for row in rows) for name in RATIOS
    }
    gaps = sorted(float(str(row["gap_ratio"])) for row in rows)
    return {"bench": "workflows", "factor": factor, "workflows": len(rows), **means, "gaps": gaps}


def main() -> int:
    """Runs every workflow at every factor; returns 0, also where there is no data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--factors", type=float, nargs="+", default=[1.0, 1.25, 2.0])
    parser.add_argument("--limit", type=float, default=5.0, help="seconds a plan")
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--workflow", default="", help="only files whose name contains this")
    parser.add_argument(
        "--cpu-clock",
        action="store_true",
        help="the limit counts this process's CPU seconds: for a machine that others use too",
    )
    parser.add_argument("--json", action="store_true", help="JSON lines only")
    arguments = parser.parse_args()
    folder = Path(os.environ.get("CU_MARKET_DATA", ""))
    if not (folder / "workflows").is_dir():
        print("skipped: CU_MARKET_DATA is not a folder with workflows/ and catalogs/")
        return 0
    machines = read_machines([folder / "catalogs" / "aws-us-east-1.csv"])
    budget = Budget(limit_seconds=arguments.limit, rounds=arguments.rounds)
    clock = time.process_time if arguments.cpu_clock else time.perf_counter
    solver = SolverProcess()
    solver.warm()
    warm()
    for factor in arguments.factors:
        rows = []
        for path in sorted((folder / "workflows").glob("*.json")):
            if arguments.workflow not in path.name:
                continue
            row = measure(path, machines, factor, budget, solver, clock)
            rows.append(row)
            if arguments.json:
                print(json.dumps(row), flush=True)
        means = summary(rows, factor)
        if not arguments.json:
            print_table(rows, means)
        print(json.dumps(means), flush=True)
    solver.close()
    return 0


def print_table(rows: list[dict[str, object]], means: dict[str, object]) -> None:
    """Prints cost over each policy's cost, and the proven gap."""
    names = ("workflow", *RATIOS, "gap_ratio", "seconds")
    print(" ".join(f"{name:>13}" for name in names))
    for row in [*rows, {"workflow": f"mean @{means['factor']}", **means}]:
        cells = [
            f"{row[name]:>13}" if name == "workflow" else f"{float(str(row.get(name, 0))):>13.3f}"
            for name in names
        ]
        print(" ".join(cells), flush=True)


if __name__ == "__main__":
    sys.exit(main())
