"""Plans against brute force over every assignment; shares no code with the planner."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from cu_market.dnm.planner import plan
from cu_market.dnm.programs.solve import InProcessSolver
from cu_market.domain.bid import Bid, Rates
from cu_market.domain.plan import Plan
from cu_market.domain.profile import CUProfile
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GIB, lease_cost_microusd

NOW = datetime(2026, 1, 1, tzinfo=UTC)

requests_strategy = st.lists(
    st.tuples(
        st.integers(1, 3),  # cores
        st.integers(1, 4),  # GiB
        st.sampled_from([10_000, 60_000, 90_000]),  # reference milliseconds
        st.sampled_from([0, 30_000, 75_000]),  # earliest start
        st.sampled_from([0, 100_000]),  # value of time
    ),
    min_size=1,
    max_size=4,
)
bids_strategy = st.lists(
    st.tuples(
        st.booleans(),  # elastic
        st.integers(1, 4),  # cores
        st.integers(1, 5),  # GiB
        st.integers(10_000, 400_000),  # price of a core
        st.sampled_from([500, 1000, 1500]),  # performance
        st.integers(1, 2),  # quantity
        st.integers(0, 1),  # capacity
    ),
    min_size=1,
    max_size=3,
)
capacities_strategy = st.lists(
    st.tuples(st.integers(1, 5), st.integers(1, 6)), min_size=2, max_size=2
)


def instance(
    asked: list[tuple[int, ...]], offered: list[tuple[int, ...]], rooms: list[tuple[int, int]]
) -> tuple[list[ResourceRequest], list[Bid], dict[str, ResourceVector]]:
    requests = [
        ResourceRequest(
            request_id=f"r{i}",
            timestamp=NOW,
            duration_ms=duration,
            needs=ResourceVector(cpu_millis=1000 * cores, memory_bytes=gib * GIB),
            earliest_start_ms=start,
            value_of_time_microusd_per_hour=value,
        )
        for i, (cores, gib, duration, start, value) in enumerate(asked)
    ]
    bids = []
    for k, (is_elastic, cores, gib, price, performance, quantity, capacity) in enumerate(offered):
        rates = Rates(core_microusd_per_hour=price, gb_microusd_per_hour=1000)
        size = ResourceVector(cpu_millis=1000 * cores, memory_bytes=gib * GIB)
        profile = CUProfile(
            cu_id=f"cu{k}",
            provider=f"p{k}",
            location="here",
            capacity_id=f"room{capacity}",
            cpu_millis=size.cpu_millis,
            memory_bytes=size.memory_bytes,
            price_microusd_per_hour=rates.price_microusd_per_hour(size),
        )
        bids.append(
            Bid(
                bid_id=f"b{k}",
                profile=profile,
                price_microusd_per_hour=profile.price_microusd_per_hour,
                performance_millis=performance,
                rates=rates if is_elastic else None,
                quantity=quantity,
            )
        )
    capacities = {
        f"room{c}": ResourceVector(cpu_millis=1000 * cores, memory_bytes=gib * GIB)
        for c, (cores, gib) in enumerate(rooms)
    }
    return requests, bids, capacities


def cost(request: ResourceRequest, bid: Bid) -> int:
    """Money and the value of what the bid takes longer than the reference, no slack left."""
    expected = -(-request.duration_ms * 1000 // bid.performance_millis)
    price = (
        bid.rates.price_microusd_per_hour(request.needs)
        if bid.rates
        else bid.price_microusd_per_hour
    )
    return lease_cost_microusd(price, expected)


def fits(
    requests: list[ResourceRequest],
    bids: list[Bid],
    capacities: dict[str, ResourceVector],
    choice: tuple[int | None, ...],
) -> bool:
    """Whether no room and no bid's quantity is passed at any start."""
    chosen = [(r, bids[k]) for r, k in zip(requests, choice, strict=True) if k is not None]
    for request, bid in chosen:
        if not request.needs.fits_in(bid.profile.size):
            return False
    for moment in {request.earliest_start_ms for request, _ in chosen}:
        held = {capacity: ResourceVector() for capacity in capacities}
        units: dict[str, int] = {}
        for request, bid in chosen:
            end = request.earliest_start_ms - (
                -request.duration_ms * 1000 // bid.performance_millis
            )
            if request.earliest_start_ms <= moment < end:
                size = request.needs if bid.rates else bid.profile.size
                held[bid.profile.capacity_id] += size
                if bid.rates is None:
                    units[bid.bid_id] = units.get(bid.bid_id, 0) + 1
        if any(not held[c].fits_in(capacities[c]) for c in capacities):
            return False
        if any(
            count > next(b for b in bids if b.bid_id == i).quantity for i, count in units.items()
        ):
            return False
    return True


def planned(
    requests: list[ResourceRequest], bids: list[Bid], capacities: dict[str, ResourceVector]
) -> Plan:
    return plan(
        requests,
        bids,
        capacities,
        solver=InProcessSolver(),
        limit_seconds=600,
        gap=0.0,
        fixed_starts=True,
    )


@settings(max_examples=150, deadline=None)
@given(requests_strategy, bids_strategy, capacities_strategy)
def test_a_plan_serves_the_most_and_then_costs_the_least(
    asked: list[tuple[int, ...]], offered: list[tuple[int, ...]], rooms: list[tuple[int, int]]
) -> None:
    asked = [(*request[:4], 0) for request in asked]  # money alone: delays have their own test
    requests, bids, capacities = instance(asked, offered, rooms)
    outcome = planned(requests, bids, capacities)
    servable = [any(fits([r], bids, capacities, (k,)) for k in range(len(bids))) for r in requests]
    best = None
    options: list[list[int | None]] = [
        [None, *range(len(bids))] if can else [None] for can in servable
    ]
    for choice in itertools.product(*options):
        if fits(requests, bids, capacities, choice):
            money = sum(
                cost(r, bids[k]) for r, k in zip(requests, choice, strict=True) if k is not None
            )
            rank = (sum(k is None for k in choice), money)
            best = rank if best is None or rank < best else best
    assert best is not None
    found = (len(outcome.unserved), sum(award.money_microusd for award in outcome.awards))
    assert found == best
    assert outcome.bound_microusd <= outcome.objective_microusd


@settings(max_examples=100, deadline=None)
@given(requests_strategy, bids_strategy, capacities_strategy, st.randoms(use_true_random=False))
def test_permuting_bids_and_requests_never_changes_a_plan(
    asked: list[tuple[int, ...]],
    offered: list[tuple[int, ...]],
    rooms: list[tuple[int, int]],
    random: object,
) -> None:
    requests, bids, capacities = instance(asked, offered, rooms)
    first = planned(requests, bids, capacities)
    shuffled_bids, shuffled_requests = list(bids), list(requests)
    random.shuffle(shuffled_bids)  # type: ignore[attr-defined]
    random.shuffle(shuffled_requests)  # type: ignore[attr-defined]
    second = planned(shuffled_requests, shuffled_bids, capacities)
    for request in requests:
        assert first.award_for(request.request_id) == second.award_for(request.request_id)
    assert first.objective_microusd == second.objective_microusd
