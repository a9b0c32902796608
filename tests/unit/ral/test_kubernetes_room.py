"""Free room as the scheduler would place pods, from raw objects of the API."""

from __future__ import annotations

from typing import Any

import pytest

from cu_market.domain.bid import Rates
from cu_market.domain.resources import ResourceVector
from cu_market.ral.kubernetes.pool import Autoscale, NodePool
from cu_market.ral.kubernetes.room import (
    DEPLOYMENT_LABEL,
    POOL_LABEL,
    PROVIDER_LABEL,
    ClusterState,
    could_hold,
    needs_cpu_limit,
    parse_quantity,
    pod_requests,
    room_of,
)

GIB = 2**30
RATES = Rates(core_microusd_per_hour=1, gb_microusd_per_hour=1)
POOL = NodePool(name="general", rates=RATES)
OWN = {DEPLOYMENT_LABEL: "mine", PROVIDER_LABEL: "cluster", POOL_LABEL: "general"}


def node(name: str, cpu: str = "4", memory: str = "16Gi", **spec: Any) -> dict[str, Any]:
    labels = spec.pop("labels", {})
    ready = spec.pop("ready", "True")
    allocatable = {"cpu": cpu, "memory": memory, **spec.pop("more", {})}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
        "status": {
            "allocatable": allocatable,
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


def pod(where: str | None, cpu: str, memory: str, **more: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "namespace": "dagster", "labels": more.pop("labels", {})},
        "spec": {
            "nodeName": where,
            "containers": [{"resources": {"requests": {"cpu": cpu, "memory": memory}}}],
            **more.pop("spec", {}),
        },
        "status": {"phase": more.pop("phase", "Running")},
    }


def state(**parts: Any) -> ClusterState:
    whole = {"nodes": (), "pods": (), "quotas": (), "limit_ranges": (), **parts}
    return ClusterState(namespace="dagster", deployment="mine", provider="cluster", **whole)


def room(pool: NodePool = POOL, worker_bytes: int = 0, **parts: Any) -> tuple[int, int, int, int]:
    found = room_of(pool, state(**parts), worker_bytes=worker_bytes)
    total, largest = found.total, found.largest
    return (total.cpu_millis, total.memory_bytes, largest.cpu_millis, largest.memory_bytes)


@pytest.mark.parametrize(
    ("written", "amount"),
    [("100m", "0.1"), ("2", "2"), ("1.5", "1.5"), ("16Gi", str(16 * GIB)), ("1k", "1000"),
     ("1e3", "1000"), ("128974848", "128974848"), (3, "3"), ("0", "0"), ("5M", "5000000"),
     ("250u", "0.00025")],
)  # fmt: skip
def test_quantities(written: object, amount: str) -> None:
    assert str(parse_quantity(written).normalize()) == str(parse_quantity(amount).normalize())


@pytest.mark.parametrize("written", ["", "Gi", "1Zi", "one"])
def test_what_is_no_quantity(written: str) -> None:
    with pytest.raises(ValueError, match="not a Kubernetes quantity"):
        parse_quantity(written)


def test_other_peoples_pods_take_room_where_they_are_bound() -> None:
    nodes = [node("a"), node("b")]
    pods = [
        pod("a", "1500m", "4Gi"),
        pod(None, "3", "8Gi"),  # pending: bound to no node yet
        pod("b", "4", "16Gi", phase="Succeeded"),
        pod("b", "1", "1Gi", labels=OWN),  # the ledger counts its lease
        pod("b", "500m", "1Gi", labels={**OWN, DEPLOYMENT_LABEL: "another's"}),
    ]
    assert room(nodes=nodes, pods=pods) == (6000, 27 * GIB, 3500, 15 * GIB)


def test_a_node_in_two_pools_is_sold_once() -> None:
    other = NodePool(name="other", rates=RATES)
    own = pod("a", "1", "1Gi", labels=OWN)
    assert room(POOL, nodes=[node("a")], pods=[own])[0] == 4000
    assert room(other, nodes=[node("a")], pods=[own])[0] == 3000
    assert room(POOL, nodes=[node("a")], pods=[{**own, "metadata": {"name": "x"}}])[0] == 3000


def test_what_the_scheduler_counts_for_a_pod() -> None:
    init = [{"resources": {"requests": {"cpu": "3", "memory": "1Gi"}}}]
    overhead = {"cpu": "250m", "memory": "128Mi"}
    found = pod_requests(
        pod("a", "1", "2Gi", spec={"initContainers": init, "overhead": overhead}), ""
    )
    assert found == ResourceVector(cpu_millis=3250, memory_bytes=2 * GIB + 128 * 2**20)


def test_a_limit_is_a_request_where_none_is_written() -> None:
    limited = {"metadata": {}, "spec": {"containers": [{"resources": {"limits": {"cpu": "2"}}}]}}
    assert pod_requests(limited, "").cpu_millis == 2000


