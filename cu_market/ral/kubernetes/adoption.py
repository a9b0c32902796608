"""Pods that outlive their run worker are adopted by the one that follows."""

from __future__ import annotations

from collections.abc import Collection

from cu_market.ral.kubernetes.api import Json
from cu_market.ral.kubernetes.config import ChannelKind, KubernetesConfig
from cu_market.ral.kubernetes.endings import end_of
from cu_market.ral.kubernetes.making import PodMaker
from cu_market.ral.kubernetes.own_pods import OwnPods
from cu_market.ral.kubernetes.pods import carrier_of, is_adoptable, token_of
from cu_market.ral.kubernetes.warm_pod import WarmPod
from cu_market.ral.provider import WorkerLaunch


class Adoption:
    """Has run workers adopt one provider's pods.

    Args:
        config: the provider's.
        pods: the provider's.
        maker: reaches them anew.
        pools: cu_ids that are sold now.
    """

    def __init__(
        self, config: KubernetesConfig, *, pods: OwnPods, maker: PodMaker, pools: Collection[str]
    ) -> None:
        self._config = config
        self._pods = pods
        self._maker = maker
        self._pools = pools

    def adopt(self, holder: str, launch: WorkerLaunch) -> WarmPod | None:
        """Returns a pod of this run and code, to be reached anew, or None; see Adopting.

        Raises:
            ClusterError: the cluster does not answer, or forbids to look.
        """
        name = self._pods.name_of(holder)
        if name is None or launch.allocation is None:
            return None
        pod = self._pods.read(name)
        if pod is None or launch.allocation.resource_id not in self._pools:
            return None
        token = self._token_to(pod, launch)
        if token is None:
            return None
        return self._maker.follow(holder, pod, token, launch, is_told=True)

    def _token_to(self, pod: Json, launch: WorkerLaunch) -> str | None:
        """Returns what opens the pod's session, or None where it is not to be adopted."""
        if end_of(pod, is_gone=False):
            return None
        if not pod["spec"].get("nodeName"):
            return None  # it waits for room; one that has a node may run before its status says so
        token = token_of(pod)
        if token is None or not is_adoptable(pod, launch, self._config.deployment):
            return None
        if self._config.channel is ChannelKind.DATABASE and carrier_of(pod) is None:
            return None  # made before the setting was: exec alone leads there
        return token
