"""How much of a cluster is free for the market, from nodes, pods, quotas and limit ranges.

Free is what its scheduler would still place: allocatable, less the requests of bound pods that have
not ended. A pool's own pods are left out: the ledger counts their leases. Those of another pool, or
of another provider of the same cluster, count like anybody's, so that a node in two pools is sold
once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from typing import Any

from cu_market.domain.resources import ResourceVector
from cu_market.ral.kubernetes.api import Json
from cu_market.ral.kubernetes.pool import NodePool

_SUFFIXES: Mapping[str, Decimal] = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("0.001"),
    "k": Decimal(10**3),
    "M": Decimal(10**6),
    "G": Decimal(10**9),
    "T": Decimal(10**12),
    "P": Decimal(10**15),
    "E": Decimal(10**18),
    **{f"{prefix}i": Decimal(1024 ** (power + 1)) for power, prefix in enumerate("KMGTPE")},
}
_HARD_TAINTS = frozenset({"NoSchedule", "NoExecute"})
_PASSING_TAINTS = frozenset(
    f"node.kubernetes.io/{name}"
    for name in (
        "unschedulable",
        "not-ready",
        "unreachable",
        "memory-pressure",
        "disk-pressure",
        "pid-pressure",
        "network-unavailable",
    )
)
"""Which Kubernetes itself sets and takes away."""


def parse_quantity(written: object) -> Decimal:
    """Returns an amount as Kubernetes writes it: ``100m``, ``16Gi``, ``2``, ``1e3``.

    Raises:
        ValueError: not an amount.
    """
    text = str(written).strip()
    suffix = next((s for s in ("Ki", "Mi", "Gi", "Ti", "Pi", "Ei") if text.endswith(s)), text[-1:])
    factor = _SUFFIXES.get(suffix)
    try:
        amount = Decimal(text.removesuffix(suffix)) * factor if factor else Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"not a Kubernetes quantity: {text!r}") from error
    return amount


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A node pool's room.

    Attributes:
        total: sum over its nodes, for the market: what other pods leave.
        largest: the most that one node has of it, dimension by dimension.
        nodes: what each node has that takes pods now.
        added: what a node has that an autoscaler may add; None where none may be.
        words: what bounds it, for a person.
    """

    total: ResourceVector
    largest: ResourceVector
    nodes: tuple[ResourceVector, ...]
    added: ResourceVector | None = None
    words: str = ""

    def holds(self, size: ResourceVector) -> bool:
        """Whether a pod of that size has room on a node, or on one that may be added."""
        added = () if self.added is None else (self.added,)
        return size.fits_in(self.largest) and any(size.fits_in(n) for n in (*self.nodes, *added))

    def waits_for_a_node(self, size: ResourceVector) -> bool:
        """Whether the nodes that are there have less than that size, and one may be added."""
        there = ResourceVector()
        for node in self.nodes:
            there = there.largest(node)
        return self.added is not None and not size.fits_in(there)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterState:
    """What the API says, as raw objects.

    Attributes:
        nodes: all.
        pods: of all namespaces, or of those that may be read.
        quotas: ResourceQuotas of the provider's namespace.
        limit_ranges: LimitRanges of it.
        namespace: the provider's.
        deployment, provider: values of the labels that mark the provider's own pods.
    """

    nodes: Sequence[Json]
    pods: Sequence[Json]
    quotas: Sequence[Json]
    limit_ranges: Sequence[Json]
    namespace: str
    deployment: str
    provider: str

    def is_own(self, pod: Json, pool: NodePool) -> bool:
        """Whether a pod is the provider's, in that pool."""
        labels = pod["metadata"].get("labels") or {}
        wanted = {
            DEPLOYMENT_LABEL: self.deployment,
            PROVIDER_LABEL: self.provider,
            POOL_LABEL: pool.name,
        }
        return all(labels.get(name) == value for name, value in wanted.items())


DEPLOYMENT_LABEL = "cu-market/deployment"
PROVIDER_LABEL = "cu-market/provider"
POOL_LABEL = "cu-market/pool"


