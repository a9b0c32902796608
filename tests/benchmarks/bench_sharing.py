"""Measures the market's own auctions of real workflows: on CUs to share, and on a CU for each step.

Run from the repository: make bench-sharing ARGS='--limit 5 --factor 1.0'
A run of each recorded workflow is auctioned (Market.clear, memory ledger) at a catalogue's prices
on demand, whole CUs that take 45 s to start: to end by the finish of the static machine times the
factor and one start-up, its time of no further value. Beside it: the same auction with
share_cus: false, and what the static machine and the cheapest single machine cost, start-up billed,
as in bench-workflows.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cu_market.dnm.schedule import MachineType, Task, Workload
from cu_market.domain.outline import RunOutline, StepOutline
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.request import StepIdentity
from cu_market.ledger.memory import InMemoryLedger
from cu_market.market.auction import Market
from cu_market.market.settings import MarketSettings
from cu_market.market.solver.process import SolverProcess
from cu_market.ral.catalog.provider import CatalogProvider
from cu_market.sim.inputs import read_machines, read_workflow
from cu_market.sim.policies import right_sized_plan, static_plan

T0 = datetime(2026, 1, 1, tzinfo=UTC)
STARTUP_MS = 45_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What all auctions are held with."""

    prices: Path
    machines: tuple[MachineType, ...]
    solver: SolverProcess
    limit_seconds: float

    def market(self, *, shares: bool) -> Market:
        """Returns a market whose only provider sells the catalogue's eligible types, whole."""
        provider = CatalogProvider.from_config(
            "cloud",
            {
                "file": str(self.prices),
                "spot": False,
                "quantity": 1000,
                "startup_seconds": STARTUP_MS / 1000,
                "instance_types": [machine.name for machine in self.machines],
                "start": {"kind": "local"},
            },
        )
        settings = MarketSettings(
            solve_seconds=self.limit_seconds,
            bid_deadline_seconds=60,
            share_cus=shares,
            value_of_time_usd_per_hour=0,
        )
        return Market(
            settings=settings,
            ledger=InMemoryLedger(),
            providers=[provider],
            solver=self.solver,
            now=lambda: T0,
        )

    def measure(self, path: Path, factor: float) -> dict[str, object]:
        """Returns one workflow's figures."""
        tasks = read_workflow(path)
        static = static_plan(tasks, self.machines)
        deadline_ms = round(factor * static.finish_ms)
        single = right_sized_plan(
            Workload(tasks=tasks, machines=self.machines, deadline_ms=deadline_ms)
        )
        row: dict[str, object] = {
            "workflow": path.stem.split("-")[0],
            "tasks": len(tasks),
            "static_usd": static.cost_microusd / 1e6,
            "right_sized_usd": None if single is None else single.cost_microusd / 1e6,
        }
        for name, shares in (("shared", True), ("apart", False)):
            row |= self._auctioned(name, tasks, deadline_ms + STARTUP_MS, shares=shares)
        shared = float(str(row["shared_usd"]))
        row["static"] = shared / (static.cost_microusd / 1e6)
        if single is not None:
            row["right_sized"] = shared / (single.cost_microusd / 1e6)
        return row

    def _auctioned(
        self, name: str, tasks: tuple[Task, ...], deadline_ms: int, *, shares: bool
    ) -> dict[str, object]:
        outline = outline_of(tasks, deadline_ms)
        market = self.market(shares=shares)
        began = time.perf_counter()
        try:
            plan = market.clear(outline, place="launcher").plan
        except InvalidInputError:  # each step starts a CU: not in time
            return {f"{name}_usd": None, f"{name}_seconds": time.perf_counter() - began}
        return {
            f"{name}_usd": plan.money_microusd / 1e6,
            f"{name}_finish": max(a.start_ms + a.expected_ms for a in plan.awards) / 1000,
            f"{name}_seconds": time.perf_counter() - began,
            f"{name}_cus": len(market.ledger.rentals()) or len(plan.awards),
        }


def outline_of(tasks: tuple[Task, ...], deadline_ms: int) -> RunOutline:
    """Returns a workflow as a run whose steps say what they need."""
    steps = tuple(
        StepOutline(
            step_key=task.task_id,
            op_name="task",
            identity=StepIdentity(node=task.task_id),
            depends_on=task.parents,
            tags={
                "cu/cpu_cores": str(task.cpu_millis / 1000),
                "cu/memory_gb": str(task.memory_bytes / 1e9),
                "cu/duration_seconds": str(task.duration_ms / 1000),
            },
        )
        for task in tasks
    )
    tags = {"cu/deadline_seconds": str(deadline_ms / 1000)}
    return RunOutline(run_id="run", job_name="job", steps=steps, tags=tags)


def main() -> int:
    """Auctions every workflow; returns 0, also where there is no data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--factor", type=float, default=1.0)
    parser.add_argument("--limit", type=float, default=5.0, help="solve_seconds")
    parser.add_argument("--workflow", default="", help="only files whose name contains this")
    parser.add_argument("--json", action="store_true", help="JSON lines only")
    arguments = parser.parse_args()
    folder = Path(os.environ.get("CU_MARKET_DATA", ""))
    if not (folder / "workflows").is_dir():
        print("skipped: CU_MARKET_DATA is not a folder with workflows/ and catalogs/")
        return 0
    prices = folder / "catalogs" / "aws-us-east-1.csv"
    solver = SolverProcess()
    bench = Bench(
        prices=prices,
        machines=read_machines([prices]),
        solver=solver,
        limit_seconds=arguments.limit,
    )
    rows = []
    names = ("workflow", "tasks", "shared_usd", "apart_usd", "static", "right_sized")
    names = (*names, "shared_cus", "shared_finish", "shared_seconds", "apart_seconds")
    if not arguments.json:
        print(" ".join(f"{name:>14}" for name in names))
    for path in sorted((folder / "workflows").glob("*.json")):
        if arguments.workflow in path.name:
            rows.append(bench.measure(path, arguments.factor))
            shown = (_cell(rows[-1].get(name)) for name in names)
            print(json.dumps(rows[-1]) if arguments.json else " ".join(shown), flush=True)
    solver.close()
    means = {
        name: statistics.geometric_mean(float(str(row[name])) for row in rows if name in row)
        for name in ("static", "right_sized")
    }
    print(json.dumps({"bench": "sharing", "factor": arguments.factor, **means}), flush=True)
    return 0


def _cell(value: object) -> str:
    if value is None:
        return f"{'-':>14}"
    return f"{value:>14.4f}" if isinstance(value, float) else f"{value!s:>14}"


if __name__ == "__main__":
    sys.exit(main())
