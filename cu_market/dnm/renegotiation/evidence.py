"""Forecasts of steps of one kind, held together: noise of a single step is not its kind's error.

Forecasts of n steps of a kind are y_j = log f_j = log x_j + e_j, e_j ~ N(0, s^2) independent, and
log x_j ~ N(mu, t^2). The kind's own spread is what is seen beyond the noise, and each forecast is
drawn to the kind's mean by as much as noise explains (empirical Bayes: Efron and Morris, "Data
analysis using Stein's estimator and its generalizations", 1975):

    t^2 = max(0, var(y) - s^2),   B = t^2 / (t^2 + s^2)
    log x_j | y  ~  N( mean(y) + B (y_j - mean(y)),  B s^2 + (1 - B)^2 (t^2 + s^2) / n )

So the longest of forty equal steps is no longer taken for the one whose forecast erred most.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from statistics import fmean, variance

from cu_market.dnm.renegotiation.remaining import Spread


def pooled(
    medians_ms: Mapping[str, float], kinds: Mapping[str, str], sigma: float
) -> dict[str, tuple[float, Spread]]:
    """Returns (median, spread) of each step's duration, by step, given all forecasts together.

    Args:
        medians_ms: each step's own forecast.
        kinds: of the steps; one that is not named here is a kind of its own.
        sigma: of the logarithm of each forecast's error; 0 leaves the forecasts alone.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for step in medians_ms:
        members[kinds.get(step, f"only {step}")].append(step)
    found: dict[str, tuple[float, Spread]] = {}
    for steps in members.values():
        logs = {step: math.log(max(1e-9, medians_ms[step])) for step in steps}
        mean = fmean(logs.values())
        own = max(0.0, variance(logs.values()) - sigma**2) if len(steps) > 1 else math.inf
        trust = 1.0 if math.isinf(own) or sigma <= 0 else own / (own + sigma**2)
        error = trust * sigma**2
        if trust < 1:
            error += (1 - trust) ** 2 * (own + sigma**2) / len(steps)
        for step in steps:
            median = math.exp(mean + trust * (logs[step] - mean))
            found[step] = (median, Spread(sigma=math.sqrt(error)))
    return found
