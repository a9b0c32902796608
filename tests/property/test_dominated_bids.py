"""Dropping dominated bids makes no plan dearer, whatever the order in which bids arrive."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from test_dnm_properties import CAPACITIES, RUNNING, asked, offered, planned

from cu_market.dnm.dominance import drop_dominated, tell_dominated
from cu_market.dnm.offers import RunningLease
from cu_market.dnm.surcharges import Priced
from cu_market.domain.bid import Bid
from cu_market.domain.plan import Plan
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector


def rank(found: Plan) -> tuple[int, int]:
    return len(found.unserved), sum(award.cost_microusd for award in found.awards)


@settings(max_examples=150, deadline=None)
@given(asked(), offered(), CAPACITIES)
def test_what_is_left_holds_an_optimal_plan(
    requests: list[ResourceRequest], bids: list[Bid], capacities: dict[str, ResourceVector]
) -> None:
    left, dropped = drop_dominated(requests, bids, capacities)
    assert {b.bid_id for b in left} | {d.bid.bid_id for d in dropped} == {b.bid_id for b in bids}
    assert all(each.by in left for each in dropped)
    whole = planned(requests, bids, capacities, [], fixed=True)
    found = planned(requests, list(left), capacities, [], fixed=True)
    assert rank(found) == rank(whole)
    told = tell_dominated(found, requests, dropped, Priced())
    for award in told.awards:
        losers = {loss.bid_id for loss in award.losses}
        assert losers | {award.bid_id} == {bid.bid_id for bid in bids}
        costs = [x.cost_microusd for x in award.losses if x.cost_microusd is not None]
        assert costs == sorted(costs)


@settings(max_examples=150, deadline=None)
@given(asked(), offered(), CAPACITIES, RUNNING, st.integers(0, 2**32))
def test_the_order_of_bids_changes_neither_what_is_left_nor_the_plan(
    requests: list[ResourceRequest],
    bids: list[Bid],
    capacities: dict[str, ResourceVector],
    running: list[RunningLease],
    seed: int,
) -> None:
    mixed = list(bids)
    Random(seed).shuffle(mixed)
    first, dropped = drop_dominated(requests, bids, capacities)
    second, others = drop_dominated(requests, mixed, capacities)
    assert {b.bid_id for b in first} == {b.bid_id for b in second}
    assert dropped == others
    one = planned(requests, list(first), capacities, running, fixed=False)
    two = planned(requests, list(second), capacities, running, fixed=False)
    assert one.awards == two.awards
