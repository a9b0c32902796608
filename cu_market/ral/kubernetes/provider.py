"""The provider ``kubernetes``: a cluster's node pools, sold by the asked size."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Self

from cu_market.domain.allocation import Allocation
from cu_market.domain.bid import Bid
from cu_market.domain.problem import require
from cu_market.domain.profile import CUProfile, ResourcePool
from cu_market.domain.request import ResourceRequest
from cu_market.domain.units import usd_to_microusd
from cu_market.ral.kubernetes.ahead import PodsAhead, described, fit_of_manifest, new_token
from cu_market.ral.kubernetes.api import SERVICE_ACCOUNT, ClusterApi, ClusterError, Json
from cu_market.ral.kubernetes.cluster import Cluster
from cu_market.ral.kubernetes.config import ChannelKind, KubernetesConfig, read_config
from cu_market.ral.kubernetes.endings import end_of
from cu_market.ral.kubernetes.mirror import Mirror
from cu_market.ral.kubernetes.pod_terms import PodTerms
from cu_market.ral.kubernetes.pods import (
    RUN_LABEL,
    STARTER_LABEL,
    TAGS,
    build_pod,
    carrier_of,
    is_adoptable,
    pod_name,
    starter_label,
    token_of,
)
from cu_market.ral.kubernetes.pool import NodePool
from cu_market.ral.kubernetes.room import DEPLOYMENT_LABEL, PROVIDER_LABEL, Room
from cu_market.ral.kubernetes.routes import CarriedRoute, ExecRoute, Route
from cu_market.ral.kubernetes.warm_pod import WarmPod
from cu_market.ral.provider import (
    Capabilities,
    EndKind,
    HolderStatus,
    Standby,
    StepLimits,
    WorkerEnd,
    WorkerLaunch,
)

_SCHEME = "pod:"


class KubernetesProvider:
    """Sells one capacity for each node pool, each under one profile.

    Attributes:
        name: first part of its cu_ids and capacity_ids.
        capabilities: a pod takes one step at a time, and further ones while it is kept.
    """

    def __init__(self, name: str, config: KubernetesConfig, api: ClusterApi) -> None:
        self.name = name
        self.capabilities = Capabilities(
            relay=True,
            warm=config.keep,
            limits=True,
            reap=True,
            elastic=True,
            exclusive=True,
            tags=TAGS,
            idle_seconds=config.idle_seconds,
            adoptable_seconds=config.disconnect_seconds,
            # Whoever looks after a pod that stands by has exec alone to do so.
            ahead=config.channel is ChannelKind.EXEC,
            carried=config.channel is ChannelKind.DATABASE,
        )
        self._config = config
        self._api = api
        self._cluster = Cluster(api, config, name)
        self._pools = {f"{name}/{pool.name}": pool.record() for pool in config.pools}
        self._mirrors: dict[str, Mirror] = {}
        self._lock = threading.Lock()
        self._owner: tuple[Mapping[str, Any] | None] | None = None
        self._ahead = PodsAhead(
            api,
            self._pods_path,
            python=config.python,
            disconnect_seconds=config.disconnect_seconds,
        )

    @classmethod
    def from_config(cls, name: str, config: Mapping[str, object]) -> Self:
        """Returns the provider that a configuration describes; see KubernetesConfig.

        Nothing is asked of the cluster yet.

        Raises:
            InvalidInputError: every problem in the configuration.
        """
        read = read_config(name, config)
        return cls(name, read, ClusterApi(read.context, read.kubeconfig_path()))

    def close(self) -> None:
        """Ends its watches; those of pods that are still being ended go on until they are."""
        self._cluster.close()
        with self._lock:
            for mirror in self._mirrors.values():
                mirror.stop()
            self._mirrors.clear()

    # -- what it sells

    def pool(self) -> ResourcePool:
        """Returns a profile for each node pool that has room at all.

        Raises:
            ClusterError: the cluster does not answer, or forbids to look.
        """
        rooms = self._rooms()
        return ResourcePool(
            profiles=tuple(
                self._profile(cu_id, room)
                for cu_id, room in rooms.items()
                if room.largest.cpu_millis and room.largest.memory_bytes
            ),
            capacities={cu_id: room.total for cu_id, room in rooms.items()},
        )

    def bid(self, requests: Sequence[ResourceRequest], now: datetime) -> Sequence[Bid]:
        """Returns an elastic bid for each node pool in which one of the requests has room.

        Raises:
            ClusterError: as pool.
        """
        return [
            Bid(
                bid_id=profile.cu_id,
                profile=profile,
                price_microusd_per_hour=profile.price_microusd_per_hour,
                rates=self._pools[profile.cu_id].rates,
            )
            for profile in self.pool().profiles
            if any(_can_serve(profile, request) for request in requests)
        ]

    def could_serve(self, request: ResourceRequest) -> bool:
        """Returns whether a pool may have room for it once other pods have ended."""
        return any(
            request.gpu_type in (None, pool.gpu_type)
            and self._cluster.could_hold(pool, request.needs)
            for pool in self._pools.values()
        )

    def describe(self) -> Mapping[str, str]:
        """Returns what bounds each node pool's room, in words."""
        return {cu_id: room.words for cu_id, room in self._rooms().items()}

    def notice(self, now: datetime) -> str:
        """Returns that the cluster does not answer and is being tried again, or nothing."""
        return self._cluster.backing_off()

    def _rooms(self) -> Mapping[str, Room]:
        state = self._cluster.state()
        return {cu_id: self._cluster.room(pool, state) for cu_id, pool in self._pools.items()}

    def _profile(self, cu_id: str, room: Room) -> CUProfile:
        pool = self._pools[cu_id]
        startup_ms = pool.startup_ms
        if room.is_waiting_for_nodes and pool.autoscale is not None:
            startup_ms += pool.autoscale.startup_ms
        size = room.largest
        return CUProfile(
            cu_id=cu_id,
            provider=self.name,
            location=self._config.location or self.name,
            capacity_id=cu_id,
            cpu_millis=size.cpu_millis,
            memory_bytes=size.memory_bytes,
            gpu_type=pool.gpu_type,
            gpu_count=size.gpu_count,
            network_bandwidth_mbps=self._config.network_mbps,
            egress_microusd_per_gb=usd_to_microusd(self._config.egress_usd_per_gb),
            price_microusd_per_hour=pool.rates.price_microusd_per_hour(size),
            startup_ms=startup_ms,
            interruption_millis_per_hour=pool.interruption_millis_per_hour,
        )

    # -- what it runs

    def worker_key(self, allocation: Allocation) -> str:
        """Returns the node pool: a kept pod takes steps that fit it."""
        return allocation.resource_id

    def limits(self, allocation: Allocation) -> StepLimits:
        """Returns the leased size; the pod's own memory limit leaves the worker's on top."""
        return StepLimits(
            cpu_millis=allocation.size.cpu_millis, memory_bytes=allocation.size.memory_bytes
        )

    def start(self, launch: WorkerLaunch) -> WarmPod:
        """Makes a pod, in the background.

        Raises:
            InvalidInputError: the pod cannot be described (no image, an unreadable tag) or reached
                (no carrier).
        """
        token = new_token()
        manifest = self._manifest(launch, token)
        return WarmPod(
            self._holder_of(launch),
            manifest,
            token,
            route=self._route(launch, manifest, token, 0),
            api=self._api,
            pods=self._mirror(starter_label(launch.starter)),
            terms=self._terms(launch),
            refine=self._refine,
            is_told=launch.is_adoptable,
        )

    def fit(self, launch: WorkerLaunch) -> str:
        """Returns what tells pods apart beside their size.

        Raises:
            InvalidInputError: as start.
        """
        return fit_of_manifest(self._manifest(described(launch), ""))

    def start_ahead(self, launch: WorkerLaunch) -> str:
        """Makes a pod that nobody is connected to; returns its holder.

        Raises:
            InvalidInputError: as start.
            ClusterError: refused, or the cluster does not answer.
        """
        self._ahead.create(self._manifest(launch, new_token()))
        return self._holder_of(launch)

    def look_after(self, holder: str) -> Standby:
        """Returns how a pod that was made ahead gets on: ready when its container runs.

        Raises:
            ClusterError: the cluster does not answer.
        """
        name = self._pod_of(holder)
        return Standby.GONE if name is None else self._ahead.look_after(name)

    def take_over(self, holder: str, launch: WorkerLaunch) -> WarmPod:
        """Returns the pod, which may not run yet, as the run's own.

        Raises:
            ClusterError: it has gone, or this process may not change it.
        """
        name = self._pod_of(holder)
        if name is None:
            raise ClusterError(f"{holder!r} is no pod of provider {self.name!r}")
        pod, token = self._ahead.take_over(name, launch, self._owner_for(launch))
        return self._follow(holder, pod, token, launch, is_told=launch.is_adoptable)

    def _manifest(self, launch: WorkerLaunch, token: str) -> dict[str, Any]:
        assert launch.allocation is not None
        return build_pod(
            launch,
            self._config,
            self._pools[launch.allocation.resource_id],
            provider=self.name,
            token=token,
            is_cpu_limited=self._config.cpu_limit or self._cluster.needs_cpu_limit(),
            owner=self._owner_for(launch),
        )

    def _owner_for(self, launch: WorkerLaunch) -> Mapping[str, Any] | None:
        """Returns what a pod is to go with: not its run worker's pod, where it may outlive it."""
        return None if launch.is_adoptable else self._find_owner()

    def adopt(self, holder: str, launch: WorkerLaunch) -> WarmPod | None:
        """Returns a pod of this run and code, to be reached anew, or None; see Adopting.

        Raises:
            ClusterError: the cluster does not answer, or forbids to look.
        """
        name = self._pod_of(holder)
        if name is None or launch.allocation is None:
            return None
        pool = self._pools.get(launch.allocation.resource_id)
        pod = self._read_pod(name)
        if pod is None or pool is None or end_of(pod, is_gone=False):
            return None
        if not pod["spec"].get("nodeName"):
            return None  # it waits for room; one that has a node may run before its status says so
        token = token_of(pod)
        if token is None or not is_adoptable(pod, launch, self._config.deployment):
            return None
        if self._config.channel is ChannelKind.DATABASE and carrier_of(pod) is None:
            return None  # made before the setting was: exec alone leads there
        return self._follow(holder, pod, token, launch, is_told=True)

    def _follow(
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

    def _read_pod(self, name: str) -> Json | None:
        try:
            return self._api.get(f"{self._pods_path}/{name}")
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    def _holder_of(self, launch: WorkerLaunch) -> str:
        assert launch.allocation is not None
        return f"{_SCHEME}{self.name}/{self._config.namespace}/{pod_name(launch.allocation)}"

    def _terms(self, launch: WorkerLaunch) -> PodTerms:
        assert launch.allocation is not None
        pool = self._pools[launch.allocation.resource_id]
        return PodTerms(
            pending_seconds=self._config.pending_seconds + self._node_seconds(pool),
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
            f"provider {self.name!r}: channel",
            self._config.channel.value,
            "nobody carries it: whoever starts this worker has no ledger in a database",
            "start it by a run, `cu-market check` or `cu-market provider test`",
        )
        assert launch.carrier is not None
        return CarriedRoute(launch.carrier, token=token, run_id=launch.run_id, epoch=epoch)

    @staticmethod
    def _node_seconds(pool: NodePool) -> float:
        return pool.autoscale.startup_ms / 1000 if pool.autoscale else 0.0

    def _mirror(self, starter: str) -> Mirror:
        """Returns a mirror of what the process has started for which that label stands."""
        with self._lock:
            if starter not in self._mirrors:
                selector = f"{STARTER_LABEL}={starter}"
                self._mirrors[starter] = Mirror(
                    self._api, self._pods_path, {"labelSelector": selector}, remembers=True
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

    def _find_owner(self) -> Mapping[str, Any] | None:
        """Returns a reference to the pod this runs in: with it, Kubernetes removes ours."""
        if self._owner is None:
            self._owner = (self._read_owner(),)
        return self._owner[0]

    def _read_owner(self) -> Mapping[str, Any] | None:
        if not self._api.is_in_cluster:
            return None
        with open(f"{SERVICE_ACCOUNT}/namespace", encoding="utf-8") as file:
            namespace = file.read().strip()
        name = os.environ.get("HOSTNAME", "")
        if namespace != self._config.namespace:
            return None  # an owner of another namespace would have ours removed at once
        try:
            pod = self._api.get(f"/api/v1/namespaces/{namespace}/pods/{name}")
        except ClusterError:
            return None  # hostNetwork, or a name of its own: the reaper finds ours by label
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": name,
            "uid": pod["metadata"]["uid"],
        }

    # -- what it has left

    @property
    def _pods_path(self) -> str:
        return f"/api/v1/namespaces/{self._config.namespace}/pods"

    def check(self, holder: str) -> HolderStatus:
        """Returns whether that pod still lives; UNKNOWN if it is not this provider's."""
        name = self._pod_of(holder)
        if name is None:
            return HolderStatus.UNKNOWN
        try:
            pod = self._read_pod(name)
        except ClusterError:
            return HolderStatus.UNKNOWN
        if pod is None:
            return HolderStatus.ENDED
        has_ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        return HolderStatus.ENDED if has_ended else HolderStatus.RUNNING

    def stop(self, holder: str) -> None:
        """Deletes that pod, without grace."""
        name = self._pod_of(holder)
        if name is not None:
            self._api.delete(f"{self._pods_path}/{name}", grace_seconds=0)

    def reap(self, holders: Sequence[str]) -> Sequence[str]:
        """Deletes those pods, and all that those processes have started.

        Args:
            holders: of pods, and of run workers: a pod without a lease is found by its starter.
        """
        ended = []
        for holder in holders:
            name = self._pod_of(holder)
            if name is not None:
                found = self._api.delete(f"{self._pods_path}/{name}", grace_seconds=0)
            elif not holder.startswith(_SCHEME):
                found = self._delete_selected(f"{STARTER_LABEL}={starter_label(holder)}") > 0
            else:
                found = False
            if found:
                ended.append(holder)
        return ended

    def reap_run(self, run_id: str, spared: Sequence[str] = ()) -> int:
        """Deletes every pod of a run that this provider made but those; returns how many."""
        own = f"{RUN_LABEL}={run_id},{PROVIDER_LABEL}={self.name}"
        return self._delete_selected(own, [self._pod_of(holder) for holder in spared])

    def _delete_selected(self, selector: str, spared: Sequence[str | None] = ()) -> int:
        own = f"{selector},{DEPLOYMENT_LABEL}={self._config.deployment}"
        found = self._api.get(self._pods_path, labelSelector=own).get("items") or ()
        names = [pod["metadata"]["name"] for pod in found]
        doomed = [name for name in names if name not in spared]
        for name in doomed:
            self._api.delete(f"{self._pods_path}/{name}", grace_seconds=0)
        return len(doomed)

    def _pod_of(self, holder: str) -> str | None:
        head = f"{_SCHEME}{self.name}/{self._config.namespace}/"
        return holder.removeprefix(head) if holder.startswith(head) else None


def _can_serve(profile: CUProfile, request: ResourceRequest) -> bool:
    """Whether one pod could hold the request. Prices and places are the market's to judge."""
    if request.gpu_type is not None and request.gpu_type != profile.gpu_type:
        return False
    return request.needs.fits_in(profile.size)
