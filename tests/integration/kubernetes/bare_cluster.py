"""deploy/standalone.yaml on a cluster that has no registry, no DNS, no proxy and no provisioner.

What differs from what a user applies, each difference in one function:

- ``_with_image``: the image is an empty one that mounts this machine's folders, unless
  CU_MARKET_TEST_BUILT_IMAGE names one that deploy/Dockerfile has made and the node has;
- ``_with_names``: there being no DNS, names of services stand in each pod's hosts file. They are
  the node's address, so the two servers that are connected to use its network, at ports free there;
- ``_with_server``: PostgreSQL's image cannot be had: this machine's binaries and user stand in;
- ``make_volumes``: volumes that a storage class would provide.

walkthrough.pod_context gives pods the API server's address and certificate.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import stock_chart
import walkthrough
import yaml
from kubernetes_cluster import KubernetesCluster
from postgres_server import find_binaries, free_port, unprivileged

Json = dict[str, Any]
BUILT = "CU_MARKET_TEST_BUILT_IMAGE"
SERVERS = {"dagster-postgresql": "5432", "dagster-user-code": "4000"}
START = """
if ! test -s "$PGDATA/PG_VERSION"; then
    printf %s "$POSTGRES_PASSWORD" > /tmp/password
    initdb --pgdata "$PGDATA" --username "$POSTGRES_USER" --encoding UTF8 --locale C.UTF-8 \
        --auth scram-sha-256 --pwfile /tmp/password
    rm /tmp/password
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    echo "CREATE DATABASE $POSTGRES_DB" | postgres --single -D "$PGDATA" postgres
fi
postgres -D "$PGDATA" -p PORT -c listen_addresses='*' -c unix_socket_directories= &
trap 'kill -INT $!' TERM
wait $!
wait $!
"""
"""As PostgreSQL's image does; its stop signal is SIGINT, since SIGTERM would await its clients."""


class BareCluster:
    """Manifests and volumes of one installation, for the cluster at hand.

    Attributes:
        ports: where the node listens for each service.
    """

    def __init__(self, cluster: KubernetesCluster) -> None:
        self._cluster = cluster
        self._empty_image = os.environ["CU_MARKET_TEST_IMAGE"]
        self._image = os.environ.get(BUILT, self._empty_image)
        self._mounts = _with_hosts_file_first(walkthrough.pod_context(cluster))
        self._context = _without_folders(self._mounts) if BUILT in os.environ else self._mounts
        self.ports = {name: str(free_port(cluster.host_address)) for name in SERVERS}
        self._aliases = {"ip": cluster.host_address, "hostnames": sorted(SERVERS)}

    def adapt(self, manifests: Path) -> None:
        """Rewrites a file of manifests."""
        text = manifests.read_text().replace(walkthrough.REGISTRY_IMAGE, self._image)
        for name, port in SERVERS.items():
            assert port in text, f"nothing listens on {port} there"
            text = text.replace(port, self.ports[name])
        documents = list(yaml.safe_load_all(text))
        for document in documents:
            if document["kind"] in ("Deployment", "StatefulSet"):
                name, spec = document["metadata"]["name"], document["spec"]["template"]["spec"]
                is_server = document["kind"] == "StatefulSet"
                _with_image(spec, self._mounts if is_server else self._context)
                self._with_names(name, spec)
                if is_server:
                    self._with_server(name, spec)
        manifests.write_text(yaml.safe_dump_all(documents))

    def _with_names(self, name: str, spec: Json) -> None:
        spec["hostNetwork"] = name in SERVERS
        spec["hostAliases"] = [self._aliases]
        if name == "dagster-user-code":  # what it tells of itself reaches run workers and steps
            aliases = {"pod_spec_config": {"host_aliases": [self._aliases]}}
            context = {"k8s": {**self._context, "run_k8s_config": aliases}}
            (container,) = spec["containers"]
            told = {"name": "DAGSTER_CONTAINER_CONTEXT", "value": json.dumps(context)}
            container["env"].append(told)

    def _with_server(self, name: str, spec: Json) -> None:
        binaries, user = find_binaries(), unprivileged()
        (container,) = spec["containers"]
        container["image"] = self._empty_image
        container["command"] = ["bash", "-euc", START.replace("PORT", self.ports[name])]
        container["env"].append({"name": "PATH", "value": f"{binaries}:/usr/bin:/bin"})
        uid, gid = user.get("user", os.getuid()), user.get("group", os.getgid())
        spec["securityContext"] = {"runAsUser": uid, "runAsGroup": gid}
        # initdb wants to know what its user is called.
        spec["volumes"].append({"name": "users", "hostPath": {"path": "/etc/passwd"}})
        container["volumeMounts"].append({"name": "users", "mountPath": "/etc/passwd"})

    def make_volumes(self, folder: Path) -> None:
        """Makes what the claims ask for, in a folder of this machine."""
        for claim, owner in (
            ("data-dagster-postgresql-0", unprivileged()),
            ("dagster-storage", {}),
        ):
            path = folder / claim
            path.mkdir()
            if owner:
                os.chown(path, owner["user"], owner["group"])
            spec = {
                "capacity": {"storage": "5Gi"},
                "accessModes": ["ReadWriteOnce"],
                "claimRef": {"namespace": walkthrough.NAMESPACE, "name": claim},
                "hostPath": {"path": str(path)},
            }
            body = {"metadata": {"name": f"cu-test-{claim}"}, "spec": spec}
            self._cluster.api.create("/api/v1/persistentvolumes", body)

    def remove_volumes(self) -> None:
        """Removes them from the cluster; the folders stay."""
        for claim in ("data-dagster-postgresql-0", "dagster-storage"):
            path = f"/api/v1/persistentvolumes/cu-test-{claim}"
            self._cluster.api.delete(path, grace_seconds=0)


def _with_image(spec: Json, context: Json) -> None:
    volumes = [stock_chart.pod_volume(volume) for volume in context["volumes"]]
    spec["volumes"] = [*spec.get("volumes", ()), *volumes]
    for container in _containers(spec):
        container.setdefault("volumeMounts", []).extend(
            {"name": m["name"], "mountPath": m["mount_path"]} for m in context["volume_mounts"]
        )
        container.setdefault("env", []).extend(stock_chart.pod_variables(context))


def _without_folders(context: Json) -> Json:
    """Returns a context whose pods have of this machine only what reaches its API server."""
    kept = {"credentials"}
    return {
        "image_pull_policy": "Never",
        "volumes": [v for v in context["volumes"] if v["name"] in kept],
        "volume_mounts": [m for m in context["volume_mounts"] if m["name"] in kept],
        "env_vars": [v for v in context["env_vars"] if not v.startswith("PATH=")],
    }


def _with_hosts_file_first(context: Json) -> Json:
    """Returns a context whose pods ask their hosts file before a DNS that there is not."""
    path = "/etc/nsswitch.conf"
    volume = {"name": "names", "host_path": {"path": path}}
    mount = {"name": "names", "mount_path": path}
    return {
        **context,
        "volumes": [*context["volumes"], volume],
        "volume_mounts": [*context["volume_mounts"], mount],
        # gRPC's own resolver waits for a DNS even so; the system's does not.
        "env_vars": [*context["env_vars"], "GRPC_DNS_RESOLVER=native"],
    }


def _containers(spec: Mapping[str, Any]) -> Iterator[Json]:
    yield from spec.get("initContainers", ())
    yield from spec["containers"]
