"""Arrivals are foretold from what came before alone; launches become requests over time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from cu_market.domain.problem import InvalidInputError
from cu_market.domain.request import StepIdentity
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GB
from cu_market.pse.demand.arrivals import forecast_arrivals
from cu_market.pse.demand.backtest import backtest, mean_pinball
from cu_market.pse.demand.calendar import LAGS, WEEK, features
from cu_market.pse.demand.expected import (
    Launch,
    Source,
    StepNeed,
    demand_by_hour,
    expected_requests,
    hourly_counts,
)

T0 = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
JOB = ("here", "etl")


def weekly_arrivals(weeks: int, seed: int = 5) -> np.ndarray:
    """Poisson arrivals with a day's and a week's shape."""
    hours = np.arange(weeks * WEEK)
    shape = 60 * np.maximum(0, np.sin((hours % 24 - 6) / 24 * 2 * np.pi))
    weekday = np.where(hours // 24 % 7 < 5, 1.0, 0.3)
    return np.random.default_rng(seed).poisson(shape * weekday + 0.05).astype(float)


def test_features_know_nothing_of_the_week_that_they_describe() -> None:
    counts = weekly_arrivals(14)
    table = features(counts, 0)
    changed = counts.copy()
    changed[-WEEK:] = 1000
    again = features(changed, 0)
    assert table.shape == (15 * WEEK, 8)
    np.testing.assert_array_equal(table[: len(counts)], again[: len(counts)])
    assert not np.array_equal(table[len(counts) :], again[len(counts) :], equal_nan=True)
    assert table[LAGS * WEEK, 0] == counts[(LAGS - 1) * WEEK]
    assert table[LAGS * WEEK + 30, 6:].tolist() == [6, 1]


def test_little_history_gives_a_negative_binomial_by_the_hour() -> None:
    counts = np.tile([0.0] * 9 + [4.0] + [0.0] * 14, 5)
    forecast = forecast_arrivals(counts, hours=24)
    assert forecast.model == "negative binomial"
    assert forecast.mean.argmax() == 9
    assert (forecast.p10 <= forecast.p50).all()
    assert (forecast.p50 <= forecast.p90).all()
    assert forecast.p90[9] > 4  # five days do not bound a rate
    with pytest.raises(InvalidInputError):
        forecast_arrivals([])


@pytest.mark.slow
def test_a_learned_calendar_beats_last_week_and_its_band_holds() -> None:
    score = backtest(weekly_arrivals(18), weeks=2)
    assert score.foretold.model == "calendar"
    assert 0.76 <= score.active_coverage_ratio <= 0.90  # at night 0 is always inside
    assert score.pinball_ratio < 0.85
    assert score.pinball < score.empirical_pinball


def test_pinball_by_hand() -> None:
    came = np.array([10.0])
    low, middle, high = np.array([8.0]), np.array([10.0]), np.array([13.0])
    assert mean_pinball(came, (low, middle, high)) == pytest.approx((0.2 + 0 + 0.3) / 3)


def need(step: str, cores: int, seconds: int) -> StepNeed:
    return StepNeed(
        step_key=step,
        identity=StepIdentity(node=step),
        needs=ResourceVector(cpu_millis=1000 * cores, memory_bytes=2 * GB),
        duration_ms=1000 * seconds,
    )


def test_launches_times_steps_are_the_demand() -> None:
    plans = {JOB: [need("load", 1, 3600), need("fit", 2, 1800)]}
    launches = [
        Launch.exact(JOB, T0, Source.SCHEDULE),
        Launch.exact(JOB, T0 + timedelta(minutes=10), Source.SCHEDULE),
        Launch.exact(JOB, T0 + timedelta(hours=2), Source.BACKFILL, 5),
        Launch(job=JOB, at=T0, source=Source.ARRIVALS, mean=2.5, p10=1, p50=2, p90=5),
        Launch.exact(("here", "unknown"), T0, Source.QUEUE),
    ]
    requests = expected_requests(plans, launches)
    assert [(r.source, r.request.request_id, r.p10, r.p90) for r in requests] == [
        (Source.ARRIVALS, "load", 1, 5),
        (Source.ARRIVALS, "fit", 1, 5),
        (Source.SCHEDULE, "load", 2, 2),
        (Source.SCHEDULE, "fit", 2, 2),
        (Source.BACKFILL, "load", 5, 5),
        (Source.BACKFILL, "fit", 5, 5),
    ]
    record = requests[2].to_record()
    assert (record["quantity"], record["duration_seconds"], record["cu_type"]) == (2, 3600, "cpu")
    hours = demand_by_hour(requests)
    assert [h.hour.hour for h in hours] == [9, 11]
    # Each launch is one core-hour of each step, 2 GB for 1.5 hours.
    assert hours[0].core_hours == pytest.approx(2 * 4.5)
    assert hours[0].gb_hours == pytest.approx(3 * 4.5)
    # Both steps of a launch vary together: 2 core-hours x half of (5 - 1).
    assert hours[0].core_hours_p90 - hours[0].core_hours == pytest.approx(2 * 2)
    assert hours[1].core_hours_p10 == hours[1].core_hours == pytest.approx(10)


def test_arrivals_are_counted_by_whole_hours() -> None:
    since = T0.replace(minute=0)
    moments = [
        since,
        since + timedelta(minutes=59),
        since + timedelta(hours=2),
        since - timedelta(1),
    ]
    counts = hourly_counts(moments, since=since, until=since + timedelta(hours=3))
    assert counts == [2, 0, 1]
