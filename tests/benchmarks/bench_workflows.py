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

sys.path.insert(0, str(Path(__file__).parent))

from workflow_instance import read_machines

from cu_market.dnm.schedule import Budget, MachineType, Task, Workload, plan_workload
from cu_market.dnm.schedule.bundle import Stay, peak_of, profile
from cu_market.dnm.schedule.packing import windows
from cu_market.dnm.schedule.seeds import finish_ms, list_schedule, meets
from cu_market.market.solver.process import SolverProcess
from cu_market.sim.inputs import read_workflow

FOREVER_MS = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """What the policies cost in micro-dollars, and the finish that all must meet."""

    deadline_ms: int
    static: int
    right_sized: int
    one_per_step: int
    greedy: int


def static_machine(tasks: tuple[Task, ...], machines: tuple[MachineType, ...]) -> MachineType:
    """Returns the cheapest type that holds the peaks of the earliest-start schedule."""
    workload = Workload(tasks=tasks, machines=machines, deadline_ms=FOREVER_MS)
    starts = windows(workload, [task.duration_ms for task in tasks]).earliest
    stays = [
        Stay(start, start + task.duration_ms, i)
        for i, (start, task) in enumerate(zip(starts, tasks, strict=True))
    ]
    cpu, memory, _ = peak_of(profile(stays, [(t.cpu_millis, t.memory_bytes, 0) for t in tasks])[1])
    holding = [m for m in machines if m.cpu_millis >= cpu and m.memory_bytes >= memory]
    return min(holding, key=lambda m: (m.price_microusd_per_hour, m.name))


def policies(tasks: tuple[Task, ...], machines: tuple[MachineType, ...], factor: float) -> Policies:
    """Returns every policy's cost at the static finish times the factor."""
    static = static_machine(tasks, machines)
    free = Workload(tasks=tasks, machines=machines, deadline_ms=FOREVER_MS)
    hosts = list_schedule(free, static, 1)
    assert hosts is not None
    deadline = round(factor * finish_ms(hosts))
    workload = Workload(tasks=tasks, machines=machines, deadline_ms=deadline)
    single = []
    for machine in machines:
        tried = list_schedule(workload, machine, 1)
        if tried is not None and meets(workload, tried):
            single.append(machine.cost_microusd(finish_ms(tried)))
    alone = sum(cheapest_alone(task, machines) for task in tasks)
    return Policies(
        deadline_ms=deadline,
        static=static.cost_microusd(finish_ms(hosts)),
        right_sized=min(single),
        one_per_step=alone,
        greedy=greedy(workload),
    )


def cheapest_alone(task: Task, machines: tuple[MachineType, ...]) -> int:
    """Returns the least bill of the task on a CU of its own."""
    return min(
        m.cost_microusd(task.duration_ms)
        for m in machines
        if m.cpu_millis >= task.cpu_millis and m.memory_bytes >= task.memory_bytes
    )


def greedy(workload: Workload) -> int:
    """Returns the cost of taking the cheapest place for each step at its earliest start.

    Free room of a CU that runs anyway comes first, then the cheapest new CU; nothing is moved.
    """
    room = windows(workload, [task.duration_ms for task in workload.tasks])
    cus: list[tuple[MachineType, list[Stay]]] = []
    loads = [(t.cpu_millis, t.memory_bytes, 0) for t in workload.tasks]
    order = sorted(workload.order, key=lambda i: (room.earliest[i], i))
    for i in order:
        task = workload.tasks[i]
        stay = Stay(room.earliest[i], room.earliest[i] + task.duration_ms, i)
        options = []
        for k, (machine, stays) in enumerate(cus):
            cpu, memory, _ = peak_of(profile([*stays, stay], loads)[1])
            if cpu <= machine.cpu_millis and memory <= machine.memory_bytes:
                before = finish_ms([stays]) - min(s.start_ms for s in stays)
                both = [*stays, stay]
                after = finish_ms([both]) - min(s.start_ms for s in both)
                options.append((machine.cost_microusd(after) - machine.cost_microusd(before), k))
        alone = cheapest_alone(task, workload.machines)
        if options and min(options)[0] <= alone:
            cus[min(options)[1]][1].append(stay)
            continue
        fitting = [
            m
            for m in workload.machines
            if m.cpu_millis >= task.cpu_millis and m.memory_bytes >= task.memory_bytes
        ]
        best = min(fitting, key=lambda m: (m.cost_microusd(task.duration_ms), m.name))
        cus.append((best, [stay]))
    return sum(
        m.cost_microusd(finish_ms([stays]) - min(s.start_ms for s in stays)) for m, stays in cus
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
    parser.add_argument("--rounds", type=int, default=Budget().rounds)
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
    machines = read_machines(folder / "catalogs" / "aws-us-east-1.csv")
    budget = Budget(limit_seconds=arguments.limit, rounds=arguments.rounds)
    clock = time.process_time if arguments.cpu_clock else time.perf_counter
    solver = SolverProcess()
    solver.warm()
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
