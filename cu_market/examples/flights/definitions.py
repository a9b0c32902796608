"""The project as Dagster loads it."""

from __future__ import annotations

import dagster as dg

from cu_market import market_executor
from cu_market.examples.flights import features, intervals, model, origins, report, tables
from cu_market.examples.flights.triggers import every_morning, flights_job, inbox_changed

defs = dg.Definitions(
    assets=dg.load_assets_from_modules([tables, features, intervals, origins, model, report]),
    jobs=[flights_job],
    schedules=[every_morning],
    sensors=[inbox_changed],
    executor=market_executor,
)
