"""Which bids are dropped, for which, and what is told of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from dnm_records import HOUR, NOW, asks, offers

from cu_market.dnm.dominance import drop_dominated, tell_dominated
from cu_market.dnm.objective import no_surcharge
from cu_market.dnm.planner import plan
from cu_market.domain.bid import Bid, Rates
from cu_market.domain.plan import LossReason
from cu_market.domain.request import ResourceRequest

ONE = [asks("a")]


def left(requests: list[ResourceRequest], *bids: Bid) -> list[str]:
    capacities = {bid.profile.capacity_id: bid.profile.size.times(bid.quantity) for bid in bids}
    return [bid.bid_id for bid in drop_dominated(requests, bids, capacities)[0]]


BETTER = offers("b", 100_000)


@pytest.mark.parametrize(
    "worse",
    [
        offers("a", 100_001),
        offers("a", 100_000, startup_ms=1),
        offers("a", 100_000, bid={"performance_millis": 999}),
        offers("a", 100_000, interruption_millis_per_hour=1),
        offers("a", 100_000, egress_microusd_per_gb=1),
        offers("a", 100_000, bid={"valid_until": NOW + timedelta(hours=1)}),
        offers("a", 100_000, cores=2, gib=2, provider="q"),
    ],
)
def test_worse_in_one_thing_and_better_in_none_is_dropped(worse: Bid) -> None:
    assert left(ONE, worse, BETTER) == ["b"]
    assert left(ONE, BETTER, worse) == ["b"]


@pytest.mark.parametrize(
    "other",
    [
        offers("a", 99_999, startup_ms=1),
        offers("a", 200_000, bid={"performance_millis": 2000}),
        offers("a", 200_000, location="elsewhere"),
        offers("a", 200_000, network_bandwidth_mbps=10_000),
        offers("a", 200_000, environment_fingerprint="x"),
    ],
)
def test_better_in_anything_stays(other: Bid) -> None:
    assert left(ONE, other, BETTER) == ["a", "b"]


def test_only_what_is_asked_counts() -> None:
    large = offers("large", 200_000, cores=8)
    assert left(ONE, large, BETTER) == ["b"]
    assert left([*ONE, asks("b", cores=8)], large, BETTER) == ["large", "b"]
    bound = replace(ONE[0], providers=("q",))
    assert left([bound], offers("q", 200_000, provider="q"), BETTER) == ["q"]


def test_a_dearer_bid_stays_where_the_better_one_may_run_out() -> None:
    three = [asks(name) for name in "abc"]
    few, enough = (offers("b", 100_000, bid={"quantity": q}) for q in (2, 3))
    worse = offers("a", 200_000)
    assert left(three, worse, few) == ["a", "b"]
    assert left(three, worse, enough) == ["b"]


def test_of_one_capacity_the_cheaper_tariff_is_enough() -> None:
    def tariff(name: str, price: int) -> Bid:
        rates = Rates(core_microusd_per_hour=price, gb_microusd_per_hour=0)
        return offers(name, 4 * price, capacity_id="machine", bid={"rates": rates})

    many = [asks(f"r{i}", cores=4) for i in range(9)]  # more than fits at once
    assert left(many, tariff("standard", 48), tariff("economy", 29)) == ["economy"]


def test_of_equal_bids_the_first_in_canonical_order_stays() -> None:
    first, second = offers("x", 1, cu_id="cu"), offers("y", 1, cu_id="cu", capacity_id="cap-x")
    assert left(ONE, first, second) == left(ONE, second, first) == ["x"]


def test_a_bid_at_which_something_stands_is_kept() -> None:
    worse, worst = offers("a", 150_000), offers("c", 160_000)
    bids, dropped = drop_dominated(ONE, [worse, BETTER, worst], {}, kept_for={"a"})
    assert [bid.bid_id for bid in bids] == ["a", "b"]
    assert [(each.bid.bid_id, each.by.bid_id) for each in dropped] == [("c", "b")]


def test_a_dropped_bid_is_told_with_what_it_would_have_cost() -> None:
    worse, useless = offers("a", 150_000), offers("tiny", 150_000, gib=1)
    requests = [asks("r", gib=2)]
    bids, dropped = drop_dominated(requests, [worse, BETTER, useless], {})
    assert {(each.bid.bid_id, each.by.bid_id) for each in dropped} == {("a", "b"), ("tiny", "b")}
    found = plan(requests, bids, {}, solver=None, limit_seconds=1)
    (award,) = tell_dominated(found, requests, dropped, no_surcharge).awards
    cost, refused = award.losses
    assert (cost.reason, cost.cost_microusd) == (LossReason.DOMINATED, 150_000)
    assert cost.detail == (
        "$0.050000 dearer: $0.150000 in all; would have won at $0.099999/h; "
        "cu-b is as good in everything, and no dearer"
    )
    assert (cost.wins_at_microusd_per_hour, refused.wins_at_microusd_per_hour) == (99_999, None)
    assert refused.reason is LossReason.TOO_LITTLE_MEMORY
    assert award.expected_ms == HOUR
