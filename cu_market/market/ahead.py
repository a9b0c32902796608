"""When to start a CU ahead of a step that is expected: the newsvendor's rule (Arrow, Harris,
Marschak, Econometrica 1951).

A CU that is ready t before the step costs its price for t; one that is ready t after it costs the
run's value of time for t. The expected sum is least when the CU is ready in time with probability
waiting / (waiting + holding).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """A CU to be started ahead.

    Attributes:
        lead_ms: so long before the step is expected.
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
) -> Purchase | None:
    """Returns how long ahead to start a CU, or None where its holding is not worth the waiting.

    Args:
        startups_ms: start-up times as measured, at least one.
        price_microusd_per_hour: of the CU.
        value_of_time_microusd_per_hour: what an hour of the run's waiting costs.
        probability_permille: that the step comes at all.
    """
    ordered = sorted(startups_ms)
    both = price_microusd_per_hour + value_of_time_microusd_per_hour
    if both == 0:
        return None
    place = value_of_time_microusd_per_hour * len(ordered) // both
    lead_ms = ordered[min(len(ordered) - 1, place)]
    count = len(ordered)
    ready_early = sum(max(0, lead_ms - s) for s in ordered) // count
    wait_left = sum(max(0, s - lead_ms) for s in ordered) // count
    wait_without = sum(ordered) // count
    # A step that does not come leaves the whole start-up paid for nothing.
    wasted = (1000 - probability_permille) * wait_without // 1000
    hour = 3_600_000
    holding = (ready_early + wasted) * price_microusd_per_hour // hour
    saved = probability_permille * (wait_without - wait_left) // 1000
    value = saved * value_of_time_microusd_per_hour // hour
    if value <= holding:
        return None
    return Purchase(
        lead_ms=lead_ms,
        holding_microusd=holding,
        waiting_saved_microusd=value,
        reason=(
            f"started {lead_ms / 1000:.0f} s ahead: {saved / 1000:.0f} s of waiting saved are "
            f"worth {value} micro-dollars, standing ready costs {holding}"
        ),
    )
