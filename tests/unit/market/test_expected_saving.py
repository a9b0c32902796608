"""What a plan promises to save against one machine kept for the run."""

from __future__ import annotations

from typing import Any

import pytest

from cu_market.market.comparison import expected_saving


def step(provider: str, start: float, seconds: float, cost_usd: float) -> dict[str, Any]:
    return {
        "winner": {
            "provider": provider,
            "resource_id": f"{provider}/cu",
            "start_seconds": start,
            "expected_seconds": seconds,
            "expected_cost_usd": cost_usd,
        }
    }


def bid(provider: str, name: str, price: float) -> dict[str, Any]:
    return {"provider": provider, "cu_id": f"{provider}/{name}", "price_per_hour": price}


def test_the_machine_is_the_dearest_of_those_who_won_kept_to_the_plans_end() -> None:
    report = {
        "steps": [step("a", 0, 1800, 0.05), step("a", 1800, 1800, 0.10), {"winner": None}],
        "bids": [bid("a", "small", 0.1), bid("a", "large", 0.5), bid("others", "huge", 9.0)],
    }
    saving = expected_saving(report)
    assert saving is not None
    assert (saving.static.resource_id, saving.static.wall_us) == ("a/large", 3600 * 10**6)
    assert saving.static.cost_microusd == 500_000
    assert saving.cost_microusd == 150_000
    assert saving.saved_microusd == 350_000


def test_what_costs_more_is_not_hidden() -> None:
    report = {"steps": [step("a", 0, 36, 1.0)], "bids": [bid("a", "cu", 1.0)]}
    saving = expected_saving(report)
    assert saving is not None
    assert saving.saved_microusd == 10_000 - 1_000_000


@pytest.mark.parametrize("steps", [[], [{"winner": None}]])
def test_nobody_won_nothing_is_promised(steps: list[dict[str, Any]]) -> None:
    assert expected_saving({"steps": steps, "bids": [bid("a", "cu", 1.0)]}) is None
