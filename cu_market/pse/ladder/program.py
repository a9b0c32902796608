"""The retry ladder of least expected cost over a finite distribution, by dynamic programming.

Sets and parameters
    S_1 < ... < S_m   the support: bytes that the peak may be
    w_l               expected duration x probability of S_l (the wastage's weight)
    p_l               probability of S_l
    P, Q, R           cumulative sums of w and of w S; what is left of p above l
    ttf               how much of its time a failed attempt takes
    d                 bytes that an hour of a failed attempt's delay is worth
    f                 price of a failure whatever its length, in the unit of w x S

State: k, the largest rung known to be too small (0: none). Choosing rung l next costs

    C[k,l] = S_l (P_l - P_k) - (Q_l - Q_k) + (ttf S_l + d) (P_m - P_l) + f R_l
    V(k)   = min over l > k of C[k,l] + V(l),   V(m) = 0

The rungs of an optimal ladder are points of the support: between two of them, less is as good.
The first allocation and every next one come from k = 0 by following the minima.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def plan_ladder(
    support: Floats,
    weights: Floats,
    *,
    ttf: float = 1.0,
    delay_bytes: float = 0.0,
    failure_price: float = 0.0,
    probabilities: Floats | None = None,
) -> tuple[float, ...]:
    """Returns the rungs of least expected cost; the last one is the support's largest point.

    Args:
        support: rising bytes, shape (m,), m >= 1.
        weights: w, none negative, shape (m,).
        ttf, delay_bytes, failure_price: as in the module's docstring.
        probabilities: p, shape (m,); the weights unless given.
    """
    _, choice = solve_ladder(
        support,
        weights,
        ttf=ttf,
        delay_bytes=delay_bytes,
        failure_price=failure_price,
        probabilities=probabilities,
    )
    rungs: list[float] = []
    place = 0
    while place < len(support):
        place = int(choice[place])
        rungs.append(float(support[place - 1]))
    return tuple(rungs)


def solve_ladder(
    support: Floats,
    weights: Floats,
    *,
    ttf: float = 1.0,
    delay_bytes: float = 0.0,
    failure_price: float = 0.0,
    probabilities: Floats | None = None,
) -> tuple[Floats, NDArray[np.intp]]:
    """Returns V, shape (m + 1,), and the rung after each state: choice[k] in k + 1 .. m."""
    count = len(support)
    mass = np.concatenate(([0.0], np.cumsum(weights)))
    moment = np.concatenate(([0.0], np.cumsum(weights * support)))
    likely = weights if probabilities is None else probabilities
    left = np.maximum(likely.sum() - np.cumsum(likely), 0.0)
    left[-1] = 0.0
    failing = (ttf * support + delay_bytes) * (mass[-1] - mass[1:]) + failure_price * left
    # C[k,l] = a_l - S_l P_k + Q_k: what depends on l alone is summed once.
    alone = support * mass[1:] - moment[1:] + failing
    value = np.zeros(count + 1)
    choice = np.full(count + 1, count, dtype=np.intp)
    for k in range(count - 1, -1, -1):
        costs = alone[k:] - support[k:] * mass[k] + value[k + 1 :]
        best = int(costs.argmin())
        value[k] = costs[best] + moment[k]
        choice[k] = k + 1 + best
    return value, choice
