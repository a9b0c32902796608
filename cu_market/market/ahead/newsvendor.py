"""When to start one CU ahead of a step that is expected.

The newsvendor's rule (Arrow, Harris, Marschak, Econometrica 1951): a CU that is ready t before the
step costs its price for t; one that is ready t after it costs the run's value of time for t. The
expected sum is least when the CU is ready in time with probability waiting / (waiting + holding).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cu_market.domain.units import MS_PER_HOUR


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """When and why a CU is to be started ahead.

    Attributes:
        lead_ms: so long before the launch is expected; below zero, so long after it.
        holding_microusd: expected to be paid for standing ready.
        waiting_saved_microusd: expected value of the waiting that it saves.
        reason: the same in words.
    """

    lead_ms: int
    holding_microusd: int
    waiting_saved_microusd: int
    reason: str


def plan_purchase(
    startups_ms: Sequence[int],
    *,
    price_microusd_per_hour: int,
    value_of_time_microusd_per_hour: int,
    probability_permille: int = 1000,
    lags_ms: Sequence[int] = (0,),
    patience_ms: int = 0,
    minimum_ms: int = 0,
) -> Terms | None:
    """Returns how long ahead to start a CU, or None where its holding is not worth the waiting.

    Args:
        startups_ms: start-up times as measured, at least one.
        price_microusd_per_hour: of the CU.
        value_of_time_microusd_per_hour: what an hour of the run's waiting costs.
        probability_permille: that the step comes at all.
        lags_ms: from the expected launch to the moment at which its run asks for the CU, as
            measured, at least one.
        patience_ms: how long it stands by where nobody comes.
        minimum_ms: a CU that is let go is billed for at least so long.
    """
    both = price_microusd_per_hour + value_of_time_microusd_per_hour
    if both == 0:
        return None
    early = sorted(startup - lag for startup in startups_ms for lag in lags_ms)
    place = value_of_time_microusd_per_hour * len(early) // both
    lead_ms = early[min(len(early) - 1, place)]
    ready_early = sum(max(0, lead_ms - each) for each in early) // len(early)
    wait_left = sum(max(0, each - lead_ms) for each in early) // len(early)
    wait_without = sum(startups_ms) // len(startups_ms)
    # A step that does not come leaves the whole start-up paid for nothing, and the patience, or
    # what is billed at least.
    unused = max(wait_without + patience_ms, minimum_ms)
    wasted = (1000 - probability_permille) * unused // 1000
    holding = (ready_early + wasted) * price_microusd_per_hour // MS_PER_HOUR
    saved = probability_permille * max(0, wait_without - wait_left) // 1000
    value = saved * value_of_time_microusd_per_hour // MS_PER_HOUR
    if value <= holding:
        return None
    when = f"{lead_ms / 1000:.1f} s ahead" if lead_ms >= 0 else f"{-lead_ms / 1000:.1f} s after"
    return Terms(
        lead_ms=lead_ms,
        holding_microusd=holding,
        waiting_saved_microusd=value,
        reason=(
            f"started {when}: {saved / 1000:.1f} s of waiting saved are "
            f"worth {value} micro-dollars, standing ready costs {holding}"
        ),
    )
