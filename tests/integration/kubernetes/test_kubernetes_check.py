"""`cu-market check` names what is wrong with a cluster, in the cluster's words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_cluster import KubernetesCluster
from postgres_server import PASSWORD_VARIABLE, PostgresServer, free_port

from cu_market.cli.checks.deployment import SKEW_SECONDS
from cu_market.cli.checks.finding import Finding, Verdict
from cu_market.cli.checks.provider import Needs, check_provider
from cu_market.cli.checks.run import check_home
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


def test_all_is_well_where_exec_is_not_used(
    cluster: KubernetesCluster,
    reachable_postgres: PostgresServer,
    pod_ledger: dict[str, Any],
    tmp_path: Path,
) -> None:
    options = cluster.options(channel="database")
    options["config"]["env_vars"] = [PASSWORD_VARIABLE]
    home = tmp_path / "home"
    home.mkdir()
    market = {"providers": {"cluster": options}}
    launcher = {"module": "cu_market", "class": "MarketRunLauncher", "config": {"market": market}}
    config = {"storage": {"postgres": pod_ledger}, "run_launcher": launcher}
    (home / "dagster.yaml").write_text(json.dumps({"telemetry": {"enabled": False}, **config}))
    found = {
        f.check: f for f in check_home(home, None, timeout_seconds=120) if f.subject == "cluster"
    }
    assert found["starts a worker"].verdict is Verdict.OK, found
    assert found["credentials"].verdict is Verdict.OK, found


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


def shadowing(cluster: KubernetesCluster, name: str, files: Mapping[str, str]) -> dict[str, Any]:
    """Returns options with which a pod's Python finds these files before all others."""
    keys = {path: f"file-{n}" for n, path in enumerate(files)}
    cluster.api.create(
        f"/api/v1/namespaces/{cluster.namespace}/configmaps",
        {"metadata": {"name": name}, "data": {keys[path]: text for path, text in files.items()}},
    )
    options = cluster.options()
    config = dict(options["config"])
    items = [{"key": key, "path": path} for path, key in keys.items()]
    volume = {"name": name, "config_map": {"name": name, "items": items}}
    config["volumes"] = [*config.get("volumes", ()), volume]
    mount = {"name": name, "mount_path": f"/opt/{name}"}
    config["volume_mounts"] = [*config.get("volume_mounts", ()), mount]
    config["env_vars"] = [f"PYTHONPATH=/opt/{name}"]
    return {**options, "config": config, "working_directory": f"/opt/{name}"}


def test_another_version_of_the_code(
    cluster: KubernetesCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "the_users_code.py").write_text("ANSWER = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    files = {
        "the_users_code.py": "ANSWER = 41\n",
        "cu_market-0.0.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: cu-market\n"
        "Version: 0.0.1\n",
    }
    options = shadowing(cluster, "another-version", files)
    found = findings(options, tmp_path, modules=("the_users_code",))
    assert found["starts a worker"].verdict is Verdict.OK
    assert found["versions"].verdict is Verdict.FAILED
    assert "cu-market 0.0.1, here " in found["versions"].found
    assert found["code"].verdict is Verdict.FAILED
    assert "the_users_code there is " in found["code"].found
    assert "another version" in found["code"].found


def test_a_clock_that_is_90_seconds_off(cluster: KubernetesCluster, tmp_path: Path) -> None:
    ahead = (
        "import time\n"
        "now, now_ns = time.time, time.time_ns\n"
        "time.time = lambda: now() + 90\n"
        "time.time_ns = lambda: now_ns() + 90 * 10**9\n"
    )
    found = findings(shadowing(cluster, "clock", {"sitecustomize.py": ahead}), tmp_path)
    assert found["clock"].verdict is Verdict.FAILED
    seconds = float(found["clock"].found.split(" is ")[1].split(" s ")[0])
    assert abs(seconds - 90) < SKEW_SECONDS
    assert found["clock"].found.endswith("ahead")
