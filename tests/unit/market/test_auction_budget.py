"""A run's budget at its auction: kept by a cheaper plan, or said to be too small."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sellers import NOW, Seller, market_of, run, step

from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.resources import ResourceVector
from cu_market.market.accounts.spending import left_microusd
from cu_market.market.report import verdict

SLOW = {"performance_millis": 500}


@pytest.mark.parametrize(
    ("budget", "winner"), [(None, "quick/cu"), ("2", "quick/cu"), ("1.99", "slow/cu")]
)
def test_a_plan_keeps_within_the_budget(budget: str | None, winner: str) -> None:
    market = market_of(Seller("slow", 0.5, bid_fields=SLOW), Seller("quick", 2.0))
    tags = {"value_of_time_usd_per_hour": "10"} | ({"budget_usd": budget} if budget else {})
    found = market.clear(run(step("a"), **tags), place="launcher")
    (award,) = found.plan.awards
    assert award.resource_id == winner
    assert award.cost_microusd == (2_000_000 if winner == "quick/cu" else 11_000_000)
    assert found.auction.report["budget"] == (
        {"left_usd": float(budget), "is_passed": False} if budget else None
    )
    told = [note for note in found.auction.report["notes"] if note.startswith("budget: ")]
    assert told == (
        []
        if winner == "quick/cu"
        else [
            "budget: $1.990000 of it is left; by the run's value of time $2.000000 would be spent, "
            "so it is planned for $1.000000"
        ]
    )


def test_even_the_cheapest_may_pass_it_and_the_auction_says_so() -> None:
    market = market_of(Seller("slow", 1.0))
    found = market.clear(run(step("a"), budget_usd="0.5"), place="launcher")
    assert set(found.allocations) == {"a"}
    assert found.auction.report["budget"] == {"left_usd": 0.5, "is_passed": True}
    assert any("even the cheapest plan" in note for note in found.auction.report["notes"])
    assert "more than the $0.500000 that is left of the run's budget" in verdict(
        found.auction.report
    )


def row(
    name: str, state: AllocationState, *, attempt: int = 1, cost: int | None = None
) -> Allocation:
    return Allocation(
        run_id="run",
        step_key=name,
        attempt=attempt,
        state=state,
        auction_id="a",
        bid_id="b",
        provider="p",
        resource_id="p/cu",
        capacity_id="p",
        size=ResourceVector(cpu_millis=1),
        price_microusd_per_hour=1_000_000,
        expected_ms=3_600_000,
        awarded_at=NOW,
        leased_at=None if state is AllocationState.AWARDED else NOW,
        cost_microusd=cost,
    )


def test_what_is_left_is_what_is_neither_spent_nor_running_nor_promised_to_others() -> None:
    rows = [
        row("done", AllocationState.SETTLED, cost=300_000),
        row("runs", AllocationState.ACCEPTED),
        row("later", AllocationState.AWARDED),
        row("moved", AllocationState.RELEASED, attempt=1, cost=0),
        row("moved", AllocationState.AWARDED, attempt=2),
        row("own", AllocationState.AWARDED),
    ]
    now = NOW + timedelta(minutes=1)
    assert left_microusd(rows, 5_000_000, {"own"}, now) == 5_000_000 - 300_000 - 3_000_000
    assert left_microusd(rows, 1_000_000, {"own"}, now) == 0


def test_a_template_stands_for_one_step_until_one_of_its_own_is_known() -> None:
    template = row("work[?]", AllocationState.AWARDED)
    own = row("work[a]", AllocationState.AWARDED)
    other = row("other[b]", AllocationState.AWARDED)

    def spent(rows: list[Allocation], steps: set[str]) -> int:
        return 9_000_000 - left_microusd(rows, 9_000_000, steps, NOW)

    assert spent([template], set()) == 1_000_000
    assert spent([template, other], set()) == 2_000_000
    assert spent([template, own], set()) == 1_000_000
    assert spent([template], {"work[a]"}) == 0
    assert spent([template, own], {"work[b]"}) == 1_000_000
    ended = row("work[a]", AllocationState.SETTLED, cost=400_000)
    assert spent([template, ended], set()) == 400_000


def test_a_mapped_step_auctioned_again_has_its_templates_share_of_the_budget() -> None:
    market = market_of(Seller("only", 1.0))
    market.clear(run(step("work[?]"), budget_usd="1.5"), place="launcher")
    again = market.clear(run(step("work[a]"), budget_usd="1.5"), place="executor")
    assert again.auction.report["budget"] == {"left_usd": 1.5, "is_passed": False}


def test_second_prices_do_not_pass_the_budget_that_bids_keep() -> None:
    market = market_of(Seller("cheap", 0.5), Seller("dear", 0.75), pricing="second-price")
    found = market.clear(run(step("a"), budget_usd="0.6"), place="launcher")
    assert found.allocations["a"].price_microusd_per_hour == 500_000
    assert any("all are paid as bid" in note for note in found.auction.report["notes"])
