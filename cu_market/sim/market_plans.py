"""The market's plans of one workflow, each with the forecasts that it was made on."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cu_market.dnm.programs.linear import LinearSolver
from cu_market.dnm.programs.solve import Clock
from cu_market.dnm.renegotiation import with_margins
from cu_market.dnm.schedule import Budget, JointPlan, Workload
from cu_market.domain.units import lease_cost_microusd
from cu_market.sim.case import Case
from cu_market.sim.drawn import draw_forecasts, is_erring
from cu_market.sim.forecasts import Forecasts
from cu_market.sim.paths import tails_ms
from cu_market.sim.policies import market_plan
from cu_market.sim.risk import choose_spot


@dataclass(frozen=True, slots=True, kw_only=True)
class MadePlan:
    """A plan, and what the market was told when it made it."""

    plan: JointPlan
    forecasts: Forecasts


def market_plans(
    case: Case, truth: Workload, *, solver: LinearSolver | None, budget: Budget, clock: Clock
) -> list[MadePlan]:
    """Returns plans with the forecasts that they were made on; one where nothing is drawn."""
    found = []
    for told in _forecasts(case):
        tasks = tuple(
            replace(
                task,
                duration_ms=told.expected_ms[task.task_id],
                memory_bytes=told.reserved.get(task.task_id, task.memory_bytes),
            )
            for task in case.tasks
        )
        made = [
            market_plan(
                with_margins(replace(truth, tasks=tasks, deadline_ms=deadline_ms), told.spreads),
                solver=solver,
                budget=budget,
                clock=clock,
            )
            for deadline_ms in _horizons(case, truth, told.expected_ms)
        ]
        best = min(made, key=lambda plan: expected_microusd(plan, truth, told.expected_ms, case))
        found.append(MadePlan(plan=best, forecasts=told))
    return found


def _forecasts(case: Case) -> list[Forecasts]:
    if case.learned is not None:
        return [case.learned.forecasts]
    draws = random.Random(f"{case.seed} {case.name} errors")
    return [draw_forecasts(case, draws) for _ in range(case.plans if is_erring(case) else 1)]


def _horizons(case: Case, truth: Workload, takes: Mapping[str, int]) -> list[int]:
    """Returns the finishes to plan for: on spot, earlier ones too, which leave room to retry."""
    if case.trace is None:
        return [truth.deadline_ms]
    earliest = max(tails_ms(truth.tasks, takes).values())
    between = max(0, truth.deadline_ms - earliest)
    return [earliest + between * quarter // 4 for quarter in range(5)]


def expected_microusd(
    plan: JointPlan, truth: Workload, takes: Mapping[str, int], case: Case
) -> int:
    """Returns a plan's cost with the CUs that may be spot at the spot price."""
    spot = choose_spot(plan, truth, takes, case.trace) if case.trace else frozenset()
    machines = {machine.name: machine for machine in case.machines}
    return sum(
        lease_cost_microusd(case.spot.of(machines[cu.machine]), cu.billed_ms)
        if cu.cu_id in spot
        else cu.cost_microusd
        for cu in plan.cus
    )
