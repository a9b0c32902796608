"""Trains a model: the parameters of least relative wastage on the older part of the history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from cu_market.domain.usage import Ending, Usage
from cu_market.pse.champion.evaluation import score_all
from cu_market.pse.champion.state import DEFAULT_PARAMETERS, ModelState

HELD_BACK_RATIO = 0.3
"""Share of the newest good ends that nothing is trained on."""

GRID: Mapping[str, tuple[float, ...]] = {
    "window": (3, 8, 30),
    "headroom_base_ratio": (0.05, 0.1, 0.2, 0.35),
    "spread_share": (0.0, 0.25, 0.5, 1.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """A training's outcome.

    Attributes:
        state: the best of the grid.
        tried: relative wastage of each, by its parameters.
        held_back_from: how many good ends came before those held back.
    """

    state: ModelState
    tried: tuple[tuple[ModelState, float], ...]
    held_back_from: int


def train(usages: Iterable[Usage], *, grid: Mapping[str, tuple[float, ...]] = GRID) -> Training:
    """Returns the state with the least mean relative wastage on all but what is held back.

    Args:
        usages: one code location's attempts.
        grid: values to try by parameter; the others keep their default.
    """
    ordered = sorted(usages, key=lambda u: (u.ended_at, u.run_id, u.step_key, u.attempt))
    good = [u for u in ordered if u.ending is Ending.OK and not u.external]
    first_held = held_back_from(len(good))
    until = good[first_held].ended_at if first_held < len(good) else None
    seen = [u for u in ordered if until is None or u.ended_at < until]
    tried = []
    for values in product(*grid.values()):
        parameters = {**DEFAULT_PARAMETERS, **dict(zip(grid, values, strict=True))}
        state = ModelState(parameters=parameters, trained_on=len(seen))
        scored = score_all(state.forecaster(), seen)
        loss = float(np.mean([s.relative_wastage for s in scored])) if scored else float("inf")
        tried.append((state, loss))
    best = min(tried, key=lambda each: (each[1], -each[0].parameters["headroom_base_ratio"]))
    return Training(state=best[0], tried=tuple(tried), held_back_from=first_held)


def held_back_from(count: int) -> int:
    """Returns how many of so many good ends are trained on."""
    return count - round(HELD_BACK_RATIO * count)
