"""A day of a schedule on CUs that take long to start: bought on demand, and bought ahead."""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import simpy

from cu_market.market.ahead.newsvendor import plan_purchase

DAY_MS = 86_400_000


@dataclass(slots=True)
class _Day:
    """What one way of buying has come to."""

    waits_ms: list[float] = field(default_factory=list)
    billed_ms: float = 0.0
    bought: int = 0
    used: int = 0


def simulate_day(
    *,
    seed: int,
    interval_ms: int = 600_000,
    startup_ms: int = 180_000,
    startup_spread: float = 0.1,
    run_ms: int = 120_000,
    price_microusd_per_hour: int = 500_000,
    value_of_time_microusd_per_hour: int = 2_000_000,
) -> dict[str, Any]:
    """Returns the median wait of the first step and the cost, both ways, and their ratios.

    Start-up times are normal around startup_ms with that relative spread; the rule that buys ahead
    knows only those that it has seen. A CU is billed from its purchase to its run's end.
    """
    draws = random.Random(seed)
    ticks = range(interval_ms, DAY_MS, interval_ms)
    startups = [max(1000.0, draws.gauss(startup_ms, startup_spread * startup_ms)) for _ in ticks]
    terms = (price_microusd_per_hour, value_of_time_microusd_per_hour)
    on_demand, ahead = _Day(), _Day()
    for day, is_ahead in ((on_demand, False), (ahead, True)):
        env = simpy.Environment()
        env.process(_schedule(env, day, list(ticks), startups, run_ms, terms, is_ahead))
        env.run()
    waits = [median(day.waits_ms) / 1000 for day in (on_demand, ahead)]
    costs = [day.billed_ms * price_microusd_per_hour / 3.6e12 for day in (on_demand, ahead)]
    return {
        "on_demand": {"median_wait_seconds": waits[0], "cost_usd": costs[0]},
        "ahead": {
            "median_wait_seconds": waits[1],
            "cost_usd": costs[1],
            "bought": ahead.bought,
            "used": ahead.used,
        },
        "wait_ratio": waits[1] / waits[0],
        "cost_ratio": costs[1] / costs[0],
    }


def _schedule(
    env: simpy.Environment,
    day: _Day,
    ticks: list[int],
    startups: list[float],
    run_ms: int,
    terms: tuple[int, int],
    is_ahead: bool,
) -> Generator[simpy.Event, Any, None]:
    seen: list[int] = []
    for tick, startup in zip(ticks, startups, strict=True):
        lead = 0
        purchase = (
            plan_purchase(
                seen, price_microusd_per_hour=terms[0], value_of_time_microusd_per_hour=terms[1]
            )
            if is_ahead and seen
            else None
        )
        if purchase is not None:
            lead = purchase.lead_ms
            day.bought += 1
        yield env.timeout(max(0, tick - lead - env.now))
        bought_at = env.now
        yield env.timeout(startup)
        seen.append(round(startup))
        yield env.timeout(max(0, tick - env.now))
        day.waits_ms.append(env.now - tick)
        if purchase is not None:
            day.used += 1
        yield env.timeout(run_ms)
        day.billed_ms += env.now - bought_at
