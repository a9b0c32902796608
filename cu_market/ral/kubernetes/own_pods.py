"""One provider's own pods: how holders name them, and how they are read and deleted."""

from __future__ import annotations

from collections.abc import Sequence

from cu_market.domain.allocation import Allocation
from cu_market.ral.kubernetes.api import ClusterApi, ClusterError, Json
from cu_market.ral.kubernetes.pods import pod_name
from cu_market.ral.kubernetes.room import DEPLOYMENT_LABEL

SCHEME = "pod:"
"""What every pod's holder begins with."""


class OwnPods:
    """The pods of one provider, in its namespace.

    Args:
        api: the cluster's.
        provider: its name.
        namespace: of the pods.
        deployment: which of the pods there are its own.

    Attributes:
        path: of the namespace's pods.
    """

    def __init__(self, api: ClusterApi, *, provider: str, namespace: str, deployment: str) -> None:
        self._api = api
        self._deployment = deployment
        self._head = f"{SCHEME}{provider}/{namespace}/"
        self.path = f"/api/v1/namespaces/{namespace}/pods"

    def holder_of(self, allocation: Allocation) -> str:
        """Returns the holder that an allocation's pod is."""
        return f"{self._head}{pod_name(allocation)}"

    def name_of(self, holder: str) -> str | None:
        """Returns the pod's name, or None where it is not this provider's."""
        return holder.removeprefix(self._head) if holder.startswith(self._head) else None

    def read(self, name: str) -> Json | None:
        """Returns a pod, or None where there is none.

        Raises:
            ClusterError: the cluster does not answer, or forbids to look.
        """
        try:
            return self._api.get(f"{self.path}/{name}")
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    def delete(self, name: str) -> bool:
        """Deletes a pod, without grace; returns whether there was one."""
        return self._api.delete(f"{self.path}/{name}", grace_seconds=0)

    def delete_selected(self, selector: str, spared: Sequence[str | None] = ()) -> int:
        """Deletes the deployment's pods that a selector picks, but for those; returns how many."""
        own = f"{selector},{DEPLOYMENT_LABEL}={self._deployment}"
        found = self._api.get(self.path, labelSelector=own).get("items") or ()
        names = [pod["metadata"]["name"] for pod in found]
        doomed = [name for name in names if name not in spared]
        for name in doomed:
            self.delete(name)
        return len(doomed)
