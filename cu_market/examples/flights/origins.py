"""The fan-out: each airport's year by itself, as many branches as the data has airports."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pandas as pd

from cu_market import compute

LONG_DELAY = 0.9
"""The quantile that a traveller who wants to be sure should plan with."""


@dg.op(out=dg.DynamicOut(pd.DataFrame))
def split_by_origin(flights: pd.DataFrame) -> Iterator[dg.DynamicOutput[pd.DataFrame]]:
    """Yields the flights of each airport, keyed by the airport."""
    columns = ["month", "hour", "carrier", "dest", "dep_delay", "arr_delay"]
    for origin, part in flights.groupby("origin", observed=True)[columns]:
        yield dg.DynamicOutput(part.reset_index(drop=True), mapping_key=str(origin))


@dg.op(tags=compute(cpu=2))
def worst_hours(part: pd.DataFrame) -> pd.DataFrame:
    """Delay that nine of ten flights stay under: one row a month and hour of one airport."""
    return (
        part.groupby(["month", "hour"])["dep_delay"]
        .agg(flights="size", long_delay=lambda delay: delay.quantile(LONG_DELAY))
        .reset_index()
    )


@dg.op
def gather_origins(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Returns the airports' tables in one; the one with the longest delays first."""
    gathered = pd.concat(parts, keys=range(len(parts)), names=["branch"])
    return gathered.sort_values("long_delay", ascending=False).reset_index(level="branch")


@dg.graph_asset(group_name="statistics")
def worst_hours_by_origin(flights_clean: pd.DataFrame) -> pd.DataFrame:
    """When not to fly: one row an airport, month and hour of departure."""
    parts = split_by_origin(flights_clean).map(worst_hours)
    gathered: pd.DataFrame = gather_origins(parts.collect())  # a graph's value, not yet a frame
    return gathered
