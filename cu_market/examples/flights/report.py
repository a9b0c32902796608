"""The page that people read in the morning."""

from __future__ import annotations

import dagster as dg
import pandas as pd


@dg.asset(group_name="report")
def delay_report(
    daily_features: pd.DataFrame,
    carrier_delays: pd.DataFrame,
    delay_intervals: pd.DataFrame,
    worst_hours_by_origin: pd.DataFrame,
) -> dg.MaterializeResult[str]:
    """The year in a few lines of Markdown."""
    best = delay_intervals.sort_values("high").iloc[0]
    worst_day = daily_features.sort_values("mean_delay", ascending=False).iloc[0]
    worst_hour = worst_hours_by_origin.iloc[0]
    airline = carrier_delays.set_index("carrier")["airline"]
    name = airline[airline.index == best["carrier"]].iloc[0]
    text = "\n".join(
        [
            f"- {int(delay_intervals['flights'].sum())} flights were flown.",
            f"- Most punctual: {name}, {best['mean_delay']:.1f} min late on average "
            f"({best['low']:.1f} to {best['high']:.1f}).",
            f"- Worst day: {worst_day['date']:%d %B} at {worst_day['origin']}, "
            f"{worst_day['mean_delay']:.0f} min late on average.",
            f"- Worst time to leave: month {worst_hour['month']:.0f}, {worst_hour['hour']:.0f} h, "
            f"one flight in ten more than {worst_hour['long_delay']:.0f} min late.",
        ]
    )
    return dg.MaterializeResult(value=text, metadata={"report": dg.MetadataValue.md(text)})