def room_of(pool: NodePool, state: ClusterState, *, worker_bytes: int) -> Room:
    """Returns a pool's room.

    Args:
        pool: which nodes, and what an autoscaler may add.
        state: the cluster's.
        worker_bytes: what a warm worker takes beside each step; one a core is held back.
    """
    taken = _taken_by_node(state, pool)
    free = [
        _less_workers(_allocatable(node, pool).minus(taken[node["metadata"]["name"]]), worker_bytes)
        for node in state.nodes
        if takes_pods(node, pool)
    ]
    total, largest, words = ResourceVector(), ResourceVector(), f"{len(free)} node(s)"
    for size in free:
        total, largest = total + size, largest.largest(size)
    added = None
    if pool.autoscale is not None and len(free) < pool.autoscale.max_nodes:
        missing = pool.autoscale.max_nodes - len(free)
        added = _less_workers(pool.autoscale.size, worker_bytes)
        total += added.times(missing)
        largest = largest.largest(added)
        words += f", {missing} more can be added"
    quota = _quota_left(state, pool)
    if quota is not None and not total.fits_in(quota):
        total, words = _smaller(total, quota), f"{words}, bounded by a resource quota"
    bound = _container_maximum(state.limit_ranges, pool.gpu_resource)
    largest = _smaller(_smaller(largest, total), bound)
    return Room(total=total, largest=largest, nodes=tuple(free), added=added, words=words)


def could_hold(
    pool: NodePool, state: ClusterState, size: ResourceVector, *, worker_bytes: int
) -> bool:
    """Whether a pod of that size would fit where no pod of others and no closed node is in its way.

    Quotas and limit ranges count with all that they ever allow.
    """
    nodes = [_allocatable(node, pool) for node in state.nodes if _is_of(node, pool)]
    if pool.autoscale is not None:
        nodes.append(pool.autoscale.size)
    bound = _container_maximum(state.limit_ranges, pool.gpu_resource)
    empty = _quota_left(replace(state, pods=(), quotas=[_unused(q) for q in state.quotas]), pool)
    if empty is not None:
        bound = _smaller(bound, empty)
    return size.fits_in(bound) and any(
        size.fits_in(_less_workers(node, worker_bytes)) for node in nodes
    )


def _unused(quota: Json) -> Json:
    return {**quota, "status": {**(quota.get("status") or {}), "used": {}}}


def takes_pods(node: Json, pool: NodePool) -> bool:
    """Whether a pod of this pool would be placed on that node."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    is_ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    is_closed = (node.get("spec") or {}).get("unschedulable")
    return is_ready and not is_closed and _is_of(node, pool, passing=frozenset())


def _is_of(node: Json, pool: NodePool, passing: frozenset[str] = _PASSING_TAINTS) -> bool:
    """Whether a node is one of the pool's, but for taints that come and go."""
    labels = node["metadata"].get("labels") or {}
    taints = [
        taint
        for taint in (node.get("spec") or {}).get("taints") or ()
        if taint.get("effect") in _HARD_TAINTS and taint.get("key") not in passing
    ]
    return all(labels.get(key) == value for key, value in pool.node_selector.items()) and all(
        any(_tolerates(t, taint) for t in pool.tolerations) for taint in taints
    )


def needs_cpu_limit(state: ClusterState) -> bool:
    """Whether a quota refuses pods without a CPU limit."""
    return any("limits.cpu" in _hard(quota) for quota in state.quotas)


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    effect, key = toleration.get("effect"), toleration.get("key")
    if effect and effect != taint.get("effect"):
        return False
    if toleration.get("operator") == "Exists":
        return not key or key == taint.get("key")
    return bool(
        key == taint.get("key") and (toleration.get("value") or "") == (taint.get("value") or "")
    )


def pod_requests(pod: Json, gpu_resource: str) -> ResourceVector:
    """Returns what the scheduler counts for a pod: the larger of its containers' sum and any init
    container, and its overhead."""
    spec = pod.get("spec") or {}
    total = _sum(_requests(c) for c in spec.get("containers") or ())
    for container in spec.get("initContainers") or ():
        wanted = _requests(container)
        total = {
            k: max(total.get(k, Decimal(0)), wanted.get(k, Decimal(0))) for k in total | wanted
        }
    return _vector(_sum([total, _amounts(spec.get("overhead"))]), gpu_resource)


def _taken_by_node(state: ClusterState, pool: NodePool) -> Mapping[str, ResourceVector]:
    taken: dict[str, ResourceVector] = defaultdict(ResourceVector)
    for pod in state.pods:
        node = (pod.get("spec") or {}).get("nodeName")
        if node and not state.is_own(pod, pool) and not _has_ended(pod):
            taken[node] = taken[node] + pod_requests(pod, pool.gpu_resource)
    return taken


