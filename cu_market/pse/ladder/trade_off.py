"""What a first allocation costs and how often it fails: the curve that a risk picks its point of.

Peaks S_1 < ... < S_m with probabilities p (sum 1), P and Q the cumulative sums of p and p S. A
first allocation a with k points at or below it, its retries those of least cost (program.py), holds

    E(a) = a P_k + ttf a (1 - P_k) + V(k) + Q_m - Q_k

bytes on average, over the task's duration: V(k) counts what retries hold without use, and
Q_m - Q_k what they use.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from cu_market.pse.distribution import Distribution
from cu_market.pse.ladder.program import solve_ladder

FAILING = (0.5, 0.25, 0.1, 0.05, 0.02, 0.01, 0.0)
"""Probabilities of failure whose first allocations are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One first allocation.

    Attributes:
        first_bytes: what is asked for first.
        failure_probability: that the peak is above it.
        held_bytes: expected bytes x attempts, over the task's duration: what is paid for.
        cost_ratio: held_bytes over the expected peak; 1 would be paid by one who knows it before.
    """

    first_bytes: int
    failure_probability: float
    held_bytes: float
    cost_ratio: float


def trade_off(
    peaks: Distribution, firsts: Iterable[int] = (), *, ttf: float = 1.0
) -> tuple[Choice, ...]:
    """Returns the choices for FAILING's probabilities and those asked for, the smallest first.

    Args:
        peaks: the forecast's distribution, bytes.
        firsts: first allocations that are to be among them.
        ttf: how much of its time a failed attempt takes.
    """
    support, place = np.unique(np.asarray(peaks.values, dtype=np.float64), return_inverse=True)
    masses = np.bincount(place, np.asarray(peaks.weights))
    masses = masses / masses.sum()
    value, _ = solve_ladder(support, masses, ttf=ttf)
    mass = np.concatenate(([0.0], np.cumsum(masses)))
    moment = np.concatenate(([0.0], np.cumsum(masses * support)))

    def choice(first: int) -> Choice:
        known = int(np.searchsorted(support, first, side="right"))
        missed = float(mass[-1] - mass[known]) if known < len(support) else 0.0
        later = value[known] + moment[-1] - moment[known]
        held = float(first * (mass[known] + ttf * missed) + later)
        return Choice(
            first_bytes=first,
            failure_probability=missed,
            held_bytes=held,
            cost_ratio=held / max(1.0, float(moment[-1])),
        )

    levels = {peaks.quantile(1 - failing) for failing in FAILING}
    return tuple(choice(first) for first in sorted(levels | set(firsts)))
