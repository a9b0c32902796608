"""What `cu-market pool` says of providers that answer, are slow, or do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cu_market.cli.deployment import Deployment
from cu_market.cli.pool import Look, pool_document, pool_notices, pool_table, state_of
from cu_market.ledger.memory import InMemoryLedger
from cu_market.market.settings import MarketSettings
from cu_market.ral.asking import Answer
from cu_market.ral.local.provider import LocalProvider


class Away(LocalProvider):
    """Its API is away."""

    def pool(self) -> Any:
        raise ConnectionError("the cluster's API does not answer")


class Talkative(LocalProvider):
    """Tells what bounds its room."""

    def describe(self) -> dict[str, str]:
        return {self.name: "quota 'team' leaves 1 of 4 cores"}


@pytest.fixture
def document(tmp_path: Path) -> dict[str, Any]:
    providers = {
        "local": {"kind": "local", "cores": 1, "memory": "1GiB"},
        "away": {"kind": f"{__name__}:Away", "cores": 1, "memory": "1MiB"},
        "talkative": {"kind": f"{__name__}:Talkative", "cores": 1, "memory": "1MiB"},
    }
    settings = MarketSettings(providers=providers)
    # More is sold together than a machine of one core has; nobody is asked to run anything.
    conflicts = LocalProvider.conflicts
    LocalProvider.conflicts = staticmethod(lambda _: [])  # type: ignore[method-assign]
    try:
        return pool_document(Deployment(home=tmp_path, settings=settings, ledger=InMemoryLedger()))
    finally:
        LocalProvider.conflicts = staticmethod(conflicts)  # type: ignore[method-assign]


def test_one_that_is_away_is_listed_with_why_and_the_others_with_their_room(
    document: dict[str, Any],
) -> None:
    local, away, talkative = document["providers"]
    assert local["is_answering"]
    assert talkative["is_answering"]
    assert not away["is_answering"]
    assert away["state"].endswith("raised ConnectionError: the cluster's API does not answer")
    assert (away["profiles"], away["capacities"]) == ([], {})
    assert local["capacities"]["local"]["free"]["cpu_millis"] == 1000
    lines = pool_notices(document)
    assert any(line.startswith("away: not answering: ") for line in lines)
    assert "  talkative: quota 'team' leaves 1 of 4 cores" in lines
    assert pool_table(document) is not None


def test_one_that_answers_after_auctions_have_gone_on_is_slow(document: dict[str, Any]) -> None:
    pool = LocalProvider.from_config("local", {}).pool()
    slow = Answer(reply=Look(pool=pool, seconds=2.5))
    assert state_of(slow, 1.0).startswith("slow: answered in 2.5 s, auctions wait 1 s")
    assert state_of(slow, 3.0) == "answering, in 2.50 s"
