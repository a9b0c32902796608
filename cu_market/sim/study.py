"""Many replays of one workflow under each policy: what it costs, when it ends, how often late.

The planner is given forecasts (recorded x an error: drawn.py; or by what was seen before:
learning.py) and how far they err; it plans with margins, and the replay, which has what was
recorded, renegotiates.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from cu_market.dnm.programs.linear import LinearSolver
from cu_market.dnm.programs.solve import Clock
from cu_market.dnm.schedule import Budget, JointPlan, Workload
from cu_market.domain.units import GB, MICROUSD
from cu_market.sim.case import Case
from cu_market.sim.drawn import is_erring
from cu_market.sim.forecasts import Forecasts
from cu_market.sim.market_plans import MadePlan, market_plans
from cu_market.sim.policies import (
    BASELINES,
    SKYPILOT_LIKE,
    market_plan,
    skypilot_like_plan,
    static_plan,
)
from cu_market.sim.replay import Replay
from cu_market.sim.risk import choose_spot, surviving
from cu_market.sim.setting import Outcome, Setting

LATE_MS = 1.0
"""A millisecond of rounding is not late."""

EGRESS_USD_PER_GB = 0.09
"""What large sellers ask to move a gigabyte from one of their regions to another place."""

CLAIRVOYANT = "clairvoyant"
"""The market's planner told what will really happen: what no forecast can do. It buys as spot what
will not be taken back."""

LEFT_OUT = {
    "static-spot": "it needs a spot trace (--spot)",
    "right-sized": "no single machine meets the deadline",
}
"""Why a policy may have no figures."""

POLICIES = ("market", "static", "static-spot", *BASELINES, CLAIRVOYANT)


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
    notes = case.learned.notes() if case.learned is not None else []
    exact = None
    if CLAIRVOYANT in policies or "market" in policies:
        exact = market_plan(truth, solver=solver, budget=budget, clock=clock)
    plans: list[MadePlan] = []
    if "market" in policies:
        plans = market_plans(case, truth, solver=solver, budget=budget, clock=clock)
    for name in policies:
        fixed = exact if name == CLAIRVOYANT else _fixed_plan(name, case, truth, static)
        settings = _settings(name, case, truth, fixed, plans)
        if not settings:
            notes.append(f"{name} is left out: {LEFT_OUT[name]}")
        else:
            outcomes = _replayed(settings)
            firsts[name] = outcomes[0]
            found[name] = _figures(outcomes, deadline_ms)
    first = plans[0].plan if plans else exact or static
    document = {
        "workflow": case.name,
        "deadline_seconds": deadline_ms / 1000,
        "policies": found,
        **_bounded(case, exact, found),
        **_worth(case),
        "construction_seconds": first.construction_ms / 1000,
        "search_seconds": first.search_ms / 1000,
        "notes": notes,
    }
    return document, firsts


def _bounded(
    case: Case, exact: JointPlan | None, found: Mapping[str, Mapping[str, Any]]
) -> dict[str, float | None]:
    """Returns the proven bound and the market's distance from it; None if nothing was planned."""
    if exact is None:
        return {"lower_bound_usd": None, "gap_ratio": None}
    bound = exact.bound_microusd
    if case.trace is not None:
        bound = bound * case.spot.least_permille(case.machines) // 1000  # all could be spot
    figures = found.get("market") or found[CLAIRVOYANT]
    cost = figures["cost_usd"]
    gap = max(0.0, 1 - bound / MICROUSD / cost) if cost else 0.0
    return {"lower_bound_usd": bound / MICROUSD, "gap_ratio": gap}


def _worth(case: Case) -> dict[str, Any]:
    """Returns what forecasts by history were worth, under their key; nothing without history."""
    if case.learned is None:
        return {}
    actual_ms = {task.task_id: task.duration_ms for task in case.tasks}
    return {"forecast": case.learned.worth(actual_ms, case.peaks)}


def _replayed(settings: Sequence[Setting]) -> list[Outcome]:
    """Returns each setting's outcome; equal ones are replayed once, since all that is drawn in a
    replay is its forecasts and where it begins in the trace."""
    known: dict[tuple[int, int], Outcome] = {}
    for each in settings:
        key = (id(each.plan), each.offset)
        if key not in known:
            known[key] = Replay(each).run()
    return [known[id(each.plan), each.offset] for each in settings]


def _settings(
    name: str,
    case: Case,
    truth: Workload,
    made: JointPlan | None,
    plans: Sequence[MadePlan],
) -> list[Setting]:
    exact = Forecasts(expected_ms={task.task_id: task.duration_ms for task in case.tasks})
    draws = random.Random(f"{case.seed} offsets")
    offsets = [
        draws.randrange(len(case.trace.available)) if case.trace else 0 for _ in range(case.replays)
    ]
    settings = []
    for k, offset in enumerate(offsets):
        plan, spot, told = made, frozenset[str](), exact
        if name == "market":
            own = plans[k % len(plans)]
            plan, told = own.plan, own.forecasts
            spot = choose_spot(plan, truth, told.expected_ms, case.trace) if case.trace else spot
        elif name == "static-spot" and plan is not None:
            spot = frozenset(cu.cu_id for cu in plan.cus)
        elif name == CLAIRVOYANT and plan is not None and case.trace is not None:
            spot = surviving(plan, case.trace, offset)
        if plan is None or (name == "static-spot" and case.trace is None):
            return []
        settings.append(
            Setting(
                workload=truth,
                expected_ms=told.expected_ms,
                spreads=told.spreads,
                plan=plan,
                spot_cus=spot,
                trace=case.trace,
                offset=offset,
                spot=case.spot,
                reserved=told.reserved,
                foreseen=told.foreseen,
                peaks=case.peaks if told.reserved else {},
                traffic=case.traffic,
                reacts=case.reacts and name == "market",
            )
        )
    is_certain = case.trace is None and (name != "market" or not is_erring(case))
    return settings[:1] if is_certain else settings


def _fixed_plan(name: str, case: Case, truth: Workload, static: JointPlan) -> JointPlan | None:
    if name == "market":
        return None
    if name == SKYPILOT_LIKE and case.learned is not None:
        return skypilot_like_plan(truth, case.learned.known_ms)
    return static if name.startswith("static") else BASELINES[name](truth)


def _figures(outcomes: Sequence[Outcome], deadline_ms: int) -> dict[str, Any]:
    costs = sorted(outcome.cost_microusd / MICROUSD for outcome in outcomes)
    finishes = sorted(outcome.finish_ms / 1000 for outcome in outcomes)
    count = len(outcomes)
    late = [f - deadline_ms / 1000 for f in finishes if 1000 * f > deadline_ms + LATE_MS]
    egress = sum(outcome.egress_bytes for outcome in outcomes) / count
    return {
        "cost_usd": sum(costs) / count,
        "finish_seconds": sum(finishes) / count,
        "late_ratio": len(late) / count,
        "late_seconds": sum(late) / count,
        "failed_attempts": sum(outcome.failed_attempts for outcome in outcomes) / count,
        "moves": sum(outcome.moves for outcome in outcomes) / count,
        "egress_gb": egress / GB,
        "egress_usd": egress / GB * EGRESS_USD_PER_GB,
        "cost_usd_p95": costs[min(count - 1, math.ceil(0.95 * count) - 1)],
        "finish_seconds_p95": finishes[min(count - 1, math.ceil(0.95 * count) - 1)],
        "replays": count,
    }
