"""Spot that leaves no time for a retry: only where nobody else would serve a step at all."""

from __future__ import annotations

from sellers import Seller, market_of, run, step

from cu_market.market.auction import Cleared

SPOT = {"interruption_millis_per_hour": 100}


def clear(*sellers: Seller, deadline_seconds: int) -> Cleared:
    asked = run(step("a", duration_seconds="600"), deadline_seconds=str(deadline_seconds))
    return market_of(*sellers).clear(asked, place="launcher")


def test_a_dearer_cu_that_stays_is_taken_where_a_retry_would_be_late() -> None:
    spot, steady = Seller("spot", 0.1, profile=SPOT), Seller("steady", 1.0)
    found = clear(spot, steady, deadline_seconds=900)
    assert found.allocations["a"].resource_id == "steady/cu"
    assert found.auction.report["notes"] == []
    loose = clear(Seller("spot", 0.1, profile=SPOT), steady, deadline_seconds=9000)
    assert loose.allocations["a"].resource_id == "spot/cu"


def test_spot_is_better_than_nobody_and_the_risk_is_told() -> None:
    slow = Seller("slow", 0.05, bid_fields={"performance_millis": 500})
    found = clear(Seller("spot", 0.1, profile=SPOT), slow, deadline_seconds=900)
    assert found.allocations["a"].resource_id == "spot/cu"
    assert "a: nobody else serves it in time" in found.auction.report["notes"][0]
