"""Egress and interruption against brute force over every choice of bids; shares no code with it."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from fractions import Fraction
from math import exp

from hypothesis import given, settings
from hypothesis import strategies as st

from cu_market.dnm.placement.placing import plan_placed
from cu_market.dnm.programs.solve import InProcessSolver, no_clock
from cu_market.domain.bid import Bid
from cu_market.domain.inputs import InputData, Place
from cu_market.domain.profile import CUProfile
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GIB

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = 3_600_000
GB = 10**9
EGRESS = {"x": 90_000, "y": 20_000, "z": 0}

steps = st.lists(
    st.tuples(
        st.integers(1, 3),  # cores
        st.sampled_from([60_000, HOUR, 3 * HOUR]),
        st.sampled_from([0, 0, 1, 5, 40]),  # GB read of each earlier step that it reads
        st.integers(0, 7),  # which of the three before it
        st.sampled_from([None, None, "x", "y"]),  # where it reads 10 GB more from
    ),
    min_size=1,
    max_size=4,
)
offered = st.lists(
    st.tuples(
        st.integers(1, 3),  # cores
        st.integers(1_000, 900_000),
        st.sampled_from(["x", "y", "z"]),
        st.sampled_from([0, 0, 500]),  # interruptions
    ),
    min_size=1,
    max_size=5,
)


def half_even(value: Fraction) -> int:
    return round(value)  # Python rounds a fraction half-even


def requests_of(asked: list[tuple[int, int, int, int, str | None]]) -> list[ResourceRequest]:
    found = []
    for i, (cores, duration, gigabytes, before, origin) in enumerate(asked):
        sources = [f"r{j}" for j in range(max(0, i - 3), i) if before >> (i - j - 1) & 1]
        inputs = [InputData(source=name, size_bytes=gigabytes * GB) for name in sources]
        if origin is not None:
            place = Place(location=origin, egress_microusd_per_gb=EGRESS[origin])
            inputs.append(InputData(source="gone", size_bytes=10 * GB, place=place))
        found.append(
            ResourceRequest(
                request_id=f"r{i}",
                timestamp=NOW,
                duration_ms=duration,
                needs=ResourceVector(cpu_millis=1000 * cores, memory_bytes=GIB),
                depends_on=tuple(sources),
                inputs=tuple(inputs),
            )
        )
    return found


def bids_of(offers: list[tuple[int, int, str, int]]) -> list[Bid]:
    return [
        Bid(
            bid_id=f"b{k}",
            profile=CUProfile(
                cu_id=f"cu{k}",
                provider="p",
                location=location,
                capacity_id=f"cap{k}",
                cpu_millis=1000 * cores,
                memory_bytes=2 * GIB,
                price_microusd_per_hour=price,
                egress_microusd_per_gb=EGRESS[location],
                interruption_millis_per_hour=hazard,
            ),
            price_microusd_per_hour=price,
            quantity=9,
        )
        for k, (cores, price, location, hazard) in enumerate(offers)
    ]


def cost(
    requests: list[ResourceRequest], bids: list[Bid], choice: tuple[int, ...]
) -> tuple[int, int]:
    """Returns money and expected loss, egress at the places of this very choice."""
    at = {request.request_id: bids[k].profile for request, k in zip(requests, choice, strict=True)}
    money = loss = 0
    for request, k in zip(requests, choice, strict=True):
        price, hazard = (
            bids[k].price_microusd_per_hour,
            bids[k].profile.interruption_millis_per_hour,
        )
        money += half_even(Fraction(price * request.duration_ms, HOUR))
        half = half_even(Fraction(price * request.duration_ms, HOUR)) / 2
        loss += round((1 - exp(-hazard * request.duration_ms / (1000 * HOUR))) * half)
        for data in request.inputs:
            origin = data.place.location if data.place else at[data.source].location
            if origin != bids[k].profile.location:
                money += half_even(Fraction((data.size_bytes or 0) * EGRESS[origin], GB))
    return money, loss


@settings(max_examples=300, deadline=None)
@given(steps, offered)
def test_plans_across_locations_cost_what_they_say_and_nothing_costs_less(
    asked: list[tuple[int, int, int, int, str | None]], offers: list[tuple[int, int, str, int]]
) -> None:
    requests, bids = requests_of(asked), bids_of(offers)
    found = plan_placed(
        requests, bids, {}, solver=InProcessSolver(), limit_seconds=600, gap=0.0, clock=no_clock
    )
    options = [
        [k for k, bid in enumerate(bids) if request.needs.fits_in(bid.profile.size)]
        for request in requests
    ]
    if not all(options):
        assert found.unserved
        return
    place = {bid.bid_id: k for k, bid in enumerate(bids)}
    chosen = tuple(place[award.bid_id] for award in found.awards)
    money, loss = cost(requests, bids, chosen)
    assert (found.money_microusd, found.objective_microusd) == (money, money + loss)
    best = min(sum(cost(requests, bids, choice)) for choice in itertools.product(*options))
    assert found.bound_microusd <= best
    assert found.objective_microusd == best
