"""For how long a cluster's offers hold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest

from cu_market.domain.problem import InvalidInputError
from cu_market.domain.profile import CUProfile, ResourcePool
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GIB
from cu_market.ral.kubernetes.config import read_config
from cu_market.ral.kubernetes.provider import KubernetesProvider

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POOLS = [{"name": "general", "core_usd_per_hour": 0.05, "gb_usd_per_hour": 0.005}]
SIZE = ResourceVector(cpu_millis=4000, memory_bytes=8 * GIB)
PROFILE = CUProfile(
    cu_id="cluster/general",
    provider="cluster",
    location="cluster",
    capacity_id="cluster/general",
    cpu_millis=SIZE.cpu_millis,
    memory_bytes=SIZE.memory_bytes,
    price_microusd_per_hour=1,
)


def until(**options: Any) -> datetime | None:
    """When the offer of a pool with room ends."""
    provider = KubernetesProvider(
        "cluster",
        read_config("cluster", {"pools": POOLS, **options}),
        None,  # type: ignore[arg-type]
    )
    request = ResourceRequest(
        request_id="s",
        timestamp=NOW,
        duration_ms=1000,
        needs=ResourceVector(cpu_millis=1000, memory_bytes=GIB),
    )
    pool = ResourcePool(profiles=(PROFILE,), capacities={"cluster/general": SIZE})
    with patch.object(provider, "pool", return_value=pool):
        (bid,) = provider.bid([request], NOW)
    return bid.valid_until


def test_an_offer_ends_where_that_is_wanted() -> None:
    assert until() is None
    assert until(offer_valid_seconds=90) == NOW + timedelta(seconds=90)
    with pytest.raises(InvalidInputError, match="offer_valid_seconds='0'"):
        until(offer_valid_seconds=0)
