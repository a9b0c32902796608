"""How well hourly departures from New York are foretold: the last 8 weeks of 2013, held out.

    .venv/bin/python tests/benchmarks/bench_demand.py [--json]

Departures are those that left, by the hour in which they were to leave (New York's time), over
all hours of the day. Each week is foretold by what came before it.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import pandas as pd

from cu_market.examples.flights.source import read_table
from cu_market.pse.demand.backtest import DemandScore, backtest


def hourly_departures() -> pd.DataFrame:
    """Returns departures, a row an hour of 2013 and a column an origin."""
    flights = read_table("flights").dropna(subset=["dep_time"])
    hours = pd.to_datetime(flights["time_hour"], utc=True).dt.tz_convert("America/New_York")
    flights["at"] = hours.dt.tz_localize(None)
    table = flights.groupby(["origin", "at"]).size().unstack(0)
    return table.reindex(pd.date_range("2013-01-01", "2013-12-31 23:00", freq="h")).fillna(0)


def main() -> None:
    departures = hourly_departures()
    first = 24 * departures.index[0].weekday()
    scores: dict[str, DemandScore] = {
        origin: backtest(departures[origin].to_numpy(), first_hour_of_week=first)
        for origin in departures
    }
    records = {origin: score.to_record() for origin, score in scores.items()}
    names = next(iter(records.values()))
    records["mean"] = {n: float(np.mean([r[n] for r in records.values()])) for n in names}
    if "--json" in sys.argv:
        print(json.dumps(records, indent=2))
        return
    print(f"{'origin':8s} " + " ".join(f"{name:>22s}" for name in names))
    for origin, record in records.items():
        print(f"{origin:8s} " + " ".join(f"{value:22.3f}" for value in record.values()))
    print("bars: coverage 0.76 to 0.86, pinball_ratio at most 0.9")


if __name__ == "__main__":
    main()
