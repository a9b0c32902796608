"""Deployments whose steps go to pods: a daemon, PostgreSQL, and a cluster that is already there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from daemon import running_daemon, serve_file
from kubernetes_cluster import INSECURE, KubernetesCluster, why_not
from pod_deployment import (
    SIGNALS_VARIABLE,
    Deployment,
    dagster_yaml,
    launcher_options,
    ledger_reference,
    pod_options,
)
from postgres_server import PASSWORD, PASSWORD_VARIABLE, PostgresServer, find_binaries

HERE = Path(__file__).parent
JOBS = HERE / "pod_jobs.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.kubernetes)
            item.add_marker(pytest.mark.filterwarnings(INSECURE))
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


@pytest.fixture
def pod_ledger(
    cluster: KubernetesCluster,
    reachable_postgres: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> dict[str, Any]:
    """A ledger that pods reach, named as a dagster.yaml names it."""
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    return ledger_reference(cluster, reachable_postgres)


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
    serve_file(home, JOBS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PASSWORD_VARIABLE, PASSWORD)
        patch.setenv(SIGNALS_VARIABLE, str(home / "signals"))
        with running_daemon(home) as (instance, opened):
            yield Deployment(instance, opened, home, cluster)
