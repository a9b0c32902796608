"""What will be asked of the market: a forecast a step, and requests over the hours to come."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

import dagster as dg
import pandas as pd

from cu_market.definitions.frames import usages_of
from cu_market.definitions.home import opened_ledger
from cu_market.definitions.models import GROUP, SIZE
from cu_market.definitions.pictures import demand_with_band, markdown
from cu_market.deo.settings import instance_settings
from cu_market.domain.request import StepIdentity
from cu_market.domain.usage import Usage
from cu_market.market.ahead.future import future_demand
from cu_market.market.demand.champions import published_forecaster
from cu_market.pse.demand.expected import demand_by_hour
from cu_market.pse.models.forecaster import LearnedForecaster
from cu_market.pse.partitions import with_neighbours


@dg.asset(group_name=GROUP, op_tags=SIZE)
def step_forecasts(
    context: dg.AssetExecutionContext, champion: dict[str, Any], training_frame: pd.DataFrame
) -> dg.MaterializeResult[Any]:
    """What each step's next attempt is expected to use, by its location's champion."""
    past: dict[StepIdentity, list[Usage]] = defaultdict(list)
    relatives: dict[StepIdentity, list[Usage]] = defaultdict(list)
    for usage in usages_of(training_frame):
        past[usage.identity].insert(0, usage)
        relatives[replace(usage.identity, partition="")].insert(0, usage)
    with opened_ledger(context.instance) as ledger:
        model = published_forecaster(ledger, champion) or LearnedForecaster()
    rows = []
    for identity, history in sorted(past.items(), key=lambda each: str(each[0])):
        others = relatives[replace(identity, partition="")]
        forecast = model.forecast(identity, with_neighbours(identity, history, others))
        if forecast is not None:
            rows.append(
                {
                    "step": str(identity),
                    "attempts": forecast.attempts,
                    "memory_p50_bytes": forecast.memory.p50,
                    "memory_p95_bytes": forecast.memory.p95,
                    "allocation_bytes": forecast.allocation_bytes(),
                    "duration_p50_ms": forecast.duration_ms.p50,
                    "cpu_millis": forecast.useful_cpu_millis,
                }
            )
    frame = pd.DataFrame(rows)
    return dg.MaterializeResult(
        value=frame,
        metadata={
            "dagster/row_count": len(frame),
            "forecasts": dg.MetadataValue.json(rows[:30]),
        },
    )


class DemandConfig(dg.Config):
    """How far ahead is looked.

    Attributes:
        hours: at most a week.
    """

    hours: int = 72


@dg.asset(group_name=GROUP, op_tags=SIZE, deps=[step_forecasts])
def resource_demand(
    context: dg.AssetExecutionContext, config: DemandConfig
) -> dg.MaterializeResult[Any]:
    """Requests of the hours to come: timestamp, CU type, quantity with its band, duration."""
    with opened_ledger(context.instance) as ledger:
        requests = future_demand(
            context.instance, ledger, instance_settings(context.instance), hours=config.hours
        )
    records = [each.to_record() for each in requests]
    hours = demand_by_hour(requests)
    return dg.MaterializeResult(
        value=pd.DataFrame(records),
        metadata={
            "dagster/row_count": len(records),
            "core_hours": sum(hour.core_hours for hour in hours),
            "requests": dg.MetadataValue.json(records[:20]),
            "demand": markdown("core-hours with their 10-90 % band", demand_with_band(hours)),
        },
    )
