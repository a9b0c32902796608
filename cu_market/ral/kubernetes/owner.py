"""The pod that this process runs in, which the pods that it makes go with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from cu_market.ral.kubernetes.api import SERVICE_ACCOUNT, ClusterApi, ClusterError


class Owner:
    """Looked for once.

    Args:
        api: the cluster's.
        namespace: of the pods that are made.
    """

    def __init__(self, api: ClusterApi, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._found: tuple[Mapping[str, Any] | None] | None = None

    def find(self) -> Mapping[str, Any] | None:
        """Returns a reference to the pod this runs in: with it, Kubernetes removes ours."""
        if self._found is None:
            self._found = (self._read(),)
        return self._found[0]

    def _read(self) -> Mapping[str, Any] | None:
        if not self._api.is_in_cluster:
            return None
        with open(f"{SERVICE_ACCOUNT}/namespace", encoding="utf-8") as file:
            namespace = file.read().strip()
        name = os.environ.get("HOSTNAME", "")
        if namespace != self._namespace:
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
