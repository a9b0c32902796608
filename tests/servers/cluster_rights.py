"""Accounts with the rights of deploy/rbac.yaml, and a list of the rights that are asked for."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_cluster import KubernetesCluster, wait_for

from cu_market.ral.kubernetes.api import ClusterApi

RBAC = Path(__file__).parents[2] / "deploy" / "rbac.yaml"
GROUP = "/apis/rbac.authorization.k8s.io/v1"

Right = tuple[str, str, str]
"""Scope (``namespace`` or ``cluster``), resource, verb."""

Documents = Sequence[dict[str, Any]]


def granted(documents: Documents) -> set[Right]:
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


def documents_without(resource: str = "") -> Documents:
    """Returns the manifests, a rule for one resource left out."""
    found: list[dict[str, Any]] = list(yaml.safe_load_all(RBAC.read_text()))
    for document in found:
        if "rules" in document:
            document["rules"] = [r for r in document["rules"] if r["resources"] != [resource]]
    return found


class Account:
    """A service account of the tests' own namespace, and what the manifests give it.

    Args:
        cluster: where.
        name: of the account, told apart from others in that namespace.
        documents: roles and bindings.
        kubeconfig: written: with the account's rights and no others.
    """

    def __init__(
        self, cluster: KubernetesCluster, name: str, documents: Documents, kubeconfig: Path
    ) -> None:
        self._cluster = cluster
        self._name = name
        self._wide = f"cu-market-room-{cluster.namespace}-{name}"
        self.documents = documents
        space = f"/namespaces/{cluster.namespace}"
        cluster.api.create(f"/api/v1{space}/serviceaccounts", {"metadata": {"name": name}})
        for document in documents:
            applied = json.loads(json.dumps(document))
            is_wide = document["kind"].startswith("Cluster")
            own = f"{document['metadata']['name']}-{name}"
            applied["metadata"] = {"name": self._wide if is_wide else own}
            if "roleRef" in applied:
                applied["roleRef"]["name"] = applied["metadata"]["name"]
                applied["subjects"][0].update(namespace=cluster.namespace, name=name)
            kind = f"{document['kind'].lower()}s"
            cluster.api.create(f"{GROUP}{'' if is_wide else space}/{kind}", applied)
        self.kubeconfig = kubeconfig
        self._write_kubeconfig()

    def close(self) -> None:
        """Removes what is not gone with the namespace."""
        for kind in ("clusterroles", "clusterrolebindings"):
            self._cluster.api.delete(f"{GROUP}/{kind}/{self._wide}", grace_seconds=0)

    def _write_kubeconfig(self) -> None:
        api = self._cluster.api
        space = f"/api/v1/namespaces/{self._cluster.namespace}"

        def token() -> str | None:
            for found in api.get(f"{space}/secrets")["items"]:
                annotations = found["metadata"].get("annotations") or {}
                is_its = annotations.get("kubernetes.io/service-account.name") == self._name
                if is_its and "token" in (found.get("data") or {}):
                    return base64.b64decode(found["data"]["token"]).decode()
            return None

        body = {
            "metadata": {
                "name": f"token-of-{self._name}",
                "annotations": {"kubernetes.io/service-account.name": self._name},
            },
            "type": "kubernetes.io/service-account-token",
        }
        api.create(f"{space}/secrets", body)  # newer clusters make none by themselves
        client = api.client().configuration
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
        self.kubeconfig.write_text(yaml.safe_dump(config))


def note_rights(monkeypatch: pytest.MonkeyPatch) -> set[Right]:
    """Returns the rights that are asked for from now on, added as they are."""
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
