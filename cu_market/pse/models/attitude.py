"""What each risk charges for a failed attempt, beyond the memory that it held in vain."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cu_market.domain.spec import Risk
from cu_market.pse.distribution import Distribution
from cu_market.pse.ladder.program import Floats, plan_ladder
from cu_market.pse.models.mixture import Pool
from cu_market.pse.protocols.score import BYTE_MS_PER_GB_HOUR

LEVELS = np.concatenate([(np.arange(63) + 1) / 64, 1 - np.geomspace(1 / 96, 1e-4, 12), [1.0]])
"""Where the distribution is cut into the support that the ladder is planned over: evenly, and finer
at the top, where it is decided how rarely a first allocation fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attitude:
    """How a risk weighs failures.

    Attributes:
        delay_ratio: an hour of delay by a failed attempt costs as much as this share of the
            distribution's largest point, held for an hour.
        most_failing: the first allocation fails with at most this probability.
        failure_gb_hours: a failure costs a person's patience besides, however short it was. So
            short and small tasks, where holding more costs next to nothing, hardly ever fail.
        most_patience_ratio: the price of patience is at most this multiple of the distribution's
            largest point held for the task's duration: memory held for nothing is also missing.
        min_history: with fewer completed tasks the first size is what its author asked for, unless
            more is expected.
    """

    delay_ratio: float
    failure_gb_hours: float
    most_patience_ratio: float = math.inf
    most_failing: float = 1.0
    min_history: int = 0


ATTITUDES = {
    Risk.COST: Attitude(delay_ratio=0.0, failure_gb_hours=0.0),
    Risk.BALANCED: Attitude(delay_ratio=1.0, failure_gb_hours=0.01, most_patience_ratio=1.0),
    Risk.SAFE: Attitude(delay_ratio=0.0, failure_gb_hours=200.0, most_failing=0.01, min_history=2),
}


def plan_sizes(
    pool: Pool, attitude: Attitude, *, duration_ms: float, ttf: float = 1.0
) -> tuple[float, ...]:
    """Returns the ladder of least expected cost under an attitude.

    Args:
        pool: the peak's distribution.
        attitude: what failures cost.
        duration_ms: expected.
        ttf: how much of its time a failed attempt takes.
    """
    support = _support(pool)
    if attitude.most_failing < 1:
        floor = pool.quantile(1 - attitude.most_failing)
        support = np.unique(np.append(support[support > floor], floor))
    place = np.searchsorted(support, pool.values)
    weights = np.bincount(place, pool.time_masses, len(support)).astype(np.float64)
    masses = np.bincount(place, pool.masses, len(support)).astype(np.float64)
    patience = attitude.failure_gb_hours * BYTE_MS_PER_GB_HOUR / max(duration_ms, 1.0)
    largest = float(support[-1])
    return plan_ladder(
        support,
        weights,
        ttf=ttf,
        delay_bytes=attitude.delay_ratio * largest,
        failure_price=min(patience, attitude.most_patience_ratio * largest),
        probabilities=masses,
    )


def peaks_of(pool: Pool) -> Distribution:
    """Returns a pool as the distribution in bytes that ladders are planned over."""
    support = _support(pool)
    masses = np.bincount(np.searchsorted(support, pool.values), pool.masses, len(support))
    pairs = zip(support.tolist(), masses.tolist(), strict=True)
    return Distribution.of((round(value), mass) for value, mass in pairs if mass > 0)


def _support(pool: Pool) -> Floats:
    count = len(pool.values)
    reached = np.cumsum(pool.time_masses)
    levels = LEVELS * reached[-1] * (1 - 1e-12)
    support = np.unique(pool.values[np.minimum(np.searchsorted(reached, levels), count - 1)])
    if support[-1] < pool.values[-1]:
        support = np.append(support, pool.values[-1])
    return support
