"""The code location: assets, checks, retraining job, schedule and drift sensor."""

from __future__ import annotations

import dagster as dg

from cu_market import market_executor
from cu_market.definitions.checks import (
    bands_hold,
    champion_is_not_worse_than_the_default,
    data_is_fresh_and_complete,
)
from cu_market.definitions.models import (
    champion,
    evaluation,
    step_models,
    training_frame,
    usage_history,
)
from cu_market.definitions.outlook import resource_demand, step_forecasts
from cu_market.definitions.triggers import drift, every_night, retraining

defs = dg.Definitions(
    assets=[
        usage_history,
        training_frame,
        step_models,
        evaluation,
        champion,
        step_forecasts,
        resource_demand,
    ],
    asset_checks=[
        data_is_fresh_and_complete,
        bands_hold,
        champion_is_not_worse_than_the_default,
    ],
    jobs=[retraining],
    schedules=[every_night],
    sensors=[drift],
    executor=market_executor,
)
