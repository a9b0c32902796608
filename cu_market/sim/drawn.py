"""Forecasts that err by a given sigma, drawn about what was recorded.

The error is lognormal with mean one: the planner is given recorded x error, the replay has what was
recorded. So at any error the deadline could be met by whoever knew the truth. The planner knows how
far its forecasts err: it holds those of one kind of step together.
"""

from __future__ import annotations

import math
import random

from cu_market.dnm.renegotiation import Spread, pooled
from cu_market.sim.case import Case
from cu_market.sim.forecasts import Forecasts
from cu_market.sim.inputs import HEADROOM, reserved_bytes


def draw_forecasts(case: Case, draws: random.Random) -> Forecasts:
    """Returns what the market is told, exact where nothing is in error."""
    expected_ms, spreads = _durations(case, draws)
    return Forecasts(expected_ms=expected_ms, spreads=spreads, reserved=_reservations(case, draws))


def is_erring(case: Case) -> bool:
    """Whether forecasts are drawn at all."""
    return bool(case.runtime_error or case.memory_error)


def _durations(case: Case, draws: random.Random) -> tuple[dict[str, int], dict[str, Spread]]:
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


def _error(sigma: float, draws: random.Random) -> float:
    return math.exp(sigma * draws.gauss(0, 1) - sigma * sigma / 2) if sigma else 1.0
