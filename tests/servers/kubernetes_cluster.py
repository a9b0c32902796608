"""A cluster that somebody has started, and what the tests need of it.

KUBECONFIG names the cluster. How its pods get this project's code:

- CU_MARKET_TEST_IMAGE names an image that has the project installed, or
- CU_MARKET_TEST_HOST_PATHS=1 says that its node is this machine: the pods then mount the system's
  folders, the interpreter's and this checkout, and run in CU_MARKET_TEST_IMAGE, an empty image.

Servers on this machine are reached from pods at the node's own address.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cu_market.ral.kubernetes.api import ClusterApi, ClusterError

CHECKOUT = Path(__file__).resolve().parents[2]
INSECURE = "ignore:Unverified HTTPS request"
"""For filterwarnings: a test cluster's certificate is its own."""


def why_not() -> str | None:
    """Returns why there is no cluster to test on, or None."""
    if not os.environ.get("KUBECONFIG"):
        return "KUBECONFIG is not set: no cluster to test on"
    if not os.environ.get("CU_MARKET_TEST_IMAGE"):
        return "CU_MARKET_TEST_IMAGE is not set: the image of the tests' pods"
    return None


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    """Returns the first true value of a condition.

    Raises:
        AssertionError: there was none in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


class KubernetesCluster:
    """A namespace of its own in the cluster, gone with close.

    Attributes:
        api: the cluster's.
        namespace: of these tests.
    """

    def __init__(self) -> None:
        self.api = ClusterApi()
        self.namespace = f"cu-test-{secrets.token_hex(4)}"
        self.api.create("/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        wait_for(self._has_service_account, "the namespace's service account")

    @property
    def host_address(self) -> str:
        """Where pods reach this machine."""
        node = self.api.get("/api/v1/nodes")["items"][0]
        return next(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")

    def options(self, **more: Any) -> dict[str, Any]:
        """Returns a kubernetes provider's configuration for this namespace."""
        return {
            "kind": "kubernetes",
            "namespace": self.namespace,
            "image": os.environ["CU_MARKET_TEST_IMAGE"],
            "location": "this machine",
            "pools": [{"name": "general", "core_usd_per_hour": 0.01, "gb_usd_per_hour": 0.001}],
            "config": self._mounts(),
            **(
                {"python": sys.executable, "working_directory": str(CHECKOUT)} if _is_host() else {}
            ),
            **more,
        }

    def pods(self, selector: str = "") -> Sequence[Mapping[str, Any]]:
        """Returns the namespace's pods."""
        query = {"labelSelector": selector} if selector else {}
        found: Sequence[Mapping[str, Any]] = self.api.get(self.path, **query)["items"]
        return found

    def config_map(self, name: str = "dagster-instance") -> str:
        """Makes the instance's config map that dagster-k8s mounts, empty; returns its name."""
        path = f"/api/v1/namespaces/{self.namespace}/configmaps"
        body = {"metadata": {"name": name}, "data": {"dagster.yaml": "{}"}}
        try:
            self.api.create(path, body)
        except ClusterError as error:
            if error.reason != "AlreadyExists":
                raise
        return name

    @property
    def path(self) -> str:
        """Of the namespace's pods."""
        return f"/api/v1/namespaces/{self.namespace}/pods"

    def close(self) -> None:
        """Removes the namespace and all that is in it."""
        for pod in self.pods():
            self.api.delete(f"{self.path}/{pod['metadata']['name']}", grace_seconds=0)
        self.api.delete(f"/api/v1/namespaces/{self.namespace}", grace_seconds=0)

    def _has_service_account(self) -> bool:
        try:
            self.api.get(f"/api/v1/namespaces/{self.namespace}/serviceaccounts/default")
        except ClusterError as error:
            if error.status != 404:
                raise
            return False
        return True

    @staticmethod
    def _mounts() -> dict[str, Any]:
        if not _is_host():
            return {}
        interpreter = Path(sys.executable).resolve().parents[1]
        folders = {"/usr": "/usr", "/lib": "/usr/lib", "/lib64": "/usr/lib64", "/tmp": "/tmp"}
        folders |= {str(path): str(path) for path in (interpreter, CHECKOUT)}
        pairs = [(f"host-{n}", there, here) for n, (there, here) in enumerate(folders.items())]
        return {
            "image_pull_policy": "Never",
            "volumes": [{"name": n, "host_path": {"path": here}} for n, _, here in pairs],
            "volume_mounts": [{"name": n, "mount_path": there} for n, there, _ in pairs],
        }


def _is_host() -> bool:
    return os.environ.get("CU_MARKET_TEST_HOST_PATHS") == "1"
