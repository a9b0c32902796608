"""Many replays of one workflow under each policy: what it costs, when it ends, how often late.

The error of a forecast is lognormal with mean one: the planner is given recorded x error, the
replay has what was recorded. So at any error the deadline could be met by whoever knew the truth.
The planner knows how far its forecasts err: it holds those of one kind of step together, plans with
margins, and the replay renegotiates.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cu_market.dnm.programs.linear import LinearSolver
from cu_market.dnm.programs.solve import Clock
from cu_market.dnm.renegotiation import Spread, pooled, with_margins
from cu_market.dnm.schedule import Budget, JointPlan, MachineType, Task, Workload
from cu_market.domain.units import MICROUSD
from cu_market.sim.inputs import SpotTrace
from cu_market.sim.paths import tails_ms
from cu_market.sim.policies import BASELINES, market_plan, static_plan
from cu_market.sim.replay import Replay
from cu_market.sim.risk import choose_spot
from cu_market.sim.setting import Outcome, Setting

LATE_MS = 1.0
"""A millisecond of rounding is not late."""

CLAIRVOYANT = "clairvoyant"
"""The market's planner told what will really happen, on demand: what no forecast can do."""

POLICIES = ("market", "static", "static-spot", *BASELINES, CLAIRVOYANT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What a study is told.

    Attributes:
        name: the workflow's.
        tasks, machines: see Workload.
        kinds: of the tasks; forecasts of one kind are held together.
        deadline_factor: times the static plan's finish.
        runtime_error: sigma of the forecast's error.
        replays: of each policy.
        seed: of errors and of the trace's offsets.
        trace: of spot, or None: all on demand.
        spot_permille: spot price in thousandths of that on demand.
        reacts: whether the market renegotiates.
        plans: with an error, so many plans are made and replayed in turn.
    """

    name: str
    tasks: tuple[Task, ...]
    machines: tuple[MachineType, ...]
    deadline_factor: float = 1.0
    runtime_error: float = 0.0
    replays: int = 100
    seed: int = 0
    trace: SpotTrace | None = None
    spot_permille: int = 350
    reacts: bool = True
    plans: int = 5
    kinds: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A plan and the forecasts that it was made on: medians, and what is spread about them."""

    plan: JointPlan
    expected_ms: Mapping[str, int]
    spreads: Mapping[str, Spread] = field(default_factory=dict)


def study(
    case: Case,
    policies: Sequence[str],
    *,
    solver: LinearSolver | None,
    budget: Budget,
    clock: Clock,
) -> dict[str, Any]:
    """Returns the figures by policy, ready for JSON; see docs/cli.md for the keys."""
    return study_with_outcomes(case, policies, solver=solver, budget=budget, clock=clock)[0]


def study_with_outcomes(
    case: Case,
    policies: Sequence[str],
    *,
    solver: LinearSolver | None,
    budget: Budget,
    clock: Clock,
) -> tuple[dict[str, Any], dict[str, Outcome]]:
    """Returns the figures, and each policy's first replay."""
    firsts: dict[str, Outcome] = {}
    static = static_plan(case.tasks, case.machines)
    deadline_ms = round(case.deadline_factor * static.finish_ms)
    truth = Workload(tasks=case.tasks, machines=case.machines, deadline_ms=deadline_ms)
    found: dict[str, Any] = {}
    exact = None
    if CLAIRVOYANT in policies or "market" in policies:
        exact = market_plan(truth, solver=solver, budget=budget, clock=clock)
    plans = _market_plans(case, truth, solver, budget, clock) if "market" in policies else []
    for name in policies:
        fixed = exact if name == CLAIRVOYANT else _fixed_plan(name, truth, static)
        settings = _settings(name, case, truth, fixed, plans)
        if settings:
            outcomes = [Replay(each).run() for each in settings]
            firsts[name] = outcomes[0]
            found[name] = _figures(outcomes, deadline_ms)
    first = plans[0].plan if plans else exact or static
    bound = exact.bound_microusd if exact is not None else 0
    if case.trace is not None:
        bound = bound * case.spot_permille // 1000  # all of it could be spot
    cost = found.get("market", {}).get("cost_usd", 0.0)
    document = {
        "workflow": case.name,
        "deadline_seconds": deadline_ms / 1000,
        "policies": found,
        "lower_bound_usd": bound / MICROUSD,
        "gap_ratio": max(0.0, 1 - bound / MICROUSD / cost) if cost else first.gap_ratio,
        "construction_seconds": first.construction_ms / 1000,
        "search_seconds": first.search_ms / 1000,
    }
    return document, firsts


def _market_plans(
    case: Case, truth: Workload, solver: LinearSolver | None, budget: Budget, clock: Clock
) -> list[_Made]:
    """Returns plans with the forecasts that they were made on; one where nothing is in error."""
    draws = random.Random(f"{case.seed} {case.name} errors")
    found = []
    for _ in range(case.plans if case.runtime_error else 1):
        takes, spreads = _forecasts(case, draws)
        tasks = tuple(replace(task, duration_ms=takes[task.task_id]) for task in case.tasks)
        made = [
            market_plan(
                with_margins(replace(truth, tasks=tasks, deadline_ms=deadline_ms), spreads),
                solver=solver,
                budget=budget,
                clock=clock,
            )
            for deadline_ms in _horizons(case, truth, takes)
        ]
        best = min(made, key=lambda plan: expected_microusd(plan, truth, takes, case))
        found.append(_Made(plan=best, expected_ms=takes, spreads=spreads))
    return found


def _forecasts(case: Case, draws: random.Random) -> tuple[dict[str, int], dict[str, Spread]]:
    """Returns medians and spreads as a forecaster gives them that knows how far it errs."""
    if not case.runtime_error:
        return {task.task_id: task.duration_ms for task in case.tasks}, {}
    # Recorded x an error of mean one is no median of what was recorded: that is taken out.
    bias = math.exp(case.runtime_error**2 / 2)
    seen = {task.task_id: task.duration_ms * _error(case, draws) * bias for task in case.tasks}
    known = pooled(seen, case.kinds, case.runtime_error)
    takes = {task_id: max(1, round(median)) for task_id, (median, _) in known.items()}
    return takes, {task_id: spread for task_id, (_, spread) in known.items()}


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
    return sum(
        cu.cost_microusd * (case.spot_permille if cu.cu_id in spot else 1000) // 1000
        for cu in plan.cus
    )


def _error(case: Case, draws: random.Random) -> float:
    sigma = case.runtime_error
    return math.exp(sigma * draws.gauss(0, 1) - sigma * sigma / 2) if sigma else 1.0


def _settings(
    name: str,
    case: Case,
    truth: Workload,
    made: JointPlan | None,
    plans: Sequence[_Made],
) -> list[Setting]:
    exact = {task.task_id: task.duration_ms for task in case.tasks}
    draws = random.Random(f"{case.seed} offsets")
    offsets = [
        draws.randrange(len(case.trace.available)) if case.trace else 0 for _ in range(case.replays)
    ]
    settings = []
    for k, offset in enumerate(offsets):
        plan, spot = made, frozenset[str]()
        expected: Mapping[str, int] = exact
        spreads: Mapping[str, Spread] = {}
        if name == "market":
            own = plans[k % len(plans)]
            plan, expected, spreads = own.plan, own.expected_ms, own.spreads
            spot = choose_spot(plan, truth, expected, case.trace) if case.trace else spot
        elif name == "static-spot" and plan is not None:
            spot = frozenset(cu.cu_id for cu in plan.cus)
        if plan is None or (name == "static-spot" and case.trace is None):
            return []
        settings.append(
            Setting(
                workload=truth,
                expected_ms=expected,
                spreads=spreads,
                plan=plan,
                spot_cus=spot,
                trace=case.trace,
                offset=offset,
                spot_permille=case.spot_permille,
                reacts=case.reacts and name == "market",
            )
        )
    is_certain = case.trace is None and (name != "market" or not case.runtime_error)
    return settings[:1] if is_certain else settings


def _fixed_plan(name: str, truth: Workload, static: JointPlan) -> JointPlan | None:
    if name == "market":
        return None
    return static if name.startswith("static") else BASELINES[name](truth)


def _figures(outcomes: Sequence[Outcome], deadline_ms: int) -> dict[str, Any]:
    costs = sorted(outcome.cost_microusd / MICROUSD for outcome in outcomes)
    finishes = sorted(outcome.finish_ms / 1000 for outcome in outcomes)
    late = [f for f in finishes if 1000 * f > deadline_ms + LATE_MS]
    count = len(outcomes)
    return {
        "cost_usd": sum(costs) / count,
        "finish_seconds": sum(finishes) / count,
        "late_ratio": len(late) / count,
        "failed_attempts": sum(outcome.failed_attempts for outcome in outcomes) / count,
        "moves": sum(outcome.moves for outcome in outcomes) / count,
        "cost_usd_p95": costs[min(count - 1, math.ceil(0.95 * count) - 1)],
        "finish_seconds_p95": finishes[min(count - 1, math.ceil(0.95 * count) - 1)],
        "replays": count,
    }
