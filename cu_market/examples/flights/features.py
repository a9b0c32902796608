"""What the wide table says by day, by hour and by carrier."""

from __future__ import annotations

import dagster as dg
import pandas as pd

from cu_market import compute
from cu_market.examples.flights.source import read_table

LATE_MINUTES = 15
"""From here on an arrival counts as late, as the airlines' own statistics do."""


@dg.asset(group_name="features", op_tags=compute(cpu=1, memory="384MiB"))
def daily_features(flights_joined: pd.DataFrame) -> pd.DataFrame:
    """Flights, mean delay and share of late arrivals: one row an airport and day."""
    by_day = flights_joined.assign(
        date=flights_joined["time_hour"].dt.floor("D"),
        is_late=flights_joined["arr_delay"] > LATE_MINUTES,
    ).groupby(["origin", "date"], observed=True)
    days = by_day.agg(
        flights=("arr_delay", "size"),
        mean_delay=("arr_delay", "mean"),
        late_ratio=("is_late", "mean"),
        rain=("precip_mean", "max"),
    ).reset_index()
    days["week_delay"] = days.groupby("origin", observed=True)["mean_delay"].transform(
        lambda delay: delay.rolling(7, min_periods=1).mean()
    )
    return days


@dg.asset(group_name="features", op_tags=compute(cpu=2, memory="384MiB"))
def hourly_features(flights_joined: pd.DataFrame) -> pd.DataFrame:
    """How busy and how late an airport was: one row an airport and hour.

    ``delay_before`` is the mean delay of the three hours before, all that a passenger can know.
    """
    hours = (
        flights_joined.groupby(["origin", "time_hour"], observed=True)
        .agg(departures=("dep_delay", "size"), mean_delay=("dep_delay", "mean"))
        .reset_index()
        .sort_values(["origin", "time_hour"])
    )
    hours["delay_before"] = hours.groupby("origin", observed=True)["mean_delay"].transform(
        lambda delay: delay.shift(1).rolling(3, min_periods=1).mean()
    )
    return hours


@dg.asset(group_name="features")
def carrier_delays(flights_clean: pd.DataFrame) -> pd.DataFrame:
    """Flights, median and mean arrival delay: one row a carrier and airport."""
    delays = (
        flights_clean.groupby(["carrier", "origin"], observed=True)["arr_delay"]
        .agg(flights="size", median_delay="median", mean_delay="mean")
        .reset_index()
    )
    names = read_table("airlines").set_index("carrier")["name"]
    delays["airline"] = delays["carrier"].astype("str").map(names)
    return delays
