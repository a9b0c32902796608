"""From experts to one distribution: weights by what they foresaw before, samples pooled, a tail.

The weight of expert e at x is exp(-KAPPA (L_e / L_min - 1)), L_e its mean loss on past samples j,
weighted by nearness in the input, duration and recency:

    K_j = (exp(-2 |log x/x_j| / sd) + 0.2) t_j / mean(t) (j + 1) / (n + 1)
    L_e = (sum K_j l_je + PRIOR_LOSS) / (sum K_j + 1)

The loss is the continuous ranked probability score over the actual amount. (Half of it the
relative cost of the expert's own ladder, as first tried, doubled the wastage of one process whose
memory levels off: a miss by a thousandth counts as a whole attempt there.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cu_market.domain.request import Quantiles
from cu_market.pse.ladder.program import Floats
from cu_market.pse.models.experts import COUNT, Answers

KAPPA = 4.0
PRIOR_LOSS = 0.1
SMALLEST_WEIGHT = 0.02
MOST_LOSS = 2.0

POINTS = 32
"""Points of equal mass that stand for an expert when its loss is taken."""

_LEVELS = (np.arange(POINTS) + 1) / POINTS * (1 - 1e-9)
_SPACING = (2 * np.arange(1, POINTS + 1) - POINTS - 1) / POINTS**2

TAIL_PLACES = np.array([0.33, 0.67, 1.0, 2.0])
TAIL_MASSES = np.array([0.30, 0.25, 0.20, 0.15, 0.10])
"""Where the tail's mass lies: steps above the largest sample, and a tenth of it at twice that."""

SHORTEST_STEP = 0.01
"""A tail's step is at least this share of the largest sample."""

NORMAL_POINTS = np.array([-2.0, -1.2816, -0.5244, 0.0, 0.5244, 1.2816, 2.0])


@dataclass(frozen=True, slots=True)
class Pool:
    """A distribution as weighted points, rising.

    Attributes:
        values: amounts, shape (m,).
        masses: probabilities, sum 1.
        time_masses: masses times expected duration, sum 1: the weights of wastage.
    """

    values: Floats
    masses: Floats
    time_masses: Floats

    def quantile(self, ratio: float) -> float:
        """Returns the smallest value with at least this mass at or below it."""
        place = int(np.searchsorted(np.cumsum(self.masses), ratio * (1 - 1e-12)))
        return float(self.values[min(place, len(self.values) - 1)])

    def quantiles(self) -> Quantiles:
        """Returns p10, p50 and p95, rounded to whole amounts."""
        p10, p50, p95 = (round(self.quantile(ratio)) for ratio in (0.1, 0.5, 0.95))
        return Quantiles(p10=p10, p50=p50, p95=p95)

    @property
    def mean(self) -> float:
        """The expected amount."""
        return float(self.values @ self.masses)


def pooled(values: Floats, masses: Floats, time_masses: Floats) -> Pool:
    """Returns the pool of points in any order."""
    order = np.argsort(values, kind="stable")
    return Pool(
        values=values[order],
        masses=masses[order] / masses.sum(),
        time_masses=time_masses[order] / time_masses.sum(),
    )


def expert_weights(x: Floats, durations: Floats, losses: Floats, at: float) -> Floats:
    """Returns the experts' weights at x, shape (COUNT,), sum 1.

    Args:
        x, durations: of past samples, oldest first, shape (n,).
        losses: each expert's on each sample, shape (n, COUNT).
        at: the new task's x.
    """
    count = len(x)
    log_x = np.log(x)
    scale = 0.5 * (float(log_x.std()) + 1e-3)
    nearness = np.exp(-np.abs(log_x - math.log(at)) / scale) + 0.2
    recency = (np.arange(count) + 2.0) / (count + 1)
    kernel = nearness * durations / float(durations.mean()) * recency
    loss = (kernel @ losses + PRIOR_LOSS) / (float(kernel.sum()) + 1)
    weights = np.exp(-KAPPA * (loss / float(loss.min()) - 1))
    weights /= weights.sum()
    weights[weights < SMALLEST_WEIGHT] = 0.0
    return np.asarray(weights / weights.sum())


def losses_of(answers: Answers, amount: float) -> Floats:
    """Returns each expert's CRPS on an amount, over the amount, at most MOST_LOSS.

    CRPS = E|X - y| - E|X - X'| / 2, by POINTS quantiles q_i of equal mass:
    mean |q_i - y| - sum (2 i - k - 1) q_i / k^2.
    """
    order = np.argsort(answers.values, axis=1)
    rising = np.take_along_axis(answers.values, order, axis=1)
    mass = np.cumsum(np.take_along_axis(answers.weights, order, axis=1), axis=1)
    points = np.empty((COUNT, POINTS))
    last = rising.shape[1] - 1
    for row in range(COUNT):
        places = np.searchsorted(mass[row], _LEVELS * mass[row, -1])
        points[row] = rising[row, np.minimum(places, last)]
    score = np.abs(points - amount).mean(axis=1) - points @ _SPACING
    return np.asarray(np.clip(score / amount, 0.0, MOST_LOSS))


def pool_experts(answers: Answers, weights: Floats, durations: Floats) -> Pool:
    """Returns the experts' samples as one pool, each sample weighing its task's duration, too."""
    kept = weights > 0
    mass = weights[kept, None] * answers.weights[kept]
    return pooled(answers.values[kept].ravel(), mass.ravel(), (mass * durations).ravel())


def effective_size(answers: Answers, weights: Floats) -> float:
    """Returns how many tasks a pool rests on (Kish), by their summed masses."""
    mass = weights @ answers.weights
    return min(float(len(mass)), 1 / float((mass * mass).sum()))


def with_tail(pool: Pool, mass: float, most: float) -> Pool:
    """Returns the pool with what so few samples have not shown yet above its largest value.

    Args:
        pool: without a tail.
        mass: of the tail.
        most: nothing larger is foreseen, unless the pool has it.
    """
    top = float(pool.values[-1])
    step = max(top - pool.quantile(0.5), SHORTEST_STEP * top)
    places = np.append(top + TAIL_PLACES * step, 2 * top)
    return blended(pool, np.minimum(places, max(most, 1.001 * top)), TAIL_MASSES, mass)


def blended(pool: Pool, values: Floats, masses: Floats, share: float) -> Pool:
    """Returns the pool with other points at a share of the mass.

    Args:
        pool: what has the rest.
        values, masses: the points; the masses sum to 1.
        share: 0 to below 1.
    """
    return pooled(
        np.concatenate([pool.values, values]),
        np.concatenate([pool.masses * (1 - share), masses * share]),
        np.concatenate([pool.time_masses * (1 - share), masses * share]),
    )


def widened(pool: Pool, width: float, share: float, most: float) -> Pool:
    """Returns the pool with a share of a lognormal around its mean, as wide as few samples hide."""
    values = np.minimum(pool.mean * np.exp(width * NORMAL_POINTS), most)
    masses = np.full(len(NORMAL_POINTS), 1 / len(NORMAL_POINTS))
    return blended(pool, values, masses, share)
