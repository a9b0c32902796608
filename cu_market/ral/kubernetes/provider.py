"""The provider ``kubernetes``: a cluster's node pools, sold by the asked size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Self

from cu_market.domain.allocation import Allocation
from cu_market.domain.bid import Bid, Rates, offered_until
from cu_market.domain.profile import CUProfile, ResourcePool
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import usd_to_microusd
from cu_market.ral.kubernetes.adoption import Adoption
from cu_market.ral.kubernetes.ahead import PodsAhead
from cu_market.ral.kubernetes.api import ClusterApi, ClusterError
from cu_market.ral.kubernetes.cluster import Cluster
from cu_market.ral.kubernetes.config import ChannelKind, KubernetesConfig, read_config
from cu_market.ral.kubernetes.making import PodMaker
from cu_market.ral.kubernetes.own_pods import SCHEME, OwnPods
from cu_market.ral.kubernetes.pods import RUN_LABEL, STARTER_LABEL, TAGS, starter_label
from cu_market.ral.kubernetes.pool import NodePool
from cu_market.ral.kubernetes.room import PROVIDER_LABEL, Room
from cu_market.ral.kubernetes.warm_pod import WarmPod
from cu_market.ral.provider import (
    Capabilities,
    HolderStatus,
    Standby,
    StepLimits,
    WorkerLaunch,
)


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
        self._cluster = Cluster(api, config, name)
        self._pools = {f"{name}/{pool.name}": pool.record() for pool in config.pools}
        self._own = OwnPods(
            api, provider=name, namespace=config.namespace, deployment=config.deployment
        )
        self._maker = PodMaker(
            name, config, api=api, cluster=self._cluster, pools=self._pools, pods=self._own
        )
        self._ahead = PodsAhead(api, name, config, pods=self._own, maker=self._maker)
        self._held: Mapping[str, ResourceVector] = {}
        self._adoption = Adoption(config, pods=self._own, maker=self._maker, pools=self._pools)

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
        self._maker.close()

    # -- what it sells

    def pool(self) -> ResourcePool:
        """Returns a profile for each node pool that has room at all.

        Raises:
            ClusterError: the cluster does not answer, or forbids to look.
        """
        rooms = self._rooms()
        return ResourcePool(
            profiles=tuple(profile for profile, _ in self._offers(rooms)),
            capacities={cu_id: room.total for cu_id, room in rooms.items()},
        )

    @property
    def observed(self) -> Sequence[str]:
        """The pools whose prices rise with their use."""
        return [cu_id for cu_id, pool in self._pools.items() if pool.congestion_permille]

    def observe(self, held: Mapping[str, ResourceVector]) -> None:
        """Takes what is leased of its pools now: congestion prices rise with it."""
        self._held = dict(held)

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
                rates=rates,
                valid_until=offered_until(now, self._config.offer_valid_seconds),
            )
            for profile, rates in self._offers(self._rooms())
            if any(_can_serve(profile, request) for request in requests)
        ]

    def could_serve(self, request: ResourceRequest) -> bool:
        """Returns whether a pool may have room for it once other pods have ended."""
        return any(
            request.gpu_type in (None, pool.gpu_type) and self._could_hold(pool, request.needs)
            for pool in self._pools.values()
        )

    def _could_hold(self, pool: NodePool, needs: ResourceVector) -> bool:
        if not pool.rates.classes:
            return self._cluster.could_hold(pool, needs)
        sold = pool.sold(lambda size: self._cluster.could_hold(pool, size))
        return any(needs.fits_in(size) for size in sold)

    def describe(self) -> Mapping[str, str]:
        """Returns what bounds each node pool's room, in words."""
        return {cu_id: room.words for cu_id, room in self._rooms().items()}

    def notice(self, now: datetime) -> str:
        """Returns that the cluster does not answer and is being tried again, or nothing."""
        return self._cluster.backing_off()

    def _rooms(self) -> Mapping[str, Room]:
        state = self._cluster.state()
        return {cu_id: self._cluster.room(pool, state) for cu_id, pool in self._pools.items()}

    def _offers(self, rooms: Mapping[str, Room]) -> list[tuple[CUProfile, Rates]]:
        """Returns what each pool that has room for a pod sells, and its prices now."""
        found = []
        for cu_id, room in rooms.items():
            pool = self._pools[cu_id]
            size, rates = room.largest, pool.rates
            if rates.classes:
                sold = pool.sold(room.holds)
                size = sold[-1] if sold else ResourceVector()
                rates = replace(rates, classes=sold)
            if size.cpu_millis and size.memory_bytes:
                held = self._held.get(cu_id, ResourceVector())
                rates = rates.raised(pool.congestion_permille, held.share_permille(room.total))
                found.append((self._profile(cu_id, room, size, rates), rates))
        return found

    def _profile(self, cu_id: str, room: Room, size: ResourceVector, rates: Rates) -> CUProfile:
        pool = self._pools[cu_id]
        startup_ms = pool.startup_ms
        if pool.autoscale is not None and room.waits_for_a_node(size):
            startup_ms += pool.autoscale.startup_ms
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
            price_microusd_per_hour=rates.price_microusd_per_hour(size),
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
        return self._maker.make(launch)

    def fit(self, launch: WorkerLaunch) -> str:
        """Returns what tells pods apart beside their size.

        Raises:
            InvalidInputError: as start.
        """
        return self._ahead.fit(launch)

    def start_ahead(self, launch: WorkerLaunch) -> str:
        """Makes a pod that nobody is connected to; returns its holder.

        Raises:
            InvalidInputError: as start.
            ClusterError: refused, or the cluster does not answer.
        """
        return self._ahead.start(launch)

    def look_after(self, holder: str) -> Standby:
        """Returns how a pod that was made ahead gets on: ready when its container runs.

        Raises:
            ClusterError: the cluster does not answer.
        """
        return self._ahead.look_after(holder)

    def take_over(self, holder: str, launch: WorkerLaunch) -> WarmPod:
        """Returns the pod, which may not run yet, as the run's own.

        Raises:
            ClusterError: it has gone, or this process may not change it.
        """
        return self._ahead.take_over(holder, launch)

    def adopt(self, holder: str, launch: WorkerLaunch) -> WarmPod | None:
        """Returns a pod of this run and code, to be reached anew, or None; see Adopting.

        Raises:
            ClusterError: the cluster does not answer, or forbids to look.
        """
        return self._adoption.adopt(holder, launch)

    # -- what it has left

    def check(self, holder: str) -> HolderStatus:
        """Returns whether that pod still lives; UNKNOWN if it is not this provider's."""
        name = self._own.name_of(holder)
        if name is None:
            return HolderStatus.UNKNOWN
        try:
            pod = self._own.read(name)
        except ClusterError:
            return HolderStatus.UNKNOWN
        if pod is None:
            return HolderStatus.ENDED
        has_ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        return HolderStatus.ENDED if has_ended else HolderStatus.RUNNING

    def stop(self, holder: str) -> None:
        """Deletes that pod, without grace."""
        name = self._own.name_of(holder)
        if name is not None:
            self._own.delete(name)

    def reap(self, holders: Sequence[str]) -> Sequence[str]:
        """Deletes those pods, and all that those processes have started.

        Args:
            holders: of pods, and of run workers: a pod without a lease is found by its starter.
        """
        ended = []
        for holder in holders:
            name = self._own.name_of(holder)
            if name is not None:
                found = self._own.delete(name)
            elif not holder.startswith(SCHEME):
                found = self._own.delete_selected(f"{STARTER_LABEL}={starter_label(holder)}") > 0
            else:
                found = False
            if found:
                ended.append(holder)
        return ended

    def reap_run(self, run_id: str, spared: Sequence[str] = ()) -> int:
        """Deletes every pod of a run that this provider made but those; returns how many."""
        own = f"{RUN_LABEL}={run_id},{PROVIDER_LABEL}={self.name}"
        return self._own.delete_selected(own, [self._own.name_of(holder) for holder in spared])


def _can_serve(profile: CUProfile, request: ResourceRequest) -> bool:
    """Whether one pod could hold the request. Prices and places are the market's to judge."""
    if request.gpu_type is not None and request.gpu_type != profile.gpu_type:
        return False
    return request.needs.fits_in(profile.size)
