"""Deployments whose steps go to pods: a daemon, PostgreSQL, and a cluster that is already there."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterInstance
from kubernetes_cluster import INSECURE, KubernetesCluster, why_not
from pod_deployment import (
    SIGNALS_VARIABLE,
    Deployment,
    dagster_yaml,
    launcher_options,
    pod_options,
)
from postgres_server import PASSWORD, PASSWORD_VARIABLE, PostgresServer, find_binaries

from cu_market.dagster_compat.submission import open_workspace

HERE = Path(__file__).parent
STILL_RUNNING = "ignore:subprocess .* is still running:ResourceWarning"
"""Dagster leaves its code server to end by itself, once nobody asks it any more."""
JOBS = HERE / "pod_jobs.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.kubernetes)
            item.add_marker(pytest.mark.filterwarnings(INSECURE))
            item.add_marker(pytest.mark.filterwarnings(STILL_RUNNING))
            item.add_marker(pytest.mark.xdist_group("kubernetes"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[KubernetesCluster]:
    """A namespace of this session's own."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    found = KubernetesCluster()
    yield found
    found.close()


@pytest.fixture(scope="session")
def reachable_postgres(cluster: KubernetesCluster) -> Iterator[PostgresServer]:
    """A PostgreSQL that pods reach too."""
    if find_binaries() is None:
        pytest.skip("no PostgreSQL is installed here (Debian's package: postgresql)")
    with PostgresServer(listen=("127.0.0.1", cluster.host_address)) as server:
        yield server


@pytest.fixture(scope="module")
def deployment(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    cluster: KubernetesCluster,
    reachable_postgres: PostgresServer,
) -> Iterator[Deployment]:
    """A deployment that sells this machine and the cluster; PROVIDERS of the module refine it."""
    more: Mapping[str, Any] = getattr(request.module, "PROVIDERS", {})
    providers: dict[str, Any] = {"local": {"kind": "local"}}
    providers |= {name: pod_options(cluster, **{**o}) for name, o in more.items()}
    providers.setdefault("cluster", pod_options(cluster))
    home = tmp_path_factory.mktemp("home")
    (home / "signals").mkdir()
    has_pods = getattr(request.module, "RUN_WORKERS_IN_PODS", False)
    in_pods = launcher_options(cluster, home) if has_pods else None
    text = dagster_yaml(cluster, reachable_postgres, providers, in_pods)
    (home / "dagster.yaml").write_text(text)
    workspace = home / "workspace.yaml"
    workspace.write_text(
        f"load_from: [{{python_file: {{relative_path: {JOBS}, location_name: tests, "
        f"attribute: defs}}}}]\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        patch.setenv(PASSWORD_VARIABLE, PASSWORD)
        patch.setenv(SIGNALS_VARIABLE, str(home / "signals"))
        with (home / "daemon.log").open("w") as log:
            daemon = subprocess.Popen(
                [Path(sys.executable).with_name("dagster-daemon"), "run", "-w", str(workspace)],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            with (
                DagsterInstance.get() as instance,
                open_workspace(instance, str(workspace)) as opened,
            ):
                yield Deployment(instance, opened, home, cluster)
        finally:
            daemon.send_signal(signal.SIGINT)
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(daemon.pid, signal.SIGKILL)
                daemon.wait()
            gc.collect()  # here, where STILL_RUNNING holds; not when the session ends
