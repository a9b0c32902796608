"""What a cluster's node pools offer where they have room: sizes, prices, and for how long."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any
from unittest.mock import patch

import pytest

from cu_market.domain.bid import Bid
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GIB
from cu_market.ral.kubernetes.cluster import Cluster
from cu_market.ral.kubernetes.config import read_config
from cu_market.ral.kubernetes.pool import NodePool
from cu_market.ral.kubernetes.provider import KubernetesProvider
from cu_market.ral.kubernetes.room import Room

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POOL = {"name": "general", "core_usd_per_hour": 0.05, "gb_usd_per_hour": 0.005}
NODE = ResourceVector(cpu_millis=4000, memory_bytes=8 * GIB)
CLASSES = [
    {"cpu": 0.25, "memory": "512MiB"},
    {"cpu": 1, "memory": "2GiB"},
    {"cpu": 1, "memory": "4GiB"},
    {"cpu": 4, "memory": "16GiB"},
]


def provider(pools: Sequence[Mapping[str, Any]] = (POOL,), **options: Any) -> KubernetesProvider:
    """A provider whose cluster nobody asks."""
    config = read_config("cluster", {"pools": list(pools), **options})
    return KubernetesProvider("cluster", config, None)  # type: ignore[arg-type]


def asks(cores: float, memory_bytes: int) -> ResourceRequest:
    return ResourceRequest(
        request_id="s",
        timestamp=NOW,
        duration_ms=1000,
        needs=size(cores, memory_bytes),
    )


def size(cores: float, memory_bytes: int, gpus: int = 0) -> ResourceVector:
    millis = round(1000 * cores)
    return ResourceVector(cpu_millis=millis, memory_bytes=memory_bytes, gpu_count=gpus)


def bids(
    made: KubernetesProvider,
    request: ResourceRequest | None = None,
    *,
    nodes: Sequence[ResourceVector] = (NODE, NODE),
    added: ResourceVector | None = None,
) -> list[Bid]:
    """What it bids where nodes have that much free."""
    every = nodes if added is None else [*nodes, added]
    total, largest = reduce(ResourceVector.__add__, every), reduce(ResourceVector.largest, every)
    room = Room(total=total, largest=largest, nodes=tuple(nodes), added=added)
    with patch.object(Cluster, "state"), patch.object(Cluster, "room", return_value=room):
        found = list(made.bid([request or asks(0.1, GIB // 8)], NOW))
        offered = {profile.cu_id: profile for profile in made.pool().profiles}
        for bid in found:
            assert offered[bid.bid_id] == bid.profile
    return found


def test_an_offer_ends_where_that_is_wanted() -> None:
    (bid,) = bids(provider())
    assert bid.valid_until is None
    (bid,) = bids(provider(offer_valid_seconds=90))
    assert bid.valid_until == NOW + timedelta(seconds=90)
    with pytest.raises(InvalidInputError, match="offer_valid_seconds='0'"):
        provider(offer_valid_seconds=0)


def test_a_price_may_be_written_by_the_second_and_a_lease_be_billed_at_least_so_long() -> None:
    pool = {
        "name": "serverless",
        "core_usd_per_second": 0.00001,
        "gb_usd_per_second": 0.000001,
        "minimum_seconds": 60,
    }
    (bid,) = bids(provider([pool]))
    assert bid.price_for(ResourceVector(cpu_millis=1000)) == 36_000
    assert bid.price_for(ResourceVector(memory_bytes=10**9)) == 3_600
    assert bid.minimum_ms == 60_000


def test_the_price_rises_with_what_is_leased_of_the_pool() -> None:
    made = provider([{**POOL, "congestion": 0.5}])
    core = ResourceVector(cpu_millis=1000)

    def price() -> int:
        (bid,) = bids(made)
        assert bid.profile.price_microusd_per_hour == bid.price_for(bid.profile.size)
        return bid.price_for(core)

    assert price() == 50_000
    made.observe({"cluster/general": size(4, GIB)})  # half of the cores of two nodes
    assert price() == 62_500
    made.observe({"cluster/general": size(1, 16 * GIB)})  # all of the memory
    assert price() == 75_000
    made.observe({})
    assert price() == 50_000


def test_what_is_asked_is_rounded_up_to_a_size_that_is_sold() -> None:
    (bid,) = bids(provider([{**POOL, "size_classes": CLASSES}]), nodes=[size(8, 32 * GIB)])
    assert bid.size_for(size(0.1, GIB // 8)) == size(0.25, GIB // 2)
    assert bid.size_for(size(0.5, GIB)) == size(1, 2 * GIB)
    assert bid.size_for(size(0.5, 3 * GIB)) == size(1, 4 * GIB)
    assert bid.size_for(size(2, GIB)) == size(4, 16 * GIB)
    assert bid.profile.size == size(4, 16 * GIB)


@pytest.mark.parametrize(
    ("node", "largest", "sold"),
    [
        (size(4, 8 * GIB), size(1, 4 * GIB), 3),
        (size(4, 3 * GIB), size(1, 2 * GIB), 2),
        (size(0.5, 8 * GIB), size(0.25, GIB // 2), 1),
    ],
)
def test_only_sizes_that_a_node_has_room_for_are_sold(
    node: ResourceVector, largest: ResourceVector, sold: int
) -> None:
    (bid,) = bids(provider([{**POOL, "size_classes": CLASSES}]), nodes=[node])
    assert bid.profile.size == largest
    assert bid.rates is not None
    assert len(bid.rates.classes) == sold
    assert bid.size_for(largest) == largest


def test_a_pool_whose_smallest_size_has_no_room_sells_nothing() -> None:
    made = provider([{**POOL, "size_classes": CLASSES}])
    assert bids(made, nodes=[size(0.2, 8 * GIB)]) == []
    (bid,) = bids(provider(), nodes=[size(0.2, 8 * GIB)])  # any size
    assert bid.profile.size == size(0.2, 8 * GIB)


def test_of_sizes_of_which_none_holds_the_other_the_dearest_and_what_it_holds_is_sold() -> None:
    sizes = [
        {"cpu": 2, "memory": "1GiB"},
        {"cpu": 1, "memory": "6GiB"},
        {"cpu": 1, "memory": "1GiB"},
        {"cpu": 8, "memory": "64GiB"},
    ]
    (bid,) = bids(provider([{**POOL, "size_classes": sizes}]))
    assert bid.rates is not None
    assert bid.rates.classes == (size(1, GIB), size(2, GIB))  # 2 cores: .105; 6 GiB: .082


def test_a_size_that_only_several_nodes_together_have_room_for_is_not_sold() -> None:
    sizes = [{"cpu": 1, "memory": "8GiB"}, {"cpu": 8, "memory": "32GiB"}]
    nodes = [size(16, 16 * GIB), size(4, 64 * GIB)]
    (bid,) = bids(provider([{**POOL, "size_classes": sizes}]), nodes=nodes)
    assert bid.profile.size == size(1, 8 * GIB)
    with_one = [*nodes, size(8, 32 * GIB)]
    (bid,) = bids(provider([{**POOL, "size_classes": sizes}]), nodes=with_one)
    assert bid.profile.size == size(8, 32 * GIB)


def test_a_size_that_waits_for_a_node_is_sold_with_its_time() -> None:
    pool = {
        **POOL,
        "size_classes": CLASSES,
        "startup_seconds": 3,
        "autoscale": {"max_nodes": 9, "cores": 4, "memory": "16GiB", "startup_seconds": 90},
    }
    (bid,) = bids(provider([pool]), added=size(4, 16 * GIB))
    assert (bid.profile.size, bid.profile.startup_ms) == (size(4, 16 * GIB), 93_000)
    (bid,) = bids(provider([pool]), nodes=[size(4, 16 * GIB)], added=size(4, 16 * GIB))
    assert (bid.profile.size, bid.profile.startup_ms) == (size(4, 16 * GIB), 3_000)


def test_sizes_with_gpus_are_for_those_who_ask_for_one() -> None:
    sizes = [{"cpu": 1, "memory": "1GiB"}, {"cpu": 2, "memory": "4GiB", "gpus": 1}]
    pool = {**POOL, "gpu": {"type": "A100", "usd_per_hour": 3}, "size_classes": sizes}
    (bid,) = bids(provider([pool]), nodes=[size(4, 8 * GIB, gpus=1)])
    assert bid.size_for(size(1, GIB)) == size(1, GIB)
    assert bid.size_for(size(1, GIB, gpus=1)) == size(2, 4 * GIB, gpus=1)
    assert bid.price_for(size(1, GIB, gpus=1)) > 3_000_000
    (bid,) = bids(provider([pool]), nodes=[size(4, 8 * GIB)])
    assert bid.profile.size == size(1, GIB)


@pytest.mark.parametrize(("free", "serves"), [(size(2, 3 * GIB), False), (size(2, 4 * GIB), True)])
def test_a_request_waits_for_room_only_where_a_size_that_holds_it_may_have_some(
    free: ResourceVector, serves: bool
) -> None:
    made = provider([{**POOL, "size_classes": CLASSES}])

    def could_hold(_: Cluster, pool: NodePool, wanted: ResourceVector) -> bool:
        return pool.name == "general" and wanted.fits_in(free)

    with patch.object(Cluster, "could_hold", could_hold):
        assert made.could_serve(asks(0.5, 3 * GIB)) is serves
        assert provider().could_serve(asks(0.5, 2 * GIB))  # any size


def test_what_an_empty_pool_would_not_sell_is_not_waited_for() -> None:
    sizes = [
        {"cpu": 2, "memory": "1GiB"},
        {"cpu": 1, "memory": "6GiB"},
        {"cpu": 8, "memory": "64GiB"},
    ]
    made = provider([{**POOL, "size_classes": sizes}])

    def could_hold(_: Cluster, __: NodePool, wanted: ResourceVector) -> bool:
        return wanted.fits_in(NODE)

    assert [bid.profile.size for bid in bids(made)] == [size(2, GIB)]
    with patch.object(Cluster, "could_hold", could_hold):
        assert made.could_serve(asks(2, GIB))
        assert not made.could_serve(asks(1, 6 * GIB))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"core_usd_per_second": 0.00001}, "core price written both by the hour and by the second"),
        ({"core_usd_per_hour": None}, "core price missing"),
        ({"size_classes": CLASSES[::-1]}, "the last size class does not hold all others"),
        ({"size_classes": [{"cpu": 1, "memry": "2GiB"}]}, "did you mean 'memory'?"),
        ({"size_classes": [{"cpu": 1, "memory": "2GiB", "gpus": 1}]}, "the pool none"),
        ({"minimum_seconds": -1}, "minimum_seconds='-1'"),
        ({"congestion": "dear"}, "congestion='dear'"),
    ],
)
def test_terms_that_cannot_be_are_refused(changed: Mapping[str, Any], told: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        provider([{**POOL, **changed}])
    assert told in str(refused.value)
