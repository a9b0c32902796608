"""How good arrival forecasts have been: each of the last weeks foretold by what came before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cu_market.domain.problem import require
from cu_market.pse.demand.arrivals import ArrivalForecast, forecast_arrivals
from cu_market.pse.demand.calendar import WEEK, Floats

QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True, slots=True)
class DemandScore:
    """The outcome of a backtest.

    Attributes:
        coverage_ratio: share of hours whose arrivals fell into p10 to p90, ends included.
        active_coverage_ratio: the same over hours of the day in which something ever arrives.
        pinball: mean pinball loss at 10, 50 and 90 %, arrivals.
        naive_pinball: of the same hour of the week before, as each of the three.
        empirical_pinball: of quantiles of the same hour of the eight weeks before.
        foretold: the forecast of every tested hour.
        came: what arrived, shape (weeks x 168,).
    """

    coverage_ratio: float
    active_coverage_ratio: float
    pinball: float
    naive_pinball: float
    empirical_pinball: float
    foretold: ArrivalForecast
    came: Floats

    @property
    def pinball_ratio(self) -> float:
        """The loss over the seasonal naive forecast's; below 1 is better."""
        return self.pinball / self.naive_pinball if self.naive_pinball else float("nan")

    def to_record(self) -> dict[str, float]:
        """Returns the figures by name."""
        return {
            "coverage": self.coverage_ratio,
            "active_coverage": self.active_coverage_ratio,
            "pinball": self.pinball,
            "seasonal_naive_pinball": self.naive_pinball,
            "empirical_pinball": self.empirical_pinball,
            "pinball_ratio": self.pinball_ratio,
        }


def backtest(counts: Floats, *, weeks: int = 8, first_hour_of_week: int = 0) -> DemandScore:
    """Returns how the last weeks would have been foretold, each the week before.

    Args:
        counts: arrivals an hour, oldest first; at least 8 weeks more than are tested.
        weeks: how many are held out.
        first_hour_of_week: of the first count; Monday's midnight is 0.
    """
    past = np.asarray(counts, dtype=np.float64)
    first = len(past) - weeks * WEEK
    enough = weeks > 0 and first >= 8 * WEEK
    require(enough, "backtest", len(past), "too few hours", "give 8 weeks more than are tested")
    forecasts = [
        forecast_arrivals(past[:start], first_hour_of_week=first_hour_of_week)
        for start in range(first, len(past), WEEK)
    ]
    foretold = ArrivalForecast(
        mean=np.concatenate([forecast.mean for forecast in forecasts]),
        p10=np.concatenate([forecast.p10 for forecast in forecasts]),
        p50=np.concatenate([forecast.p50 for forecast in forecasts]),
        p90=np.concatenate([forecast.p90 for forecast in forecasts]),
        model=forecasts[-1].model,
    )
    came = past[first:]
    inside = (came >= foretold.p10) & (came <= foretold.p90)
    clock = np.arange(len(past)) % 24
    ever = np.array([past[:first][clock[:first] == hour].mean() > 0 for hour in range(24)])
    naive = past[first - WEEK : len(past) - WEEK]
    before = np.stack([past[first - k * WEEK : len(past) - k * WEEK] for k in range(1, 9)])
    active = ever[clock[first:]]
    return DemandScore(
        coverage_ratio=float(inside.mean()),
        active_coverage_ratio=float(inside[active].mean()) if active.any() else 1.0,
        pinball=mean_pinball(came, (foretold.p10, foretold.p50, foretold.p90)),
        naive_pinball=mean_pinball(came, (naive, naive, naive)),
        empirical_pinball=mean_pinball(came, tuple(np.quantile(before, QUANTILES, axis=0))),
        foretold=foretold,
        came=came,
    )


def mean_pinball(came: Floats, foretold: tuple[Floats, ...]) -> float:
    """Returns the mean over hours and quantiles of max(a (y - q), (a - 1) (y - q))."""
    losses = []
    for level, quantile in zip(QUANTILES, foretold, strict=True):
        miss = came - quantile
        losses.append(np.maximum(level * miss, (level - 1) * miss).mean())
    return float(np.mean(losses))