@pytest.mark.parametrize(
    "spec",
    [
        {"unschedulable": True},
        {"ready": "False"},
        {"ready": "Unknown"},
        {"taints": [{"key": "dedicated", "value": "db", "effect": "NoSchedule"}]},
        {"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]},
    ],
)
def test_nodes_that_take_no_pods(spec: dict[str, Any]) -> None:
    assert room(nodes=[node("a", **spec)])[0] == 0


def test_taints_that_are_tolerated_or_mild() -> None:
    taints = [
        {"key": "spot", "value": "yes", "effect": "NoSchedule"},
        {"key": "busy", "effect": "PreferNoSchedule"},
    ]
    tolerations = ({"key": "spot", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},)
    pool = NodePool(name="spot", rates=RATES, tolerations=tolerations)
    assert room(pool, nodes=[node("a", taints=taints)])[0] == 4000
    exists = NodePool(name="spot", rates=RATES, tolerations=({"operator": "Exists"},))
    assert room(exists, nodes=[node("a", taints=taints)])[0] == 4000
    assert room(POOL, nodes=[node("a", taints=taints)])[0] == 0


def test_a_pool_has_only_its_selectors_nodes() -> None:
    pool = NodePool(name="big", rates=RATES, node_selector={"size": "big"})
    nodes = [node("a", labels={"size": "big"}), node("b", labels={"size": "small"})]
    assert room(pool, nodes=nodes)[0] == 4000


def test_each_workers_own_memory_is_held_back() -> None:
    assert room(worker_bytes=GIB, nodes=[node("a", cpu="2500m")])[1] == 13 * GIB


def test_a_quota_bounds_what_is_left_but_for_the_markets_own() -> None:
    quota = {
        "spec": {"hard": {"requests.cpu": "3", "limits.memory": "8Gi", "pods": "9"}},
        "status": {
            "hard": {"requests.cpu": "3", "limits.memory": "8Gi", "pods": "9"},
            "used": {"requests.cpu": "2", "limits.memory": "6Gi"},
        },
    }
    own = pod("a", "1", "2Gi", labels=OWN)
    assert room(nodes=[node("a")], quotas=[quota], pods=[own]) == (2000, 4 * GIB, 2000, 4 * GIB)


def test_a_limit_range_bounds_one_pod() -> None:
    limits = {"spec": {"limits": [{"type": "Container", "max": {"memory": "2Gi"}}]}}
    assert room(nodes=[node("a")], limit_ranges=[limits]) == (4000, 16 * GIB, 4000, 2 * GIB)


def test_a_quota_on_cpu_limits_wants_them_written() -> None:
    assert needs_cpu_limit(state(quotas=[{"spec": {"hard": {"limits.cpu": "4"}}}]))
    assert not needs_cpu_limit(state(quotas=[{"spec": {"hard": {"requests.cpu": "4"}}}]))


def test_what_an_autoscaler_can_add() -> None:
    size = ResourceVector(cpu_millis=8000, memory_bytes=32 * GIB)
    pool = NodePool(name="auto", rates=RATES, autoscale=Autoscale(max_nodes=3, size=size))
    found = room_of(pool, state(nodes=[node("a")]), worker_bytes=0)
    assert found.total == ResourceVector(cpu_millis=20_000, memory_bytes=80 * GIB)
    assert found.largest == size
    assert found.waits_for_a_node(found.largest)
    full = room_of(pool, state(nodes=[node(n) for n in "abc"]), worker_bytes=0)
    assert full.total.cpu_millis == 12_000
    assert not full.waits_for_a_node(full.largest)


def test_gpus_are_counted_by_the_plugins_name() -> None:
    pool = NodePool(name="gpu", rates=RATES, gpu_type="A100")
    found = room_of(pool, state(nodes=[node("a", more={"nvidia.com/gpu": "2"})]), worker_bytes=0)
    assert found.total.gpu_count == found.largest.gpu_count == 2


def quota(hard: str, *, used: str) -> dict[str, Any]:
    return {"spec": {"hard": {"cpu": hard}}, "status": {"used": {"cpu": used}}}


@pytest.mark.parametrize(
    ("cores", "spec", "parts", "holds"),
    [
        (4, {}, {"pods": [pod("a", "3", "1Gi")]}, True),
        (5, {}, {}, False),
        (4, {"unschedulable": True}, {}, True),
        (4, {"ready": "False"}, {}, True),
        (4, {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]}, {}, True),
        (4, {"taints": [{"key": "dedicated", "effect": "NoSchedule"}]}, {}, False),
        (4, {}, {"quotas": [quota("4", used="4")]}, True),
        (4, {}, {"quotas": [quota("3", used="0")]}, False),
    ],
)
def test_what_could_be_held_once_others_have_ended(
    cores: int, spec: dict[str, Any], parts: dict[str, Any], holds: bool
) -> None:
    size = ResourceVector(cpu_millis=1000 * cores, memory_bytes=GIB)
    seen = state(nodes=[node("a", **spec)], **parts)
    assert could_hold(POOL, seen, size, worker_bytes=0) is holds


def test_what_an_autoscaler_could_add_can_be_held() -> None:
    size = ResourceVector(cpu_millis=8000, memory_bytes=GIB)
    large = Autoscale(max_nodes=1, size=ResourceVector(cpu_millis=8000, memory_bytes=4 * GIB))
    growing = NodePool(name="general", rates=RATES, autoscale=large)
    seen = state(nodes=[node("a")])
    assert could_hold(growing, seen, size, worker_bytes=GIB // 4)
    assert not could_hold(growing, seen, size, worker_bytes=GIB)
