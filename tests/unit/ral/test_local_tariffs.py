from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cu_market.domain.bid import Bid, Rates
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GIB, MIB
from cu_market.ral.bids import collect_bids
from cu_market.ral.local.machine import Machine
from cu_market.ral.local.provider import LocalProvider
from cu_market.ral.provider import Observant, Revocable

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MACHINE = Machine(cpu_millis=4000, memory_bytes=16 * GIB)
NEEDS = ResourceVector(cpu_millis=1000, memory_bytes=600 * MIB)


def make(**tariff: object) -> LocalProvider:
    written = {"name": "t", "core_usd_per_hour": 1, "gb_usd_per_hour": 0, **tariff}
    written = {key: value for key, value in written.items() if value is not None}
    return LocalProvider.from_config("local", {"tariffs": [written]}, machine=MACHINE)


def bid_of(provider: LocalProvider) -> Bid:
    asked = ResourceRequest(request_id="s", timestamp=NOW, duration_ms=1, needs=NEEDS)
    found = collect_bids([provider], [asked], now=NOW, deadline_seconds=60)
    assert not found.problems
    return found.bids[0]


@pytest.mark.parametrize(("cores", "price"), [(0, 1_000_000), (2, 1_250_000), (4, 1_500_000)])
def test_a_congestion_price_rises_with_use(cores: int, price: int) -> None:
    provider = make(congestion=0.5)
    assert isinstance(provider, Observant)
    provider.observe({"local": ResourceVector(cpu_millis=1000 * cores)})
    assert bid_of(provider).price_for(NEEDS) == price


def test_the_scarcest_dimension_counts() -> None:
    provider = make(congestion=1)
    used = ResourceVector(cpu_millis=1000, memory_bytes=provider.capacity.memory_bytes // 2)
    provider.observe({"local": used})
    assert bid_of(provider).price_for(NEEDS) == pytest.approx(1_500_000, rel=0.002)


def test_who_asks_nothing_of_use_is_told_nothing() -> None:
    assert list(make(congestion=0.5).observed) == ["local"]
    assert list(make().observed) == []


def test_prices_by_the_second_with_minimum_and_size_classes() -> None:
    provider = make(
        core_usd_per_hour=None,
        gb_usd_per_hour=None,
        core_usd_per_second=0.00001,
        gb_usd_per_second=0.000001,
        minimum_seconds=60,
        size_classes=[
            {"cpu": 0.25, "memory": "512MiB"},
            {"cpu": 1, "memory": "2GiB"},
            {"cpu": 4, "memory": "8GiB"},
        ],
    )
    bid = bid_of(provider)
    assert bid.minimum_ms == 60_000
    assert bid.size_for(NEEDS) == ResourceVector(cpu_millis=1000, memory_bytes=2 * GIB)
    assert bid.price_for(NEEDS) == 36_000 + round(2 * GIB / 10**9 * 3_600)


def test_the_cheapest_class_that_holds_the_needs_is_sold() -> None:
    rates = Rates(
        core_microusd_per_hour=100,
        gb_microusd_per_hour=1,
        classes=(
            ResourceVector(cpu_millis=4000, memory_bytes=GIB),
            ResourceVector(cpu_millis=1000, memory_bytes=8 * GIB),
            ResourceVector(cpu_millis=4000, memory_bytes=8 * GIB),
        ),
    )
    assert rates.class_for(NEEDS) == rates.classes[1]
    assert rates.class_for(ResourceVector(cpu_millis=2000)) == rates.classes[0]
    beyond = ResourceVector(cpu_millis=9000)
    assert rates.class_for(beyond) == beyond


def test_spot_is_interruptible_and_gives_way() -> None:
    provider = make(spot=True)
    assert isinstance(provider, Revocable)
    assert bid_of(provider).profile.interruption_millis_per_hour == 1000
    said = make(spot=True, interruptions_per_hour=0.2)
    assert bid_of(said).profile.interruption_millis_per_hour == 200


@pytest.mark.parametrize(
    ("tariff", "said"),
    [
        ({"core_usd_per_hour": None}, "core price missing"),
        ({"gb_usd_per_second": 1}, "both by the hour and by the second"),
        ({"core_usd_per_hour": None, "core_usd_per_second": "x"}, "not a number"),
        ({"congestion": -1}, "greater than or equal to 0"),
        (
            {"size_classes": [{"cpu": 2, "memory": "1GiB"}, {"cpu": 1, "memory": "2GiB"}]},
            "does not hold all others",
        ),
        ({"size_classes": [{"cpu": 2, "memry": "1GiB"}]}, "did you mean 'memory'"),
        ({"size_classes": [{"cpu": 2, "memory": "1GiB", "gpus": 1}]}, "gpus.*no such option"),
    ],
)
def test_tariffs_that_cannot_be_used(tariff: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        make(**tariff)
