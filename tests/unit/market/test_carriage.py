"""Who carries to workers that their providers cannot reach, and what is said where nobody can."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cu_market.deo.channel.bridge import LEDGER_VARIABLE
from cu_market.domain.problem import InvalidInputError
from cu_market.ledger.memory import InMemoryLedger
from cu_market.market.carriage import check_carriage, find_carrier
from cu_market.market.opening import open_market
from cu_market.market.settings import MarketSettings
from cu_market.ral.provider import Provider
from cu_market.ral.registry import load_providers

POOL = {"name": "general", "core_usd_per_hour": 0.04, "gb_usd_per_hour": 0.005}
PODS = {"kind": "kubernetes", "image": "image:1", "pools": [POOL]}
NAMED = {"hostname": "h", "username": "u", "password": {"env": "PG_PASSWORD"}, "db_name": "d"}


def settings_with(ledger_url: Any, channel: str = "database") -> MarketSettings:
    providers = {"local": {"kind": "local"}, "cluster": {**PODS, "channel": channel}}
    return MarketSettings.model_validate({"providers": providers, "ledger_url": ledger_url})


def providers_of(settings: MarketSettings) -> list[Provider]:
    return load_providers(settings.providers)


def refusal(settings: MarketSettings) -> str:
    with pytest.raises(InvalidInputError) as caught:
        check_carriage(providers_of(settings), settings)
    return str(caught.value)


@pytest.mark.parametrize("url", [None, "sqlite:////tmp/cu-market/ledger.db"])
def test_a_file_carries_nothing_to_pods(url: str | None) -> None:
    said = refusal(settings_with(url))
    assert said.startswith("provider 'cluster': channel='database': the ledger is a")
    assert "no worker elsewhere can open" in said
    assert "PostgreSQL; or write channel: exec" in said


def test_it_is_said_before_anything_is_opened(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="channel='database'"):
        open_market(settings_with(None), str(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hunter2@h/d",
        {"postgres_url": "postgresql://u:hunter2@h/d"},
        {"postgres_db": {**NAMED, "password": "hunter2"}},
    ],
)
def test_a_secret_is_not_told_to_pods(url: Any) -> None:
    said = refusal(settings_with(url))
    assert "password is written out; write {env: NAME}" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("url", ["postgresql://u@h/d", {"postgres_db": NAMED}, {"env": "URL"}])
def test_what_is_named_carries(url: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PG_PASSWORD", "hunter2")
    monkeypatch.setenv("URL", "postgresql://u:hunter2@h/d")
    settings = settings_with(url)
    providers = providers_of(settings)
    check_carriage(providers, settings)
    carrier = find_carrier(providers, settings, InMemoryLedger())
    assert carrier is not None
    assert set(carrier.environment) == {LEDGER_VARIABLE}
    assert "hunter2" not in carrier.environment[LEDGER_VARIABLE]


def test_nobody_is_needed_where_exec_carries() -> None:
    settings = settings_with(None, "exec")
    check_carriage(providers_of(settings), settings)
    assert find_carrier(providers_of(settings), settings, InMemoryLedger()) is None
