"""Plans across places that begin where requests stand: never dearer, and what is held stays."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from cu_market.dnm.placement.placing import places_of, plan_placed
from cu_market.dnm.programs.solve import no_clock
from cu_market.dnm.standing import NOTHING_STANDS, Hold, Standing
from cu_market.dnm.surcharges import Priced
from cu_market.dnm.verify import violations
from cu_market.domain.bid import Bid
from cu_market.domain.inputs import InputData
from cu_market.domain.plan import Plan
from cu_market.domain.profile import CUProfile
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.spec import RunSpec
from cu_market.domain.units import GB, GIB
from cu_market.market.demand.requests import Demand
from cu_market.market.settings import MarketSettings
from cu_market.market.terms import Terms

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROOM = {
    f"c{k}": ResourceVector(cpu_millis=1000 + 1000 * (k % 2), memory_bytes=64 * GIB)
    for k in range(4)
}


@st.composite
def asked(draw: st.DrawFn) -> list[ResourceRequest]:
    found: list[ResourceRequest] = []
    for i in range(draw(st.integers(1, 5))):
        parents = tuple(f"s{j}" for j in range(i) if draw(st.booleans()))
        found.append(
            ResourceRequest(
                request_id=f"s{i}",
                run_id=draw(st.sampled_from(["a", "b"])) if not parents else "a",
                timestamp=NOW,
                duration_ms=draw(st.sampled_from([1000, 30_000, 61_000])),
                needs=ResourceVector(cpu_millis=1000, memory_bytes=GIB),
                together=draw(st.sampled_from(["", "", "x", "y"])),
                depends_on=parents,
                value_of_time_microusd_per_hour=draw(st.sampled_from([0, 10**6, 10**9])),
                inputs=tuple(
                    InputData(source=name, size_bytes=draw(st.sampled_from([0, GB, 30 * GB])))
                    for name in parents
                ),
            )
        )
    return found


@st.composite
def offered(draw: st.DrawFn) -> list[Bid]:
    found = []
    for k in range(draw(st.integers(1, 4))):
        price = draw(st.sampled_from([10_000, 77_777, 3_000_000]))
        profile = CUProfile(
            cu_id=f"cu{k}",
            provider=f"p{k % 2}",
            location=draw(st.sampled_from(["here", "far"])),
            egress_microusd_per_gb=draw(st.sampled_from([0, 20_000])),
            network_bandwidth_mbps=draw(st.sampled_from([0, 1000])),
            interruption_millis_per_hour=draw(st.sampled_from([0, 100])),
            capacity_id=f"c{k}",
            cpu_millis=1000,
            memory_bytes=4 * GIB,
            price_microusd_per_hour=price,
        )
        found.append(
            Bid(bid_id=f"b{k}", profile=profile, price_microusd_per_hour=price, quantity=9)
        )
    return found


def planned(
    requests: list[ResourceRequest],
    bids: list[Bid],
    standing: dict[str, Standing] | None = None,
    limit: float = 1,
) -> Plan:
    found = plan_placed(
        requests,
        bids,
        ROOM,
        solver=None,
        limit_seconds=limit,
        clock=no_clock,
        standing=standing or NOTHING_STANDS,
    )
    priced = Priced(places=places_of(found, bids))
    assert not violations(requests, bids, ROOM, found.awards, surcharges=priced)
    return found


def standing_of(found: Plan, hold: Hold) -> dict[str, Standing]:
    return {
        award.request_id: Standing(bid_id=award.bid_id, start_ms=award.start_ms, hold=hold)
        for award in found.awards
    }


@settings(max_examples=200, deadline=None)
@given(asked(), offered(), st.data())
def test_a_plan_that_begins_from_another_is_never_dearer_and_keeps_what_is_held(
    requests: list[ResourceRequest], bids: list[Bid], data: st.DataObject
) -> None:
    first = planned(requests, bids[: data.draw(st.integers(1, len(bids)))])
    for limit in (0, 1):
        again = planned(requests, bids, standing_of(first, Hold.NOTHING), limit)
        assert again.objective_microusd <= first.objective_microusd
    held = planned(requests, bids, standing_of(first, Hold.ALL))
    assert [(a.bid_id, a.start_ms, a.cost_microusd) for a in held.awards] == [
        (a.bid_id, a.start_ms, a.cost_microusd) for a in first.awards
    ]
    terms = Terms(settings=MarketSettings(), solver=None, clock=no_clock)
    demand = Demand(requests=tuple(requests), sized={}, run=RunSpec())
    told = terms.plan(demand, bids, ROOM, standing=standing_of(first, Hold.ALL))  # none is dropped
    assert [(a.bid_id, a.start_ms) for a in told.awards] == [
        (a.bid_id, a.start_ms) for a in first.awards
    ]
    kept = planned(requests, bids, standing_of(first, Hold.BID))
    assert [a.bid_id for a in kept.awards] == [a.bid_id for a in first.awards]


@settings(max_examples=100, deadline=None)
@given(asked(), offered(), st.floats(0.2, 1.2))
def test_a_budget_bounds_the_own_bill_whatever_the_others_cost(
    requests: list[ResourceRequest], bids: list[Bid], share: float
) -> None:
    own = {request.request_id for request in requests if request.run_id == "a"}
    terms = Terms(settings=MarketSettings(), solver=None, clock=no_clock)
    free = terms.plan(Demand(requests=tuple(requests), sized={}, run=RunSpec()), bids, ROOM)
    mine = sum(a.money_microusd for a in free.awards if a.request_id in own)
    left = round(share * mine)
    demand = Demand(requests=tuple(requests), sized={}, run=RunSpec(), left_microusd=left)
    found = terms.plan(demand, bids, ROOM, own=own)
    bill = sum(a.money_microusd for a in found.awards if a.request_id in own)
    is_told = any("even the cheapest" in note for note in found.notes)
    assert (bill > left) == is_told
    if share >= 1:
        assert found.objective_microusd == free.objective_microusd
    assert bill <= max(left, mine)