def _has_ended(pod: Json) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def _allocatable(node: Json, pool: NodePool) -> ResourceVector:
    amounts = _amounts((node.get("status") or {}).get("allocatable"))
    return _vector(amounts, pool.gpu_resource, rounding=ROUND_FLOOR)


def _less_workers(size: ResourceVector, worker_bytes: int) -> ResourceVector:
    workers = -(-size.cpu_millis // 1000)
    return size.minus(ResourceVector(memory_bytes=workers * worker_bytes))


def _hard(quota: Json) -> Mapping[str, Any]:
    status: Mapping[str, Any] = (quota.get("status") or {}).get("hard") or {}
    return status or (quota.get("spec") or {}).get("hard") or {}


def _quota_left(state: ClusterState, pool: NodePool) -> ResourceVector | None:
    """Returns what the tightest quotas leave to the pool, or None where nothing is bounded."""
    own, gpu_resource = ResourceVector(), pool.gpu_resource
    for pod in state.pods:
        is_here = pod["metadata"].get("namespace") == state.namespace
        if is_here and state.is_own(pod, pool) and not _has_ended(pod):
            own += pod_requests(pod, gpu_resource)
    left: dict[str, int] = {}
    names = {
        "cpu": "cpu_millis",
        "memory": "memory_bytes",
        gpu_resource: "gpu_count",
    }
    for quota in state.quotas:
        if (quota.get("spec") or {}).get("scopes") or (quota.get("spec") or {}).get(
            "scopeSelector"
        ):
            continue  # of some pods only; the API's refusal tells when it is of ours
        used = (quota.get("status") or {}).get("used") or {}
        for written, hard in _hard(quota).items():
            name = names.get(written.removeprefix("requests.").removeprefix("limits."))
            if name is None:
                continue
            scale = 1000 if name == "cpu_millis" else 1
            free = parse_quantity(hard) - parse_quantity(used.get(written, 0))
            room = int((free * scale).to_integral_value(ROUND_FLOOR)) + getattr(own, name)
            left[name] = min(left.get(name, room), max(0, room))
    if not left:
        return None
    return ResourceVector(**{**_unbounded(), **left})


def _container_maximum(limit_ranges: Iterable[Json], gpu_resource: str) -> ResourceVector:
    bound = ResourceVector(**_unbounded())
    for limit_range in limit_ranges:
        for limit in (limit_range.get("spec") or {}).get("limits") or ():
            if limit.get("type") in ("Container", "Pod") and limit.get("max"):
                amounts = _amounts(limit["max"])
                stated = _vector(amounts, gpu_resource, rounding=ROUND_FLOOR)
                kept = {
                    name: value
                    for (name, value), written in zip(
                        stated.items(), ("cpu", "memory", gpu_resource), strict=True
                    )
                    if written in amounts
                }
                bound = _smaller(bound, ResourceVector(**{**_unbounded(), **kept}))
    return bound


def _unbounded() -> dict[str, int]:
    return {name: 2**62 for name, _ in ResourceVector().items()}


def _smaller(first: ResourceVector, second: ResourceVector) -> ResourceVector:
    return ResourceVector(**{n: min(v, getattr(second, n)) for n, v in first.items()})


def _requests(container: Mapping[str, Any]) -> dict[str, Decimal]:
    resources = container.get("resources") or {}
    return _amounts({**(resources.get("limits") or {}), **(resources.get("requests") or {})})


def _amounts(written: Mapping[str, Any] | None) -> dict[str, Decimal]:
    return {name: parse_quantity(value) for name, value in (written or {}).items()}


def _sum(amounts: Iterable[Mapping[str, Decimal]]) -> dict[str, Decimal]:
    total: dict[str, Decimal] = {}
    for each in amounts:
        for name, value in each.items():
            total[name] = total.get(name, Decimal(0)) + value
    return total


def _vector(
    amounts: Mapping[str, Decimal], gpu_resource: str, *, rounding: str = ROUND_CEILING
) -> ResourceVector:
    def whole(value: Decimal) -> int:
        return int(value.to_integral_value(rounding))

    return ResourceVector(
        cpu_millis=whole(amounts.get("cpu", Decimal(0)) * 1000),
        memory_bytes=whole(amounts.get("memory", Decimal(0))),
        gpu_count=whole(amounts.get(gpu_resource, Decimal(0))),
    )
