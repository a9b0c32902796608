"""The bound that knows waiting: no prices, right or wrong, lift it above a plan that serves all."""

from __future__ import annotations

from itertools import cycle

from hypothesis import given, settings
from hypothesis import strategies as st
from test_dnm_properties import CAPACITIES, NOW, RUNNING, asked, offered, planned

from cu_market.dnm.bounds.waiting import WaitingPrices, certify_waiting
from cu_market.dnm.offers import RunningLease, tabulate
from cu_market.dnm.planner import plan
from cu_market.dnm.programs.solve import InProcessSolver
from cu_market.domain.bid import Bid, Rates
from cu_market.domain.profile import CUProfile
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector

PRICES = st.lists(
    st.floats(0, 1e9) | st.sampled_from([-1.0, float("inf"), float("nan")]), min_size=1, max_size=9
)
EDGES = st.lists(st.integers(0, 200_000), min_size=2, max_size=6, unique=True).map(sorted)


@settings(max_examples=100, deadline=None)
@given(asked(), offered(), CAPACITIES, RUNNING, PRICES, PRICES, EDGES)
def test_any_prices_give_a_bound_below_every_plan_that_serves_all(
    requests: list[ResourceRequest],
    bids: list[Bid],
    capacities: dict[str, ResourceVector],
    running: list[RunningLease],
    room_prices: list[float],
    waiting_prices: list[float],
    edges: list[int],
) -> None:
    found = planned(requests, bids, capacities, running, fixed=False, is_solved=False)
    if found.unserved:
        return
    table = tabulate(requests, bids, capacities, running=running)
    values = cycle(room_prices)
    prices = WaitingPrices(
        edges=tuple(edges),
        rooms={
            (room, t): next(values) / max(1, table.rooms[room].limit)
            for room in range(len(table.rooms))
            for t in range(len(edges) - 1)
        },
        waiting=dict(zip(range(len(requests)), cycle(waiting_prices), strict=False)),
    )
    assert certify_waiting(table, prices) <= found.objective_microusd


def test_twelve_that_share_four_cores_are_bounded_by_what_they_must_wait() -> None:
    minute = 60_000
    requests = [
        ResourceRequest(
            request_id=f"r{i:02d}",
            timestamp=NOW,
            duration_ms=minute,
            needs=ResourceVector(cpu_millis=2000, memory_bytes=1),
            value_of_time_microusd_per_hour=60_000_000,  # a dollar a minute
        )
        for i in range(12)
    ]
    profile = CUProfile(
        cu_id="cu",
        provider="p",
        location="here",
        capacity_id="c",
        cpu_millis=4000,
        memory_bytes=100,
        price_microusd_per_hour=0,
    )
    rates = Rates(core_microusd_per_hour=0, gb_microusd_per_hour=0)
    bid = Bid(bid_id="b", profile=profile, price_microusd_per_hour=0, rates=rates)
    rooms = {"c": ResourceVector(cpu_millis=4000, memory_bytes=100)}
    found = plan(requests, [bid], rooms, solver=InProcessSolver(), limit_seconds=600)
    # Two at a time: two wait for 0, 1, ... 5 minutes each.
    assert found.objective_microusd == 2 * (0 + 1 + 2 + 3 + 4 + 5) * 1_000_000
    assert found.gap_ratio <= 0.001
    assert found.solver == "construction, bound by HiGHS"
