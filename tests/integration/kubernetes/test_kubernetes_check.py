"""`cu-market check` names what is wrong with a cluster, in the cluster's words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_cluster import KubernetesCluster
from postgres_server import PostgresServer, free_port

from cu_market.cli.checks.finding import Finding, Verdict
from cu_market.cli.checks.provider import Needs, check_provider
from cu_market.ral.registry import load_providers

pytestmark = [
    pytest.mark.timeout(200),
    # Dagster reads its config classes in a way that pydantic has deprecated.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]


def findings(options: Mapping[str, Any], storage: Path, **needs: Any) -> dict[str, Finding]:
    """Returns what is found of a provider, by what was tried."""
    (provider,) = load_providers({"cluster": dict(options)})
    return {f.check: f for f in check_provider(provider, Needs(storage=storage, **needs))}


def test_a_cluster_on_which_all_is_well(
    cluster: KubernetesCluster, reachable_postgres: PostgresServer, tmp_path: Path
) -> None:
    address = f"{cluster.host_address}:{reachable_postgres.port}"
    found = findings(cluster.options(), tmp_path, addresses=(address,), modules=("cu_market",))
    assert {f.verdict for f in found.values()} == {Verdict.OK}, found
    assert {"answers", "offers", "starts a worker", "versions", "database"} <= set(found)


def test_a_wrong_context(cluster: KubernetesCluster, tmp_path: Path) -> None:
    found = findings({**cluster.options(), "context": "no-such-context"}, tmp_path)
    assert found["answers"].verdict is Verdict.FAILED
    assert "no-such-context" in found["answers"].found


def test_a_missing_right(cluster: KubernetesCluster, tmp_path: Path) -> None:
    client = cluster.api.client().configuration
    server = {"server": client.host, "insecure-skip-tls-verify": True}
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": server}],
                "users": [{"name": "nobody", "user": {}}],
                "contexts": [{"name": "x", "context": {"cluster": "c", "user": "nobody"}}],
                "current-context": "x",
            }
        )
    )
    found = findings({**cluster.options(), "kubeconfig": str(kubeconfig)}, tmp_path)
    assert found["answers"].verdict is Verdict.FAILED
    assert "nodes" in found["answers"].found
    assert "forbidden" in found["answers"].found


def test_an_absent_image(cluster: KubernetesCluster, tmp_path: Path) -> None:
    options = {**cluster.options(), "image": "local/no-such-image:1", "pending_seconds": 30}
    found = findings(options, tmp_path)
    assert found["answers"].verdict is Verdict.OK
    assert found["starts a worker"].verdict is Verdict.FAILED
    assert "no-such-image" in found["starts a worker"].found


def test_a_database_that_pods_cannot_reach(cluster: KubernetesCluster, tmp_path: Path) -> None:
    address = f"{cluster.host_address}:{free_port()}"
    found = findings(cluster.options(), tmp_path, addresses=(address,))
    assert found["database"].verdict is not Verdict.OK
    assert address in found["database"].found
