"""The rights of deploy/rbac.yaml suffice, and each of them is used: a run of everything, listed."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_cluster import KubernetesCluster, wait_for

from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.resources import ResourceVector
from cu_market.ral.kubernetes.api import ClusterApi, ClusterError
from cu_market.ral.kubernetes.provider import KubernetesProvider
from cu_market.ral.provider import HolderStatus, WorkerLaunch

pytestmark = [pytest.mark.timeout(200)]

RBAC = Path(__file__).parents[3] / "deploy" / "rbac.yaml"
ACCOUNT = "dagster"
GROUP = "/apis/rbac.authorization.k8s.io/v1"
ECHO = (
    "import os, socket\n"
    "s = socket.socket(fileno=int(os.environ['CU_MARKET_CHANNEL_FD']))\n"
    "while data := s.recv(65536): s.sendall(data)\n"
)
Right = tuple[str, str, str]
"""Scope (``namespace`` or ``cluster``), resource, verb."""


def granted(documents: list[dict[str, Any]]) -> set[Right]:
    scopes = {"Role": "namespace", "ClusterRole": "cluster"}
    return {
        (scopes[document["kind"]], resource, verb)
        for document in documents
        if document["kind"] in scopes
        for rule in document["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def right_of(method: str, path: str, query: dict[str, Any]) -> Right:
    """Returns the right that a call asks for, as the API server names it."""
    match = re.match(r"/api/v1(/namespaces/[^/]+)?/(\w+)(?:/([^/]+))?(?:/(\w+))?$", path)
    assert match is not None, path
    namespace, resource, name, part = match.groups()
    verbs = {"POST": "create", "DELETE": "delete", "PATCH": "patch"}
    verbs["GET"] = "get" if name else "list"
    verb = "watch" if "watch" in query else verbs[method]
    scope = "namespace" if namespace else "cluster"
    return scope, f"{resource}/{part}" if part else resource, verb


@pytest.fixture(scope="module")
def documents(cluster: KubernetesCluster) -> Iterator[list[dict[str, Any]]]:
    """The manifests, applied for an account of the tests' own namespace."""
    text = RBAC.read_text()
    found: list[dict[str, Any]] = list(yaml.safe_load_all(text))
    name = f"cu-market-room-{cluster.namespace}"
    space = f"/namespaces/{cluster.namespace}"
    cluster.api.create(f"/api/v1{space}/serviceaccounts", {"metadata": {"name": ACCOUNT}})
    for document in found:
        applied = json.loads(json.dumps(document))
        is_wide = document["kind"].startswith("Cluster")
        applied["metadata"] = {"name": name if is_wide else document["metadata"]["name"]}
        if "roleRef" in applied:
            applied["roleRef"]["name"] = applied["metadata"]["name"]
            applied["subjects"][0]["namespace"] = cluster.namespace
        kind = f"{document['kind'].lower()}s"
        cluster.api.create(f"{GROUP}{'' if is_wide else space}/{kind}", applied)
    yield found
    for kind in ("clusterroles", "clusterrolebindings"):
        cluster.api.delete(f"{GROUP}/{kind}/{name}", grace_seconds=0)


@pytest.fixture(scope="module")
def kubeconfig(
    cluster: KubernetesCluster,
    documents: list[dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A kubeconfig with the account's rights and no others."""
    space = f"/api/v1/namespaces/{cluster.namespace}"

    def token() -> str | None:
        for secret in cluster.api.get(f"{space}/secrets")["items"]:
            annotations = secret["metadata"].get("annotations") or {}
            if annotations.get("kubernetes.io/service-account.name") == ACCOUNT:
                return base64.b64decode(secret["data"]["token"]).decode()
        return None

    body = {
        "metadata": {
            "name": "token-of-the-tests",
            "annotations": {"kubernetes.io/service-account.name": ACCOUNT},
        },
        "type": "kubernetes.io/service-account-token",
    }
    cluster.api.create(f"{space}/secrets", body)  # newer clusters make none by themselves
    client = cluster.api.client().configuration
    server: dict[str, Any] = {"server": client.host}
    if client.ssl_ca_cert:
        server["certificate-authority"] = client.ssl_ca_cert
    else:
        server["insecure-skip-tls-verify"] = True
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": server}],
        "users": [{"name": "u", "user": {"token": wait_for(token, "the account's token")}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path = tmp_path_factory.mktemp("rights") / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> set[Right]:
    """The rights that have been asked for since."""
    rights: set[Right] = set()
    call, websocket = ClusterApi._call, ClusterApi.websocket

    def noted_call(self: Any, method: str, path: str, query: Any, *rest: Any, **more: Any) -> Any:
        rights.add(right_of(method, path, dict(query)))
        return call(self, method, path, query, *rest, **more)

    def noted_websocket(self: Any, path: str, query: Any) -> Any:
        rights.add(right_of("GET", path, {}))
        return websocket(self, path, query)

    monkeypatch.setattr(ClusterApi, "_call", noted_call)
    monkeypatch.setattr(ClusterApi, "websocket", noted_websocket)
    return rights


def launch(step_key: str) -> WorkerLaunch:
    allocation = Allocation(
        run_id="rights",
        step_key=step_key,
        attempt=1,
        state=AllocationState.LEASED,
        auction_id="a",
        bid_id="cluster/general",
        provider="cluster",
        resource_id="cluster/general",
        capacity_id="cluster/general",
        size=ResourceVector(cpu_millis=100, memory_bytes=64 * 2**20),
        price_microusd_per_hour=1,
        expected_ms=1,
        awarded_at=datetime.now(UTC),
    )
    return WorkerLaunch(
        run_id="rights",
        worker_key="cluster/general",
        arguments=("-c", ECHO),
        allocation=allocation,
        starter="tests/1/2",
    )


def test_what_is_used_is_what_is_granted(
    cluster: KubernetesCluster,
    documents: list[dict[str, Any]],
    kubeconfig: Path,
    used: set[Right],
) -> None:
    options = cluster.options(kubeconfig=str(kubeconfig))
    options.pop("kind")
    provider = KubernetesProvider.from_config("cluster", options)
    assert provider.pool().profiles
    for step_key in ("closed", "stopped", "reaped", "taken"):
        if step_key == "taken":
            holder = provider.start_ahead(launch("ahead"))
            worker = provider.take_over(holder, launch(step_key))
        else:
            worker = provider.start(launch(step_key))
        worker.send(b"hello")
        assert worker.receive() == b"hello"
        assert provider.check(worker.holder) is HolderStatus.RUNNING
        if step_key == "closed":
            worker.close()
        elif step_key == "stopped":
            provider.stop(worker.holder)
        else:
            assert provider.reap(["tests/1/2"]) == ["tests/1/2"]
        assert worker.join(30)
        wait_for(
            lambda holder=worker.holder: provider.check(holder) is HolderStatus.ENDED, "its end"
        )
        worker.close()
    # exec is a GET for WebSockets and a POST for SPDY, of which servers before 1.31 ask "create".
    assert used | {("namespace", "pods/exec", "create")} == granted(documents)


def test_a_missing_right_is_said_in_the_clusters_words(
    cluster: KubernetesCluster, kubeconfig: Path
) -> None:
    options = cluster.options(kubeconfig=str(kubeconfig), namespace="kube-system")
    options.pop("kind")
    provider = KubernetesProvider.from_config("cluster", options)
    with pytest.raises(ClusterError, match=r"forbidden.*resourcequotas|resourcequotas.*forbidden"):
        provider.pool()
