"""What a lease that would grow is given: all that is wanted, what there is, or the reason."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cu_market.deo.announcements import growth_message, no_growth_message
from cu_market.deo.executor.leases import Leases
from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.lease import Refusal
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GIB
from cu_market.ledger.memory import InMemoryLedger
from cu_market.market.accounts.purse import Purse
from cu_market.market.auction import Market
from cu_market.market.settings import MarketSettings
from cu_market.ral.local.machine import Machine
from cu_market.ral.local.provider import LocalProvider

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TARIFF = {"name": "only", "core_usd_per_hour": 1, "gb_usd_per_hour": 1}


class Held:
    """A market of one machine with 8 GiB, and one lease of 1 GiB on it."""

    def __init__(
        self, *, budget_microusd: int | None = None, egress_microusd: int = 0, **tariff: Any
    ) -> None:
        machine = Machine(cpu_millis=2000, memory_bytes=8 * GIB)
        options = {"tariffs": [TARIFF | tariff]}
        local = LocalProvider.from_config("local", options, machine=machine)
        self.room = local.capacity.memory_bytes
        self.ledger = InMemoryLedger()
        market = Market(
            settings=MarketSettings(), ledger=self.ledger, providers=[local], now=lambda: NOW
        )
        purse = Purse(market=market, run_id="run", budget_microusd=budget_microusd)
        self.leases = Leases(market, "run", purse)
        self.lease = self.take("s", GIB, egress_microusd=egress_microusd)

    def take(self, step: str, memory_bytes: int, *, egress_microusd: int = 0) -> Allocation:
        size = ResourceVector(cpu_millis=500, memory_bytes=memory_bytes)
        given = self.ledger.lease(
            Allocation(
                run_id="run",
                step_key=step,
                attempt=1,
                state=AllocationState.AWARDED,
                auction_id="a",
                bid_id="b",
                provider="local",
                resource_id="local/only",
                capacity_id="local",
                size=size,
                price_microusd_per_hour=1_573_742,
                expected_ms=3_600_000,
                awarded_at=NOW,
                egress_microusd=egress_microusd,
            ),
            capacity=ResourceVector(cpu_millis=2000, memory_bytes=8 * GIB),
            expires_at=NOW + timedelta(hours=1),
            now=NOW,
        )
        assert isinstance(given, Allocation)
        return given

    def grow(self, wanted: int, *, least: int = 11 * GIB // 10, most: int | None = None) -> Any:
        return self.leases.grow(self.lease, wanted, least_bytes=least, most_microusd_per_hour=most)


def test_a_lease_grows_to_what_is_wanted_at_the_price_of_now() -> None:
    grown = Held().grow(3 * GIB)
    assert grown.size == ResourceVector(cpu_millis=500, memory_bytes=3 * GIB)
    assert grown.price_microusd_per_hour == round(500_000 + 3 * GIB / 1000)
    said = growth_message(Held().lease, grown, 2500, "memory grows")
    assert "from 1.0 GiB to 3.0 GiB" in said
    assert "foreseen to be full in 2.5 s, since memory grows" in said


def test_with_less_room_than_wanted_it_takes_what_there_is() -> None:
    held = Held()
    held.take("other", held.room - 3 * GIB)
    assert held.grow(4 * GIB, least=2 * GIB).size.memory_bytes == 3 * GIB


def test_with_too_little_room_it_stays_and_the_reason_is_told() -> None:
    held = Held()
    held.take("other", held.room - 3 * GIB // 2)
    refused = held.grow(4 * GIB, least=2 * GIB)
    assert isinstance(refused, Refusal)
    assert held.ledger.allocation(held.lease.key) == held.lease
    said = no_growth_message(held.lease, 1000, "memory grows", refused)
    assert "local has 1.5 GiB for it in all" in said
    assert "auctioned again" in said


def test_a_budget_and_a_highest_price_hold_for_what_is_added_too() -> None:
    held = Held(budget_microusd=1_600_000)
    refused = held.grow(4 * GIB)
    assert isinstance(refused, Refusal)
    assert refused.is_for_money
    said = no_growth_message(held.lease, 1000, "it grows", refused)
    assert "raise the run tag cu/budget_usd and it goes on" in said
    assert Held(budget_microusd=9_000_000).grow(4 * GIB).size.memory_bytes == 4 * GIB
    # What its inputs cost to be brought is paid once.
    brought = Held(budget_microusd=9_000_000, egress_microusd=4_000_000)
    assert brought.grow(4 * GIB).size.memory_bytes == 4 * GIB
    # As much as the price allows: the least that is worth it, or nothing.
    assert Held().grow(4 * GIB, most=2_000_000).size.memory_bytes == 11 * GIB // 10
    assert Held().grow(4 * GIB, most=1_600_000) is None
    assert "not sold at that size and price" in no_growth_message(held.lease, 1, "it grows", None)


def test_a_cu_that_is_sold_no_more_cannot_grow() -> None:
    held = Held()
    held.lease = replace(held.lease, resource_id="local/gone")
    assert held.grow(2 * GIB) is None


def test_more_than_the_cu_is_sold_with_is_cut_to_all_of_it() -> None:
    held = Held()
    assert held.grow(100 * GIB).size.memory_bytes == held.room
    full = Held()
    full.lease = replace(full.lease, size=replace(full.lease.size, memory_bytes=full.room))
    assert full.grow(100 * GIB, least=full.room + GIB) is None


def test_size_classes_are_kept_to() -> None:
    held = Held(size_classes=[{"cpu": 1, "memory": "2GB"}, {"cpu": 1, "memory": "4GB"}])
    grown = held.grow(2 * GIB)
    assert grown.size == ResourceVector(cpu_millis=1000, memory_bytes=4 * 10**9)
