"""What must hold of the assets: data fresh and whole, bands that hold, no worse champion."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pandas as pd

from cu_market.definitions.frames import usages_of
from cu_market.definitions.home import registry_of
from cu_market.definitions.models import champion, evaluation, usage_history
from cu_market.pse.champion.evaluation import by_location, compare, score_all
from cu_market.pse.champion.training import DEFAULT_STATE
from cu_market.tracking.registry import CHAMPION

FRESH = timedelta(days=2)
LEAST_COVERAGE = 0.7
ENOUGH = 20


@dg.asset_check(asset=usage_history)
def data_is_fresh_and_complete(usage_history: pd.DataFrame) -> dg.AssetCheckResult:
    """Something was measured in the last two days, and no figure is missing or negative."""
    if not len(usage_history):
        return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN)
    age = datetime.now(UTC) - pd.Timestamp(usage_history["ended_at"].max()).to_pydatetime()
    figures = usage_history[["wall_ms", "cpu_ms", "peak_memory_bytes"]]
    broken = int((figures.isna() | (figures < 0)).any(axis=1).sum())
    return dg.AssetCheckResult(
        passed=age < FRESH and broken == 0,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"age_hours": age.total_seconds() / 3600, "broken_rows": broken},
    )


@dg.asset_check(asset=evaluation)
def bands_hold(evaluation: dict[str, dict[str, Any]]) -> dg.AssetCheckResult:
    """Of held-back peaks (20 or more) at least 70 % fall between the forecast's p10 and p95."""
    covered = {
        location: verdict["coverage_ratio"]
        for location, verdict in evaluation.items()
        if verdict.get("attempts", 0) >= ENOUGH
    }
    return dg.AssetCheckResult(
        passed=all(ratio >= LEAST_COVERAGE for ratio in covered.values()),
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"coverage": dg.MetadataValue.json(covered)},
    )


@dg.asset_check(asset=champion, additional_ins={"frame": dg.AssetIn("training_frame")})
def champion_is_not_worse_than_the_default(
    context: dg.AssetCheckExecutionContext, champion: dict[str, Any], frame: pd.DataFrame
) -> dg.AssetCheckResult:
    """No champion wastes more than the untrained model beyond doubt."""
    worse: dict[str, float] = {}
    usages = by_location(usages_of(frame))
    for location in champion:
        version = registry_of(context.instance, location).alias(CHAMPION)
        if version is None or location not in usages:
            continue
        default = score_all(DEFAULT_STATE.forecaster(), usages[location])
        found = compare(default, score_all(version.state.forecaster(), usages[location]))
        if found.low > 0:
            worse[location] = found.difference
    return dg.AssetCheckResult(
        passed=not worse,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"worse": dg.MetadataValue.json(worse)},
    )
