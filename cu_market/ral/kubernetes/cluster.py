"""A cluster's state as the market sees it: watched, cut down to what room is read from."""

from __future__ import annotations

import time

from cu_market.domain.resources import ResourceVector
from cu_market.ral.kubernetes.api import ClusterApi, ClusterError, Json
from cu_market.ral.kubernetes.config import KubernetesConfig
from cu_market.ral.kubernetes.mirror import Mirror
from cu_market.ral.kubernetes.pool import NodePool
from cu_market.ral.kubernetes.room import (
    ClusterState,
    Room,
    could_hold,
    needs_cpu_limit,
    room_of,
)

FIRST_ANSWER_SECONDS = 5.0
STALE_SECONDS = 60.0
"""What was last heard so long ago is no room to sell."""

UNENDED = "status.phase!=Succeeded,status.phase!=Failed"


class Cluster:
    """Watches nodes, pods, quotas and limit ranges from the first question on.

    Args:
        api: the cluster's.
        config: the provider's.
        provider: its name.
    """

    def __init__(self, api: ClusterApi, config: KubernetesConfig, provider: str) -> None:
        self._config = config
        self._provider = provider
        space = f"/api/v1/namespaces/{config.namespace}"
        self._nodes = Mirror(api, "/api/v1/nodes", keep=_slim_node)
        self._pods = Mirror(api, "/api/v1/pods", {"fieldSelector": UNENDED}, keep=_slim_pod)
        self._quotas = Mirror(api, f"{space}/resourcequotas")
        self._ranges = Mirror(api, f"{space}/limitranges")

    def state(self) -> ClusterState:
        """Returns the state as of the last word of each watch.

        Raises:
            ClusterError: one of them has none, or only an old one.
        """
        mirrors = (self._nodes, self._pods, self._quotas, self._ranges)
        for mirror in mirrors:
            mirror.start()  # all at once, before the first is waited for
        deadline = time.monotonic() + FIRST_ANSWER_SECONDS
        nodes, pods, quotas, ranges = (
            mirror.items(
                wait_seconds=max(0.0, deadline - time.monotonic()), stale_seconds=STALE_SECONDS
            )
            for mirror in mirrors
        )
        return ClusterState(
            nodes=nodes,
            pods=pods,
            quotas=quotas,
            limit_ranges=ranges,
            namespace=self._config.namespace,
            deployment=self._config.deployment,
            provider=self._provider,
        )

    def backing_off(self) -> str:
        """Returns why the cluster is being tried again, and how old is what is sold meanwhile."""
        mirrors = (self._nodes, self._pods, self._quotas, self._ranges)
        troubled = [(mirror, said) for mirror in mirrors if (said := mirror.backing_off())]
        if not troubled:
            return ""
        mirror, said = troubled[0]
        age = mirror.silence_seconds()
        return said if age is None else f"{said}; last heard {age:.0f} s ago"

    def close(self) -> None:
        """Ends the watches."""
        for mirror in (self._nodes, self._pods, self._quotas, self._ranges):
            mirror.stop()

    def room(self, pool: NodePool, state: ClusterState) -> Room:
        """Returns a node pool's room in that state."""
        return room_of(pool, state, worker_bytes=self._config.worker_memory)

    def could_hold(self, pool: NodePool, size: ResourceVector) -> bool:
        """Whether a pod of that size may have room in a pool later; True where it is silent."""
        try:
            state = self.state()
        except ClusterError:
            return True
        return could_hold(pool, state, size, worker_bytes=self._config.worker_memory)

    def needs_cpu_limit(self) -> bool:
        """Whether a quota refuses pods without a CPU limit; False where the cluster is silent."""
        try:
            return needs_cpu_limit(self.state())
        except ClusterError:
            return False

    def node_trouble(self, name: str) -> str:
        """Returns what is wrong with a node, or nothing."""
        try:
            nodes = self.state().nodes
        except ClusterError:
            return ""
        node = next((n for n in nodes if n["metadata"]["name"] == name), None)
        if node is None:
            return "is gone, so not ready"
        conditions = (node.get("status") or {}).get("conditions") or ()
        if not any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
            return "is not ready"
        return "is cordoned" if (node.get("spec") or {}).get("unschedulable") else ""


def _slim_node(node: Json) -> Json:
    status = node.get("status") or {}
    return {
        "metadata": {k: node["metadata"].get(k) for k in ("name", "labels")},
        "spec": {k: (node.get("spec") or {}).get(k) for k in ("taints", "unschedulable")},
        "status": {k: status.get(k) for k in ("allocatable", "conditions")},
    }


def _slim_pod(pod: Json) -> Json:
    spec = pod.get("spec") or {}

    def containers(key: str) -> list[Json]:
        return [{"resources": c.get("resources")} for c in spec.get(key) or ()]

    return {
        "metadata": {k: pod["metadata"].get(k) for k in ("name", "namespace", "labels")},
        "spec": {
            "nodeName": spec.get("nodeName"),
            "overhead": spec.get("overhead"),
            "containers": containers("containers"),
            "initContainers": containers("initContainers"),
        },
        "status": {"phase": (pod.get("status") or {}).get("phase")},
    }
