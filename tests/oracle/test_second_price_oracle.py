"""Second prices against Vickrey's rule by brute force, and whether lying pays; shares no code."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cu_market.dnm.planner import plan
from cu_market.dnm.programs.solve import InProcessSolver
from cu_market.dnm.second_price import at_second_prices
from cu_market.dnm.verify import violations
from cu_market.domain.bid import Bid
from cu_market.domain.plan import Plan
from cu_market.domain.profile import CUProfile
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GIB

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = 3_600_000
SLACK = 9
"""Micro-dollars: prices an hour are rounded down, over six hours of leases at most, and each of up
to three bills, twice, to the nearest."""

steps = st.lists(
    st.tuples(st.integers(1, 2), st.sampled_from([HOUR // 4, HOUR, 2 * HOUR])),
    min_size=1,
    max_size=3,
)
sellers = st.lists(
    st.tuples(st.integers(1, 2), st.integers(1_000, 900_000), st.integers(1, 3)),
    min_size=2,
    max_size=4,
)
"""Cores, micro-dollars an hour, how many: one bid a provider."""


def requests_of(asked: Sequence[tuple[int, int]], most: int | None = None) -> list[ResourceRequest]:
    return [
        ResourceRequest(
            request_id=f"r{i}",
            timestamp=NOW,
            duration_ms=duration,
            needs=ResourceVector(cpu_millis=1000 * cores, memory_bytes=GIB),
            max_price_microusd_per_hour=most,
        )
        for i, (cores, duration) in enumerate(asked)
    ]


def bids_of(offers: Sequence[tuple[int, int, int]]) -> list[Bid]:
    return [
        Bid(
            bid_id=f"b{k}",
            profile=CUProfile(
                cu_id=f"cu{k}",
                provider=f"p{k}",
                location="here",
                capacity_id=f"cap{k}",
                cpu_millis=1000 * cores,
                memory_bytes=2 * GIB,
                price_microusd_per_hour=price,
            ),
            price_microusd_per_hour=price,
            quantity=quantity,
        )
        for k, (cores, price, quantity) in enumerate(offers)
    ]


def solved(requests: list[ResourceRequest], bids: Sequence[Bid]) -> Plan:
    return plan(
        requests,
        bids,
        {},
        solver=InProcessSolver(),
        limit_seconds=600,
        gap=0.0,
        fixed_starts=True,
    )


def priced(requests: list[ResourceRequest], bids: list[Bid]) -> Plan:
    return at_second_prices(
        solved(requests, bids),
        requests,
        bids,
        solve=lambda others: solved(requests, others),
        has_time=lambda: True,
    )


def cheapest(
    asked: Sequence[tuple[int, int]], offers: dict[int, tuple[int, int, int]]
) -> int | None:
    """The least money that serves all, all starting together; None where nothing does."""
    best: int | None = None
    for choice in itertools.product(offers, repeat=len(asked)):
        if any(choice.count(k) > offers[k][2] for k in offers):
            continue
        if any(offers[k][0] < cores for k, (cores, _) in zip(choice, asked, strict=True)):
            continue
        money = sum(
            round(offers[k][1] * duration / HOUR)
            for k, (_, duration) in zip(choice, asked, strict=True)
        )
        best = money if best is None else min(best, money)
    return best


def paid(found: Plan, provider: str) -> int:
    return sum(award.money_microusd for award in found.awards if award.provider == provider)


def spent(found: Plan, asked: Sequence[tuple[int, int]], provider: str, true_price: int) -> float:
    duration = {f"r{i}": each for i, (_, each) in enumerate(asked)}
    own = [award for award in found.awards if award.provider == provider]
    return sum(true_price * duration[award.request_id] / HOUR for award in own)


def is_contested(asked: Sequence[tuple[int, int]], offers: Sequence[tuple[int, int, int]]) -> bool:
    """Whether everything is served without any one provider."""
    every = dict(enumerate(offers))
    return all(
        cheapest(asked, {k: offer for k, offer in every.items() if k != out}) is not None
        for out in every
    )


@settings(max_examples=150, deadline=None)
@given(steps, sellers)
def test_payments_are_vickreys(
    asked: list[tuple[int, int]], offers: list[tuple[int, int, int]]
) -> None:
    assume(is_contested(asked, offers))
    requests, bids = requests_of(asked), bids_of(offers)
    as_bid, found = solved(requests, bids), priced(requests, bids)
    every = dict(enumerate(offers))
    total = cheapest(asked, every)
    assert total is not None
    assert not violations(requests, bids, {}, found.awards, fixed_starts=True)
    for award, before in zip(found.awards, as_bid.awards, strict=True):
        assert award.price_microusd_per_hour >= before.price_microusd_per_hour
        assert award.bid_price_microusd_per_hour == before.price_microusd_per_hour
        assert award.cost_microusd == before.cost_microusd
    for provider in {award.provider for award in found.awards}:
        k = int(provider[1:])
        without = cheapest(asked, {j: offer for j, offer in every.items() if j != k})
        assert without is not None
        right = paid(as_bid, provider) + without - total
        assert right - SLACK <= paid(found, provider) <= right + 2


@settings(max_examples=150, deadline=None)
@given(steps, sellers, st.integers(0, 3), st.sampled_from([0.1, 0.5, 0.9, 1.1, 1.5, 3.0]))
def test_nobody_gains_by_bidding_anything_but_its_cost(
    asked: list[tuple[int, int]],
    offers: list[tuple[int, int, int]],
    who: int,
    factor: float,
) -> None:
    assume(who < len(offers) and is_contested(asked, offers))
    cores, price, quantity = offers[who]
    lie = [*offers]
    lie[who] = (cores, round(factor * price), quantity)
    provider, requests = f"p{who}", requests_of(asked)
    gains = []
    for said in (offers, lie):
        found = priced(requests, bids_of(said))
        gains.append(paid(found, provider) - spent(found, asked, provider, price))
    assert gains[1] <= gains[0] + SLACK
    assert gains[0] >= -len(asked) / 2  # who bids its cost never loses, but for rounding bills


@settings(max_examples=80, deadline=None)
@given(steps, sellers, st.integers(0, 2**32))
def test_the_order_of_bids_changes_no_payment(
    asked: list[tuple[int, int]], offers: list[tuple[int, int, int]], seed: int
) -> None:
    requests, bids = requests_of(asked), bids_of(offers)
    mixed = list(bids)
    Random(seed).shuffle(mixed)
    assert priced(requests, bids) == priced(requests, mixed)


@settings(max_examples=100, deadline=None)
@given(steps, sellers, st.integers(1, 900_000))
def test_a_max_price_is_never_passed(
    asked: list[tuple[int, int]], offers: list[tuple[int, int, int]], most: int
) -> None:
    found = priced(requests_of(asked, most), bids_of(offers))
    for award in found.awards:
        assert award.bid_price_microusd_per_hour is not None
        assert award.bid_price_microusd_per_hour <= award.price_microusd_per_hour <= most
