"""How long attempts in progress are still expected to take."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from cu_market.deo.executor.negotiation import Negotiation
from cu_market.deo.executor.state import Attempt
from cu_market.dnm.renegotiation import UNTOLD, Spread, left_ms


def spread_of(negotiation: Negotiation, attempt: Attempt) -> Spread:
    """Returns the forecast's spread, or UNTOLD where no forecast has one."""
    return spread_from(negotiation.report(attempt.step_key))


def spread_from(report: Mapping[str, Any]) -> Spread:
    """Returns the same from what an auction said of a step."""
    forecast = report.get("forecast_duration_ms")
    if not forecast or not forecast["p50"]:
        return UNTOLD
    return Spread.from_band(float(forecast["p50"]), float(forecast["p95"]))


def ran_ms_of(attempt: Attempt) -> int:
    """Returns for how long it has been running, in milliseconds."""
    return round(1000 * (time.monotonic() - attempt.began_at))


def left_ms_of(negotiation: Negotiation, attempt: Attempt) -> int:
    """Returns milliseconds until its expected end, given that it has run so long."""
    spread = spread_of(negotiation, attempt)
    return round(left_ms(attempt.lease.expected_ms, ran_ms_of(attempt), spread))
