"""How sure the carriers' delays are: bootstrap confidence intervals, heavy in CPU."""

from __future__ import annotations

import dagster as dg
import numpy as np
import pandas as pd

from cu_market import compute

RESAMPLES = 1000
SEED = 2013


@dg.asset(group_name="statistics", op_tags=compute(cpu=2, memory="256MiB"))
def delay_intervals(flights_clean: pd.DataFrame) -> pd.DataFrame:
    """95 % interval of the mean arrival delay by bootstrap: one row a carrier, minutes.

    Efron's percentile interval: the 2.5 % and 97.5 % quantiles of the means of samples drawn with
    replacement.
    """
    random = np.random.default_rng(SEED)
    rows = []
    for carrier, delays in flights_clean.groupby("carrier", observed=True)["arr_delay"]:
        low, high = interval(delays.to_numpy(dtype="float32"), random)
        rows.append((carrier, len(delays), float(delays.mean()), low, high))
    return pd.DataFrame(rows, columns=["carrier", "flights", "mean_delay", "low", "high"])


def interval(
    values: np.ndarray[tuple[int], np.dtype[np.float32]], random: np.random.Generator
) -> tuple[float, float]:
    """Returns the 95 % percentile interval of the mean of values."""
    means = np.array(
        [values[random.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)]
    )
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
