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
from cu_market.domain.units import GB, MICROUSD, lease_cost_microusd
from cu_market.sim.inputs import HEADROOM, SpotTrace, reserved_bytes
from cu_market.sim.paths import tails_ms
from cu_market.sim.policies import BASELINES, market_plan, static_plan
from cu_market.sim.replay import Replay
from cu_market.sim.risk import choose_spot, surviving
from cu_market.sim.setting import Outcome, Setting, SpotPrices, Traffic

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
        spot: what spot costs.
        memory_error: sigma of the error of forecasts of memory.
        peaks: recorded, by task, in bytes; of others memory is known.
        traffic: what is moved between tasks, and where the types are.
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
    spot: SpotPrices = field(default_factory=SpotPrices)
    memory_error: float = 0.0
    peaks: Mapping[str, int] = field(default_factory=dict)
    traffic: Traffic = field(default_factory=Traffic)
    reacts: bool = True
    plans: int = 5
    kinds: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A plan and the forecasts that it was made on: medians, what is spread about them, memory."""

    plan: JointPlan
    expected_ms: Mapping[str, int]
    spreads: Mapping[str, Spread] = field(default_factory=dict)
    reserved: Mapping[str, int] = field(default_factory=dict)


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
    notes: list[str] = []
    exact = None
    if CLAIRVOYANT in policies or "market" in policies:
        exact = market_plan(truth, solver=solver, budget=budget, clock=clock)
    plans = _market_plans(case, truth, solver, budget, clock) if "market" in policies else []
    for name in policies:
        fixed = exact if name == CLAIRVOYANT else _fixed_plan(name, truth, static)
        settings = _settings(name, case, truth, fixed, plans)
        if not settings:
            notes.append(f"{name} is left out: {LEFT_OUT[name]}")
        else:
            outcomes = [Replay(each).run() for each in settings]
            firsts[name] = outcomes[0]
            found[name] = _figures(outcomes, deadline_ms)
    first = plans[0].plan if plans else exact or static
    document = {
        "workflow": case.name,
        "deadline_seconds": deadline_ms / 1000,
        "policies": found,
        **_bounded(case, exact, found),
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


def _market_plans(
    case: Case, truth: Workload, solver: LinearSolver | None, budget: Budget, clock: Clock
) -> list[_Made]:
    """Returns plans with the forecasts that they were made on; one where nothing is in error."""
    draws = random.Random(f"{case.seed} {case.name} errors")
    found = []
    for _ in range(case.plans if _errs(case) else 1):
        takes, spreads = _forecasts(case, draws)
        reserved = _reservations(case, draws)
        tasks = tuple(
            replace(
                task,
                duration_ms=takes[task.task_id],
                memory_bytes=reserved.get(task.task_id, task.memory_bytes),
            )
            for task in case.tasks
        )
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
        found.append(_Made(plan=best, expected_ms=takes, spreads=spreads, reserved=reserved))
    return found


def _errs(case: Case) -> bool:
    return bool(case.runtime_error or case.memory_error)


def _forecasts(case: Case, draws: random.Random) -> tuple[dict[str, int], dict[str, Spread]]:
    """Returns medians and spreads as a forecaster gives them that knows how far it errs."""
    if not case.runtime_error:
        return {task.task_id: task.duration_ms for task in case.tasks}, {}
    # Recorded x an error of mean one is no median of what was recorded: that is taken out.
    bias = math.exp(case.runtime_error**2 / 2)
    seen = {
        task.task_id: task.duration_ms * _error(case.runtime_error, draws) * bias
        for task in case.tasks
    }
    known = pooled(seen, case.kinds, case.runtime_error)
    takes = {task_id: max(1, round(median)) for task_id, (median, _) in known.items()}
    return takes, {task_id: spread for task_id, (_, spread) in known.items()}


def _reservations(case: Case, draws: random.Random) -> dict[str, int]:
    """Returns the memory reserved for each task where forecasts of it err: by the same rule as for
    what is known, or to the upper end of the forecast's band where that is more."""
    if not case.memory_error:
        return {}
    bias = math.exp(case.memory_error**2 / 2)
    seen = {
        task_id: peak * _error(case.memory_error, draws) * bias
        for task_id, peak in sorted(case.peaks.items())
    }
    known = pooled(seen, case.kinds, case.memory_error)
    found = {}
    for task in case.tasks:
        if task.task_id in known:
            median, spread = known[task.task_id]
            holding = [m.memory_bytes for m in case.machines if m.cpu_millis >= task.cpu_millis]
            wanted = reserved_bytes(median * max(1.0, spread.p95_ratio() / HEADROOM))
            found[task.task_id] = min(max(holding), wanted)
    return found


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


def _error(sigma: float, draws: random.Random) -> float:
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
        reserved: Mapping[str, int] = {}
        if name == "market":
            own = plans[k % len(plans)]
            plan, expected, spreads = own.plan, own.expected_ms, own.spreads
            reserved = own.reserved
            spot = choose_spot(plan, truth, expected, case.trace) if case.trace else spot
        elif name == "static-spot" and plan is not None:
            spot = frozenset(cu.cu_id for cu in plan.cus)
        elif name == CLAIRVOYANT and plan is not None and case.trace is not None:
            spot = surviving(plan, case.trace, offset)
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
                spot=case.spot,
                reserved=reserved,
                peaks=case.peaks if reserved else {},
                traffic=case.traffic,
                reacts=case.reacts and name == "market",
            )
        )
    is_certain = case.trace is None and (name != "market" or not _errs(case))
    return settings[:1] if is_certain else settings


def _fixed_plan(name: str, truth: Workload, static: JointPlan) -> JointPlan | None:
    if name == "market":
        return None
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
