"""What the past says of an hour to come: the same hour of earlier weeks, and of the last days.

Everything that is used of the past is at least a week old, so that one model foretells every hour
of the next seven days.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DAY, WEEK = 24, 168
LAGS = 8
"""Weeks that are looked back at."""

FEATURES = (
    "last_week",
    "mean_of_4_weeks",
    "mean_of_8_weeks",
    "median_of_5_weeks",
    "level",
    "mean_of_7_days",
    "hour_of_day",
    "day_of_week",
)


def features(counts: Sequence[float] | Floats, first_hour_of_week: int) -> Floats:
    """Returns the features of each hour of the past and of the week after it.

    Args:
        counts: arrivals an hour, shape (n,).
        first_hour_of_week: 0 to 167, of the first count; Monday's midnight is 0.

    Returns:
        shape (n + WEEK, len(FEATURES)); NaN where the past does not reach back so far.
    """
    known = np.concatenate([np.asarray(counts, dtype=np.float64), np.full(WEEK, np.nan)])
    place = (np.arange(len(known)) + first_hour_of_week) % WEEK
    weeks = np.stack([_shifted(known, lag * WEEK) for lag in range(1, LAGS + 1)])
    days = np.stack([_shifted(known, WEEK + DAY * lag) for lag in range(7)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of hours that nothing is known of
        columns = [
            weeks[0],
            np.nanmean(weeks[:4], axis=0),
            np.nanmean(weeks, axis=0),
            np.nanmedian(weeks[:5], axis=0),
            _level(known),
            np.nanmean(days, axis=0),
            place % DAY,
            place // DAY,
        ]
    return np.stack(columns, axis=1).astype(np.float64)


def _shifted(values: Floats, hours: int) -> Floats:
    return np.concatenate([np.full(hours, np.nan), values])[: len(values)]


def _level(known: Floats) -> Floats:
    """Returns the newest complete week's total over that of the newest four."""
    sums = np.full(len(known), np.nan)
    total = np.concatenate([[0.0], np.cumsum(np.nan_to_num(known))])
    ends = np.arange(WEEK, len(known) + 1)
    sums[WEEK - 1 :] = total[ends] - total[ends - WEEK]
    newest = _shifted(sums, WEEK)
    month = np.stack([_shifted(newest, lag * WEEK) for lag in range(4)])
    return np.asarray(newest / (np.nanmean(month, axis=0) + 1e-9))
