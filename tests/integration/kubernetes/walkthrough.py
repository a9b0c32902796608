"""The commands of docs/kubernetes.md, executed as they stand; and what a test's cluster lacks.

A cluster whose node is this machine has no registry, no cluster DNS and no addresses of services,
and hands no certificate of its API server to pods. So docker is stood in for, pods mount this
machine's folders, and the API server's address and certificate are given to them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kubernetes_cluster import CHECKOUT, KubernetesCluster, wait_for

from cu_market.ral.kubernetes.api import SERVICE_ACCOUNT, ClusterError

REGISTRY_IMAGE = "registry.example.com/dagster-market:1"
NAMESPACE = "dagster"
DOCKER = '#!/bin/sh\n[ "$1" = push ] || test -f "$3"\n'
"""Stands in for docker: the image that the tests' pods run is there already."""


def commands(heading: str) -> list[str]:
    """Returns the lines of the first block of commands under a heading of the page."""
    text = (CHECKOUT / "docs" / "kubernetes.md").read_text()
    block = re.search(rf"^## {heading}\n.*?```sh\n(.*?)```", text, re.S | re.M)
    assert block is not None, heading
    return block[1].strip().splitlines()


def write_programs(folder: Path, programs: Mapping[str, str]) -> dict[str, str]:
    """Returns an environment in which these scripts come first."""
    folder.mkdir()
    for name, text in programs.items():
        program = folder / name
        program.write_text(text)
        program.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


def run_command(command: str, *, folder: Path, environment: Mapping[str, str]) -> str:
    """Returns what one of the page's commands has printed."""
    image = os.environ["CU_MARKET_TEST_IMAGE"]
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command.replace(REGISTRY_IMAGE, image)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def has_namespace(cluster: KubernetesCluster) -> bool:
    """Whether somebody's Dagster is there."""
    try:
        cluster.api.get(f"/api/v1/namespaces/{NAMESPACE}")
    except ClusterError as error:
        if error.status != 404:
            raise
        return False
    return True


def pod_context(cluster: KubernetesCluster) -> dict[str, Any]:
    """Returns, in Dagster's keys, what makes this machine's folders the image of a pod.

    Expects the secret of make_credentials.
    """
    api = cluster.api.client().configuration
    address, port = str(api.host).removeprefix("https://").split(":")
    context = dict(cluster.options()["config"])
    secret = {"name": "credentials", "secret": {"secret_name": "credentials"}}
    mount = {"name": "credentials", "mount_path": SERVICE_ACCOUNT}
    context["volumes"] = [*context["volumes"], secret]
    context["volume_mounts"] = [*context["volume_mounts"], mount]
    context["env_vars"] = [
        f"PATH={Path(sys.executable).parent}:/usr/bin:/bin",
        f"KUBERNETES_SERVICE_HOST={address}",
        f"KUBERNETES_SERVICE_PORT={port}",
        "OMP_NUM_THREADS=1",
    ]
    return context


def make_credentials(cluster: KubernetesCluster) -> None:
    """Makes the secret that pods of account ``dagster`` find where a cluster would put a token."""
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets"

    def token() -> dict[str, str] | None:
        for secret in cluster.api.get(path)["items"]:
            notes = secret["metadata"].get("annotations") or {}
            if notes.get("kubernetes.io/service-account.name") == "dagster":
                return dict(secret["data"])
        return None

    data = wait_for(token, "the account's token")
    body = {"metadata": {"name": "credentials"}, "data": data}
    certificate = _certificates(str(cluster.api.client().configuration.host))
    body["stringData"] = {"ca.crt": certificate, "namespace": NAMESPACE}
    cluster.api.create(path, body)


def remove_all(cluster: KubernetesCluster) -> None:
    """Removes the namespace, and what deploy/rbac.yaml makes outside of it."""
    for kind in ("clusterroles", "clusterrolebindings"):
        group = "/apis/rbac.authorization.k8s.io/v1"
        cluster.api.delete(f"{group}/{kind}/cu-market-room", grace_seconds=0)
    cluster.api.delete(f"/api/v1/namespaces/{NAMESPACE}", grace_seconds=0)


def _certificates(server: str) -> str:
    """Returns what the API server's certificate is signed by, as the cluster would hand to pods."""
    address = server.removeprefix("https://")
    shown = subprocess.run(
        ["openssl", "s_client", "-showcerts", "-connect", address],
        input="",
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.findall(r"-----BEGIN.*?-----END CERTIFICATE-----", shown.stdout, re.S)
    return "\n".join(found)
