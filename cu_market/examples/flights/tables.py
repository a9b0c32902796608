"""The raw tables, the cleaned flights, and the one wide table that everything else reads."""

from __future__ import annotations

import dagster as dg
import pandas as pd

from cu_market import compute
from cu_market.examples.flights.source import read_table

WEATHER_HOURS = 24
"""How many hours of weather, up to the hour of departure, a flight is joined with."""

WEATHER_COLUMNS = ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]

FLIGHT_COLUMNS = [
    "month", "day", "dep_delay", "arr_delay", "carrier", "tailnum", "origin", "dest",
    "air_time", "distance", "hour", "time_hour",
]  # fmt: skip


@dg.asset(group_name="raw", op_tags=compute(cpu=2, memory="640MiB"))
def flights() -> pd.DataFrame:
    """Every flight that left New York in 2013: one row a flight."""
    return read_table("flights")


@dg.asset(group_name="raw")
def weather() -> pd.DataFrame:
    """The weather at the three airports: one row an airport and hour."""
    return read_table("weather")


@dg.asset(group_name="raw")
def planes() -> pd.DataFrame:
    """The aircraft register: one row a tail number."""
    return read_table("planes")


@dg.asset(group_name="raw")
def airports() -> pd.DataFrame:
    """Where the airports are: one row an airport."""
    return read_table("airports")


@dg.asset(group_name="tables", op_tags=compute(cpu=2, memory="640MiB"))
def flights_clean(flights: pd.DataFrame) -> pd.DataFrame:
    """The flights that were flown, with compact types: one row a flight."""
    flown = flights.dropna(subset=["dep_delay", "arr_delay"])[FLIGHT_COLUMNS].reset_index(drop=True)
    flown["time_hour"] = pd.to_datetime(flown["time_hour"], utc=True)
    for column in ("carrier", "origin", "dest", "tailnum"):
        flown[column] = flown[column].astype("category")
    return flown


@dg.asset(group_name="tables", op_tags=compute(cpu=2, memory="1792MiB"))
def flights_joined(
    flights_clean: pd.DataFrame,
    weather: pd.DataFrame,
    planes: pd.DataFrame,
    airports: pd.DataFrame,
) -> pd.DataFrame:
    """Each flight with its aircraft, its destination and the weather before it: one row a flight.

    The heavy one in memory: WEATHER_HOURS copies of the weather stand beside each flight before
    they are reduced to means and extremes.
    """
    wide = flights_clean.merge(
        planes[["tailnum", "year", "seats"]].rename(columns={"year": "built"}),
        on="tailnum",
        how="left",
    ).merge(airports[["faa", "lat", "lon"]].rename(columns={"faa": "dest"}), on="dest", how="left")
    wide["age_years"] = 2013 - wide.pop("built")
    for column in ("origin", "dest", "tailnum"):
        wide[column] = wide[column].astype("category")
    hourly = _hourly_weather(weather)
    before = [
        _weather_at(hourly, wide, hours).add_suffix(f"_{hours}h") for hours in range(WEATHER_HOURS)
    ]
    beside = pd.concat(before, axis=1)
    for column in WEATHER_COLUMNS:
        window = beside[[f"{column}_{hours}h" for hours in range(WEATHER_HOURS)]]
        wide[f"{column}_mean"] = window.mean(axis=1).astype("float32")
        wide[f"{column}_worst"] = (
            window.min(axis=1) if column == "visib" else window.max(axis=1)
        ).astype("float32")
    return wide


def _hourly_weather(weather: pd.DataFrame) -> pd.DataFrame:
    """Returns the weather indexed by airport and hour, one row each."""
    hours = weather.assign(time_hour=pd.to_datetime(weather["time_hour"], utc=True))
    return hours.groupby(["origin", "time_hour"])[WEATHER_COLUMNS].mean()


def _weather_at(hourly: pd.DataFrame, wide: pd.DataFrame, hours: int) -> pd.DataFrame:
    """Returns the weather at each flight's airport so many hours before it, flights' order."""
    moments = wide["time_hour"] - pd.Timedelta(hours=hours)
    keys = pd.MultiIndex.from_arrays([wide["origin"].astype("str"), moments])
    return hourly.reindex(keys).reset_index(drop=True)
