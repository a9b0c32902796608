"""The second-price policy in an auction: what is paid, who is paid as bid, what is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from sellers import Seller, market_of, run, step

from cu_market.dnm.second_price import at_second_prices
from cu_market.dnm.verify import violations
from cu_market.domain.bid import Bid
from cu_market.domain.inputs import Place
from cu_market.domain.plan import Plan
from cu_market.market.auction import Cleared


def cleared(*sellers: Seller, tags: dict[str, str] | None = None, **settings: Any) -> Cleared:
    market = market_of(*sellers, **({"pricing": "second-price"} | settings))
    return market.clear(run(step("a", **(tags or {}))), place="launcher")


def test_the_winner_is_paid_what_the_next_would_have_been() -> None:
    found = cleared(Seller("cheap", 0.5), Seller("dear", 0.75), Seller("dearest", 2.0))
    assert found.allocations["a"].price_microusd_per_hour == 750_000
    (record,) = found.auction.report["steps"]
    assert record["winner"]["price_per_hour"] == 0.75
    assert record["winner"]["bid_price_per_hour"] == 0.5
    assert found.auction.report["expected_cost_usd"] == 0.75
    assert (
        "second price: cheap bid $0.500000 and is paid $0.750000" in found.auction.report["notes"]
    )


def test_pay_as_bid_is_the_default() -> None:
    found = cleared(Seller("cheap", 0.5), Seller("dear", 0.75), pricing="pay-as-bid")
    assert found.allocations["a"].price_microusd_per_hour == 500_000
    assert not [note for note in found.auction.report["notes"] if "second price" in note]


FAR = Seller("far", 0.4, place=Place(location="far"))


@pytest.mark.parametrize("others", [(), (FAR,)])
def test_without_anybody_else_it_is_paid_as_bid_and_told(others: tuple[Seller, ...]) -> None:
    found = cleared(Seller("only", 0.5), *others, tags={"location": "here"})
    assert found.allocations["a"].price_microusd_per_hour == 500_000
    assert (
        "second price: only is paid as bid: without it nobody serves a"
        in found.auction.report["notes"]
    )


@pytest.mark.parametrize("others", [(), (FAR,)])
def test_a_max_price_is_the_reserve_of_who_is_alone(others: tuple[Seller, ...]) -> None:
    tags = {"location": "here", "max_price_usd_per_hour": "0.6"}
    found = cleared(Seller("only", 0.5), *others, tags=tags)
    assert found.allocations["a"].price_microusd_per_hour == 600_000
    assert any("its max price binds a" in note for note in found.auction.report["notes"])


def test_who_is_left_when_time_is_up_is_paid_as_bid() -> None:
    market = market_of(
        Seller("one", 0.5, quantity=1), Seller("two", 0.6), value_of_time_usd_per_hour=10
    )
    outline = run(step("a"), step("b", cpu_cores="2"))
    demand, bids = market._ask(outline, {}, market.now())
    found = market.solve(demand, bids)
    asked: list[int] = []

    def has_time() -> bool:
        asked.append(1)
        return False

    told = at_second_prices(
        found,
        demand.requests,
        bids.bids,
        solve=lambda others: pytest.fail("time was up"),
        has_time=has_time,
    )
    assert {award.provider for award in found.awards} == {"one", "two"}
    assert told.awards == found.awards
    assert len(asked) == 1
    assert told.notes[-1] == "second price: time is up; paid as bid: one, two"


def test_the_checker_knows_what_may_be_paid() -> None:
    market = market_of(Seller("cheap", 0.5), Seller("dear", 0.75), pricing="second-price")
    outline = run(step("a", max_price_usd_per_hour="0.8"))
    demand, bids = market._ask(outline, {}, market.now())
    (award,) = market.solve(demand, bids).awards
    room = bids.pool.capacities
    assert not violations(demand.requests, bids.bids, room, [award])
    for changed in (
        {"price_microusd_per_hour": 499_999, "money_microusd": 499_999},
        {"price_microusd_per_hour": 800_001, "money_microusd": 800_001},
        {"money_microusd": award.money_microusd + 1},
        {"bid_price_microusd_per_hour": 500_001},
    ):
        wrong = replace(award, **changed)  # type: ignore[arg-type]
        assert violations(demand.requests, bids.bids, room, [wrong])


def test_nobody_is_paid_for_a_search_that_the_clock_cut() -> None:
    market = market_of(Seller("cheap", 0.5), Seller("dear", 0.75))
    demand, bids = market._ask(run(step("a")), {}, market.now())

    def cut(others: Sequence[Bid]) -> Plan:
        found = market.solve(demand, replace(bids, bids=tuple(others)))
        return replace(found, is_cut=True)

    told = at_second_prices(
        market.solve(demand, bids), demand.requests, bids.bids, solve=cut, has_time=lambda: True
    )
    assert told.awards[0].price_microusd_per_hour == 500_000
    assert told.notes[-1].endswith("the plan without it was cut by the clock")
