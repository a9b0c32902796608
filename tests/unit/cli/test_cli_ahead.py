"""What `cu-market ahead` prints: each purchase, why, whether it was used, and sums by account."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cu_market.cli.ahead import ahead_document, ahead_tables
from cu_market.cli.deployment import Deployment
from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.purchase import Purchase
from cu_market.domain.resources import ResourceVector
from cu_market.ledger.memory import InMemoryLedger
from cu_market.market.settings import MarketSettings

T0 = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOM = ResourceVector(cpu_millis=8000, memory_bytes=2**33)
SIZE = ResourceVector(cpu_millis=1000, memory_bytes=2**30)


def buy(ledger: InMemoryLedger, purchase_id: str, seconds: int, **fields: Any) -> None:
    defaults: dict[str, Any] = {
        "provider": "local",
        "resource_id": "local/standard",
        "capacity_id": "local",
        "size": SIZE,
        "price_microusd_per_hour": 3_600_000,
        "code_location": "here",
        "job": "nightly",
        "step_key": "first",
        "source": "schedule",
        "account": "default",
        "fit": "",
        "expected_at": T0,
        "waiting_saved_microusd": 9_000,
        "holding_microusd": 100,
        "reason": f"reason of {purchase_id}",
        "buyer": "daemon",
        "holder": f"holder-{purchase_id}",
        "started_at": T0 + timedelta(seconds=seconds),
        "expires_at": T0 + timedelta(hours=1),
    }
    ledger.buy(Purchase(purchase_id=purchase_id, **(defaults | fields)), capacity=ROOM)


def test_used_unused_and_standing() -> None:
    ledger = InMemoryLedger()
    buy(ledger, "used", 0, account="research")
    buy(ledger, "unused", 1)
    buy(ledger, "stands", 2, job="weekly")
    ledger.advance_purchase("used", ready_at=T0 + timedelta(seconds=4.5))
    ledger.take_purchase("used", run_id="0123456789", now=T0 + timedelta(seconds=5))
    award = Allocation(
        run_id="0123456789",
        step_key="first",
        attempt=1,
        state=AllocationState.AWARDED,
        auction_id="a",
        bid_id="b",
        provider="local",
        resource_id="local/standard",
        capacity_id="local",
        size=SIZE,
        price_microusd_per_hour=1,
        expected_ms=1,
        awarded_at=T0,
        holder="holder-used",
    )
    at = T0 + timedelta(seconds=6)
    ledger.lease(award, capacity=ROOM, expires_at=T0 + timedelta(hours=1), now=at)
    ledger.let_go("unused", outcome="nobody came", now=T0 + timedelta(seconds=3))
    deployment = Deployment(home=Path("home"), settings=MarketSettings(), ledger=ledger)
    document = ahead_document(deployment, job=None, limit=2)
    assert not document["enabled"]
    assert [each["purchase_id"] for each in document["purchases"]] == ["stands", "unused"]
    assert [each["used"] for each in document["purchases"]] == [None, False]
    assert document["accounts"] == [
        {
            "account": "default",
            "bought": 2,
            "used": 0,
            "cost_usd": 0.002,
            "unused_cost_usd": 0.002,
        },
        {
            "account": "research",
            "bought": 1,
            "used": 1,
            "cost_usd": 0.006,
            "unused_cost_usd": 0.0,
        },
    ]
    document = ahead_document(deployment, job="nightly", limit=50)
    table, newest, _ = ahead_tables(document)
    cells = [list(column.cells) for column in table.columns]  # type: ignore[union-attr]
    shown = [[str(cell) for cell in column] for column in cells]
    assert shown[-1] == ["nobody came", "used by run 01234567"]
    assert shown[6] == ["", "4.5"]
    assert newest == "The newest, for nightly: reason of unused"
