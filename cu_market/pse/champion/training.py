"""Trains a model: the parameters of least relative wastage on what is not held back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from cu_market.domain.usage import Usage
from cu_market.pse.champion.evaluation import score_all
from cu_market.pse.champion.state import DEFAULT_PARAMETERS, LEARNED, ModelState
from cu_market.pse.models.forecaster import STEP_WIDTH
from cu_market.pse.models.predictor import MEMORY_DOUBT

NEWEST = 2000
"""Attempts at most that a grid is tried on."""

GRID: Mapping[str, tuple[float, ...]] = {
    "window": (3, 8, 30),
    "headroom_base_ratio": (0.05, 0.1, 0.2, 0.35),
    "spread_share": (0.0, 0.25, 0.5, 1.0),
}

LEARNED_GRID: Mapping[str, tuple[float, ...]] = {
    "window": (8, 30),
    "doubt": (MEMORY_DOUBT, MEMORY_DOUBT / 3),
    "width": (STEP_WIDTH, STEP_WIDTH / 2, 2 * STEP_WIDTH),
}

DEFAULT_STATE = ModelState(
    family=LEARNED, parameters={"window": 30, "doubt": MEMORY_DOUBT, "width": STEP_WIDTH}
)
"""What sizes steps of a code location without a champion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """A training's outcome.

    Attributes:
        state: the best of the grid.
        tried: relative wastage of each, by its parameters.
    """

    state: ModelState
    tried: tuple[tuple[ModelState, float], ...]


def train(
    usages: Iterable[Usage], *, grid: Mapping[str, tuple[float, ...]] | None = None
) -> Training:
    """Returns the state with the least mean relative wastage on all that is not held back.

    Args:
        usages: one code location's attempts.
        grid: values to try by parameter of the empirical family alone, the others at their
            default; left out: the grids of both families.
    """
    ordered = sorted(usages, key=lambda u: (u.ended_at, u.run_id, u.step_key, u.attempt))
    tried = []
    for state in _candidates(grid, len(ordered)):
        scored = score_all(state.forecaster(), ordered[-NEWEST:], held_back=False)
        loss = float(np.mean([s.relative_wastage for s in scored])) if scored else float("inf")
        tried.append((state, loss))
    best = min(tried, key=lambda each: each[1])
    return Training(state=best[0], tried=tuple(tried))


def _candidates(grid: Mapping[str, tuple[float, ...]] | None, count: int) -> Iterator[ModelState]:
    """Yields what is tried; of equals the first is taken, so the default comes first."""
    if grid is None:
        yield replace(DEFAULT_STATE, trained_on=count)
        for values in product(*LEARNED_GRID.values()):
            learned = dict(zip(LEARNED_GRID, values, strict=True))
            yield ModelState(family=LEARNED, parameters=learned, trained_on=count)
    chosen = GRID if grid is None else grid
    for values in product(*chosen.values()):
        parameters = {**DEFAULT_PARAMETERS, **dict(zip(chosen, values, strict=True))}
        yield ModelState(parameters=parameters, trained_on=count)
