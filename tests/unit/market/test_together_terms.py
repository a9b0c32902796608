"""Runs cleared together on the market's and the run's terms: each pays and is paid for itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sellers import NOW, Seller, market_of, run, step
from small_market import Fair
from unhurried import UNHURRIED

from cu_market.domain.allocation import AllocationState
from cu_market.domain.inputs import InputData, Place
from cu_market.domain.open_request import request_from, request_record
from cu_market.domain.outline import RunOutline
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.market.report import verdict
from cu_market.market.settings import MarketSettings, Pricing
from cu_market.market.together.crowd import joint_request

PRICES = {"cheap": 1.0, "mid": 2.0, "dear": 3.0}


def fair_of(prices: dict[str, float], **changed: Any) -> Fair:
    fair = Fair(prices=prices)
    fair.market.settings = MarketSettings(**(UNHURRIED | changed))
    return fair


def test_a_budget_is_for_the_bill_of_its_own_run() -> None:
    fair = fair_of({"cheap": 1, "dear": 30})
    fair.clear("a", "3600", account="theirs")  # a dollar
    hurry = {"value_of_time_usd_per_hour": "20", "account": "ours"}
    free = fair.clear("b", "60", **hurry)
    assert [award.resource_id for award in free.plan.awards] == ["dear/t"]
    fair.ledger.release_awards("b", now=fair.now)
    rich = fair.clear("c", "60", budget_usd="0.6", **hurry)  # its own bill is half a dollar
    assert [award.resource_id for award in rich.plan.awards] == ["dear/t"]
    assert not [note for note in rich.auction.report["notes"] if note.startswith("budget")]
    fair.ledger.release_awards("c", now=fair.now)
    poor = fair.clear("d", "60", budget_usd="0.1", **hurry)
    (award,) = poor.plan.awards
    assert (award.resource_id, award.start_ms) == ("cheap/t", 3_600_000)
    assert poor.plan.money_microusd <= 100_000
    assert not poor.auction.report["budget"]["is_passed"]
    assert "is planned for $0.016667" in "; ".join(poor.auction.report["notes"])
    assert [row.attempt for row in fair.rows("a")] == [1]


def test_second_prices_are_those_of_the_run_beside_the_others_as_they_stand() -> None:
    fair = fair_of(PRICES, pricing=Pricing.SECOND_PRICE)
    first = fair.clear("a", "3600", account="theirs")
    assert first.allocations["s0"].price_microusd_per_hour == 2_000_000
    # Without mid, b would have dear: cheap is taken for an hour, and waiting costs more.
    second = fair.clear("b", "3600", account="ours", value_of_time_usd_per_hour="50")
    award = second.allocations["s0"]
    assert (award.resource_id, award.price_microusd_per_hour) == ("mid/t", 3_000_000)
    assert [row.price_microusd_per_hour for row in fair.rows("a")] == [2_000_000]


def test_who_waits_for_a_cu_pays_what_not_waiting_would_cost_more() -> None:
    fair = fair_of({"cheap": 1, "mid": 2}, pricing=Pricing.SECOND_PRICE)
    fair.clear("a", "1800", account="theirs")
    found = fair.clear("b", "3600", account="ours", value_of_time_usd_per_hour="1")
    award = found.allocations["s0"]
    # It bid a dollar, and the wait of half an hour costs half: the other would cost two.
    assert (award.resource_id, award.price_microusd_per_hour) == ("cheap/t", 1_500_000)


def test_a_moved_award_is_paid_as_bid() -> None:
    fair = fair_of({"cheap": 1, "dear": 3}, pricing=Pricing.SECOND_PRICE)
    fair.clear("a", "30", value_of_time_usd_per_hour="100")
    fair.clear("b", "20", deadline_seconds="25", max_price_usd_per_hour="2")
    _, new = fair.rows("a")
    assert (new.resource_id, new.price_microusd_per_hour) == ("dear/t", 3_000_000)


def test_a_cu_that_others_would_be_moved_to_must_stand_too() -> None:
    hurry = {"deadline_seconds": "3700", "max_price_usd_per_hour": "0.2"}
    for leaves_after, place in ((None, "spare/cu"), (2, "cheap/cu")):
        # Asked once by each auction for its pool; the second asks it once more before the commit.
        spare = Seller("spare", 0.3, quantity=1, leaves_after=leaves_after)
        market = market_of(Seller("cheap", 0.1, quantity=1), spare)
        first = market.clear(named("a", value_of_time_usd_per_hour="100"), place="launcher")
        assert first.allocations["s"].resource_id == "cheap/cu"
        urgent = market.clear(named("b", **hurry), place="launcher")
        assert urgent.allocations["s"].resource_id == "cheap/cu"
        rows = {row.attempt: row for row in market.ledger.allocations(run_id="a")}
        assert rows[2].resource_id == place
        told = [note for note in urgent.auction.report["notes"] if note.startswith("round 1")]
        assert bool(told) == (leaves_after is not None)
        assert all("spare/cu was withdrawn" in note for note in told)


def named(name: str, **tags: str) -> RunOutline:
    return replace(run(step("s"), **tags), run_id=name)


def test_what_a_request_reads_is_kept_and_called_as_among_several_runs() -> None:
    far = Place(location="far", egress_microusd_per_gb=90_000, bandwidth_mbps=1000)
    asked = ResourceRequest(
        request_id="b",
        timestamp=NOW,
        duration_ms=1,
        needs=ResourceVector(cpu_millis=1),
        depends_on=("a",),
        interruptible=True,
        retry_must_fit=False,
        inputs=(
            InputData(source="a", size_bytes=10),
            InputData(source="gone", size_bytes=None, place=far),
        ),
    )
    assert request_from(request_record(asked)) == asked
    joint = joint_request(asked, "run")
    assert [data.source for data in joint.inputs] == ["run/a", "run/gone"]
    assert joint.inputs[1].place == far


@pytest.mark.parametrize(
    ("budget", "place", "held"),
    [
        ("0.026", "dear/t", []),  # 30 s there are $0.025
        ("0.024", "cheap/t", ["a"]),
        ("0.001", "cheap/t", ["a"]),  # passed already, and waiting costs no money
    ],
)
def test_a_run_is_not_moved_beyond_its_own_budget(budget: str, place: str, held: list[str]) -> None:
    fair = Fair(prices={"cheap": 1, "dear": 3})
    fair.clear("a", "30", value_of_time_usd_per_hour="100", budget_usd=budget)
    urgent = fair.clear("b", "20", deadline_seconds="25", max_price_usd_per_hour="2")
    assert urgent.allocations["s0"].resource_id == "cheap/t"
    assert not urgent.auction.report["together"]["is_late"]
    _, new = fair.rows("a")
    assert new.resource_id == place
    (moved,) = fair.moved("a").report["steps"]
    assert moved["moved"]["gives_way_to"] == ([["b", "s0", 1]] if held else [])
    assert urgent.auction.report["together"]["held"] == held
    said = "since a move would pass its own budget: job of a."
    assert (said in verdict(urgent.auction.report)) == bool(held)


@pytest.mark.parametrize(("budget", "place"), [("0.0417", "dear/t"), ("0.0416", "cheap/t")])
def test_what_a_run_has_spent_counts_when_it_is_moved(budget: str, place: str) -> None:
    fair = Fair(prices={"cheap": 1, "dear": 3})
    tags = {"value_of_time_usd_per_hour": "100", "budget_usd": budget}
    first = fair.clear("a", "60", "30", chain=True, **tags)
    fair.lease(first.allocations["s0"])  # 60 s of cheap are $0.016667, 30 s of dear $0.025
    fair.now += timedelta(seconds=59)
    fair.clear("b", "20", deadline_seconds="25", max_price_usd_per_hour="2")
    (award,) = fair.rows("a", AllocationState.AWARDED)
    assert (award.step_key, award.resource_id) == ("s1", place)
