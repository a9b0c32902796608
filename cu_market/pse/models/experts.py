"""Experts: each turns a process's samples (x, y) into a weighted sample of y at a new x.

Eight of them, all in closed form and computed together as rows of one matrix:

    0  the past y's as they are
    1  the y's of the nearest x's
    2  log-log least squares
    3  log-log least squares over the near x's
    4  least squares
    5  least squares over the near x's
    6  least squares of the relative error, slope not negative
    7  the same over the near x's

A line's sample is its value at x plus each residual r_i / (1 - h_i), h_i the leverage: what the
residual would have been had the line been drawn without that point. Rows 2 and 3 add residuals in
the logarithm, 6 and 7 multiply by the ratio of actual to line.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cu_market.pse.ladder.program import Floats

COUNT = 8
"""How many experts there are."""

LEAST_FREEDOM = 0.2
"""1 - h is at least this: with two points on a line nothing is left to correct by."""

NEAR_RATIO, NEAR_MIN = 0.3, 8
"""How many points a line near x looks at: a share of all, at least so many."""

NEIGHBOUR_RATIO, NEIGHBOUR_MIN = 0.15, 5
LOG_NEAR_RATIO = 0.4


@dataclass(frozen=True, slots=True)
class Answers:
    """The experts' samples.

    Attributes:
        values: amounts, shape (COUNT, n).
        weights: rows sum to 1, shape (COUNT, n).
    """

    values: Floats
    weights: Floats


def ask_experts(x: Floats, y: Floats, at: float) -> Answers:
    """Returns what every expert expects at x.

    Args:
        x, y: positive amounts, shape (n,), n >= 1.
        at: the new task's x, positive.
    """
    count = len(x)
    log_x, log_y = np.log(x), np.log(y)
    log_at = float(np.log(at))
    distance = np.abs(log_x - log_at)
    ordered = np.sort(distance)
    near = _tricube(distance, ordered, max(NEAR_MIN, NEAR_RATIO * count))
    log_near = _tricube(distance, ordered, max(NEAR_MIN, LOG_NEAR_RATIO * count))
    place = min(count, int(max(NEIGHBOUR_MIN, NEIGHBOUR_RATIO * count))) - 1
    neighbours = (distance <= ordered[place]).astype(np.float64)
    x_scale, y_scale = float(x.max()), float(y.max())
    even = np.ones(count)
    relative = (float(y.min()) / y) ** 2
    u = np.empty((6, count))
    u[:2], u[2:] = log_x, x / x_scale
    v = np.empty((6, count))
    v[:2], v[2:] = log_y, y / y_scale
    weights = np.stack([even, log_near, even, near, relative, relative * near])
    place_u = np.array([log_at, log_at, *(4 * [at / x_scale])])
    level, fitted, freedom = _lines(u, v, weights, place_u)
    residual = (v - fitted) / freedom
    values = np.empty((COUNT, count))
    values[:2] = y
    values[2:4] = np.exp(np.minimum(level[:2, None] + residual[:2], 100.0))
    values[4:6] = (level[2:4, None] + residual[2:4]) * y_scale
    floor = 0.05 * float(v[2].min())
    line = np.maximum(level[4:, None], floor)
    ratio = 1 + (v[4:] / np.maximum(fitted[4:], floor) - 1) / freedom[4:]
    values[6:] = line * ratio * y_scale
    mass = np.stack([even, neighbours, even, log_near, even, near, even, near])
    return Answers(values=values, weights=mass / mass.sum(axis=1, keepdims=True))


def _tricube(distance: Floats, ordered: Floats, wanted: float) -> Floats:
    """Returns weights (1 - (d / d_k)^3)^3 of the k nearest points, never all of them 0."""
    place = min(len(ordered), int(wanted)) - 1
    reach = 1.001 * float(ordered[place]) + 1e-9
    share = np.minimum(distance / reach, 1.0)
    return np.asarray(np.maximum((1 - share**3) ** 3, 1e-6 * (distance <= reach)))


def _lines(u: Floats, v: Floats, w: Floats, at: Floats) -> tuple[Floats, Floats, Floats]:
    """Returns six weighted lines: value at the new u, value at each u, 1 - leverage of each.

    The slopes of the last two are not negative.
    """
    total = w.sum(axis=1, keepdims=True)
    mean_u = (w * u).sum(axis=1, keepdims=True) / total
    mean_v = (w * v).sum(axis=1, keepdims=True) / total
    du = u - mean_u
    wdu = w * du
    spread = (wdu * du).sum(axis=1, keepdims=True)
    flat = spread <= 1e-12 * total
    spread = np.where(flat, 1.0, spread)
    slope = np.where(flat, 0.0, (wdu * (v - mean_v)).sum(axis=1, keepdims=True) / spread)
    slope[4:] = np.maximum(slope[4:], 0.0)
    leverage = w * (1 / total + np.where(flat, 0.0, du * du / spread))
    freedom = np.maximum(1 - leverage, LEAST_FREEDOM)
    level = mean_v[:, 0] + slope[:, 0] * (at - mean_u[:, 0])
    return level, mean_v + slope * du, freedom
