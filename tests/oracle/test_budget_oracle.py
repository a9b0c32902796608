"""Plans within a budget against brute force over every choice of bids; shares no code with it."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from cu_market.domain.bid import Bid
from cu_market.domain.plan import Plan
from cu_market.domain.profile import CUProfile
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.spec import RunSpec
from cu_market.domain.units import GIB
from cu_market.market.demand.requests import Demand
from cu_market.market.settings import MarketSettings
from cu_market.market.terms import Terms

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = 3_600_000

steps = st.lists(
    st.tuples(
        st.sampled_from([HOUR // 4, HOUR, 2 * HOUR]),  # reference time
        st.sampled_from([0, 50_000, 400_000, 3_000_000]),  # value of time
    ),
    min_size=1,
    max_size=4,
)
offered = st.lists(
    st.tuples(st.integers(1_000, 900_000), st.sampled_from([500, 1000, 2000])),
    min_size=1,
    max_size=4,
)


def requests_of(asked: list[tuple[int, int]]) -> tuple[ResourceRequest, ...]:
    """A chain: no step has slack."""
    return tuple(
        ResourceRequest(
            request_id=f"r{i}",
            timestamp=NOW,
            duration_ms=duration,
            needs=ResourceVector(cpu_millis=1000, memory_bytes=GIB),
            value_of_time_microusd_per_hour=value,
            depends_on=(f"r{i - 1}",) if i else (),
        )
        for i, (duration, value) in enumerate(asked)
    )


def bids_of(offers: list[tuple[int, int]]) -> list[Bid]:
    return [
        Bid(
            bid_id=f"b{k}",
            profile=CUProfile(
                cu_id=f"cu{k}",
                provider="p",
                location="here",
                capacity_id=f"cap{k}",
                cpu_millis=1000,
                memory_bytes=2 * GIB,
                price_microusd_per_hour=price,
            ),
            price_microusd_per_hour=price,
            performance_millis=speed,
            quantity=9,
        )
        for k, (price, speed) in enumerate(offers)
    ]


def costs(asked: list[tuple[int, int]], offers: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Money and cost of every choice."""
    found = []
    for choice in itertools.product(offers, repeat=len(asked)):
        money = total = 0
        for (duration, value), (price, speed) in zip(asked, choice, strict=True):
            takes = -(-duration * 1000 // speed)
            own = round(price * takes / HOUR)
            money += own
            total += own + round(value * max(0, takes - duration) / HOUR)
        found.append((money, total))
    return found


def planned(
    asked: list[tuple[int, int]], offers: list[tuple[int, int]], budget: int | None
) -> Plan:
    requests = requests_of(asked)
    demand = Demand(requests=requests, sized={}, run=RunSpec(), left_microusd=budget)
    terms = Terms(settings=MarketSettings(), solver=None, clock=lambda: 0.0)
    return terms.plan(demand, bids_of(offers), {})


@settings(max_examples=300, deadline=None)
@given(steps, offered, st.floats(0.3, 1.2))
def test_a_plan_is_within_the_budget_where_any_is_and_says_where_none_is(
    asked: list[tuple[int, int]], offers: list[tuple[int, int]], share: float
) -> None:
    every = costs(asked, offers)
    free = planned(asked, offers, None)
    assert free.money_microusd + sum(a.cost_microusd - a.money_microusd for a in free.awards) == (
        min(total for _, total in every)
    )
    budget = round(share * free.money_microusd)
    found = planned(asked, offers, budget)
    money, total = found.money_microusd, sum(award.cost_microusd for award in found.awards)
    assert (money, total) in every  # priced at the run's own value of time
    within = [(total, money) for money, total in every if money <= budget]
    told = [note for note in found.notes if note.startswith("budget: ")]
    if not within:
        assert money == min(money for money, _ in every)
        assert "even the cheapest" in told[0]
    else:
        assert money <= budget
        assert total >= min(within)[0]
        cheapest = min(every)[0]
        assert total <= max(total for money, total in every if money == cheapest)
        assert bool(told) == (free.money_microusd > budget)


def test_what_is_left_buys_speed_where_it_saves_most() -> None:
    """Between all slow and all quick the Lagrangian knows nothing: single steps fill the gap."""
    asked = [(HOUR, 3_000_000), (HOUR, 3_000_000), (HOUR, 400_000)]
    offers = [(100_000, 500), (900_000, 2000)]  # slow: 200,000 a step; quick: 450,000
    found = planned(asked, offers, 1_100_000)
    quick = [award.request_id for award in found.awards if award.bid_id == "b1"]
    assert quick == ["r0", "r1"]
    assert found.money_microusd == 1_100_000
    assert planned(asked, offers, 1_099_999).money_microusd == 850_000
