"""Pods are made for launches, and those that are there followed: manifest, route, mirror, terms."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cu_market.domain.problem import require
from cu_market.ral.kubernetes.api import ClusterApi, Json
from cu_market.ral.kubernetes.cluster import Cluster
from cu_market.ral.kubernetes.config import ChannelKind, KubernetesConfig
from cu_market.ral.kubernetes.mirror import Mirror
from cu_market.ral.kubernetes.own_pods import OwnPods
from cu_market.ral.kubernetes.owner import Owner
from cu_market.ral.kubernetes.pod_terms import PodTerms
from cu_market.ral.kubernetes.pods import STARTER_LABEL, build_pod, starter_label
from cu_market.ral.kubernetes.pool import NodePool
from cu_market.ral.kubernetes.routes import CarriedRoute, ExecRoute, Route
from cu_market.ral.kubernetes.warm_pod import WarmPod
from cu_market.ral.provider import EndKind, WorkerEnd, WorkerLaunch


def new_token() -> str:
    """Returns what opens a session."""
    return secrets.token_hex(16)


class PodMaker:
    """Makes one provider's pods.

    Args:
        provider: its name.
        config: its configuration.
        api: the cluster's.
        cluster: what is known of it.
        pools: by cu_id.
        pods: the provider's.
    """

    def __init__(
        self,
        provider: str,
        config: KubernetesConfig,
        *,
        api: ClusterApi,
        cluster: Cluster,
        pools: Mapping[str, NodePool],
        pods: OwnPods,
    ) -> None:
        self._provider = provider
        self._config = config
        self._api = api
        self._cluster = cluster
        self._pools = pools
        self._pods = pods
        self._owner = Owner(api, config.namespace)
        self._mirrors: dict[str, Mirror] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Ends its watches; those of pods that are still being ended go on until they are."""
        with self._lock:
            for mirror in self._mirrors.values():
                mirror.stop()
            self._mirrors.clear()

    def manifest(self, launch: WorkerLaunch, token: str) -> dict[str, Any]:
        """Returns the pod of a launch, whose session the token opens.

        Raises:
            InvalidInputError: it cannot be described (no image, an unreadable tag).
        """
        assert launch.allocation is not None
        return build_pod(
            launch,
            self._config,
            self._pools[launch.allocation.resource_id],
            provider=self._provider,
            token=token,
            is_cpu_limited=self._config.cpu_limit or self._cluster.needs_cpu_limit(),
            owner=self.owner_for(launch),
        )

    def owner_for(self, launch: WorkerLaunch) -> Mapping[str, Any] | None:
        """Returns what a pod is to go with: not its run worker's pod, where it may outlive it."""
        return None if launch.is_adoptable else self._owner.find()

    def make(self, launch: WorkerLaunch) -> WarmPod:
        """Makes a pod, in the background.

        Raises:
            InvalidInputError: as manifest; or nobody can reach it (no carrier).
        """
        assert launch.allocation is not None
        token = new_token()
        manifest = self.manifest(launch, token)
        return WarmPod(
            self._pods.holder_of(launch.allocation),
            manifest,
            token,
            route=self._route(launch, manifest, token, 0),
            api=self._api,
            pods=self._mirror(starter_label(launch.starter)),
            terms=self._terms(launch),
            refine=self._refine,
            is_told=launch.is_adoptable,
        )

    def follow(
        self, holder: str, pod: Json, token: str, launch: WorkerLaunch, *, is_told: bool
    ) -> WarmPod:
        """Returns a pod that is there, its session taken from whoever had it, if anybody had."""
        epoch = time.time_ns() // 1000  # the latest to take over wins, whatever still tries
        return WarmPod(
            holder,
            pod,
            token,
            route=self._route(launch, pod, token, epoch),
            api=self._api,
            pods=self._mirror(pod["metadata"]["labels"][STARTER_LABEL]),
            terms=self._terms(launch),
            refine=self._refine,
            is_told=is_told,
            epoch=epoch,
        )

    def _terms(self, launch: WorkerLaunch) -> PodTerms:
        assert launch.allocation is not None
        pool = self._pools[launch.allocation.resource_id]
        node_seconds = pool.autoscale.startup_ms / 1000 if pool.autoscale else 0.0
        return PodTerms(
            pending_seconds=self._config.pending_seconds + node_seconds,
            disconnect_seconds=self._config.disconnect_seconds,
        )

    def _route(
        self, launch: WorkerLaunch, manifest: Mapping[str, Any], token: str, epoch: int
    ) -> Route:
        if self._config.channel is ChannelKind.EXEC:
            return ExecRoute(
                self._api,
                namespace=self._config.namespace,
                pod=str(manifest["metadata"]["name"]),
                container=str(manifest["spec"]["containers"][0]["name"]),
                python=self._config.python,
                token=token,
            )
        require(
            launch.carrier is not None,
            f"provider {self._provider!r}: channel",
            self._config.channel.value,
            "nobody carries it: whoever starts this worker has no ledger in a database",
            "start it by a run, `cu-market check` or `cu-market provider test`",
        )
        assert launch.carrier is not None
        return CarriedRoute(launch.carrier, token=token, run_id=launch.run_id, epoch=epoch)

    def _mirror(self, starter: str) -> Mirror:
        """Returns a mirror of what the process has started for which that label stands."""
        with self._lock:
            if starter not in self._mirrors:
                selector = f"{STARTER_LABEL}={starter}"
                self._mirrors[starter] = Mirror(
                    self._api, self._pods.path, {"labelSelector": selector}, remembers=True
                )
            return self._mirrors[starter]

    def _refine(self, end: WorkerEnd, pod: Json | None) -> WorkerEnd:
        """Tells a drained node's pods, which look deleted by hand, from those that were."""
        if end.kind is not EndKind.DELETED or pod is None:
            return end
        node = (pod.get("spec") or {}).get("nodeName")
        words = self._cluster.node_trouble(node) if node else ""
        if not words:
            return end
        kind = EndKind.NODE_LOST if "not ready" in words else EndKind.EVICTED
        return replace(end, kind=kind, detail=f"{end.detail}; node {node} {words}")
