"""Instances of their own homes, and runs of the suite's jobs in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from dagster import DagsterInstance
from execution_record import Bench
from held_steps import HeldSteps
from kubernetes_cluster import INSECURE, KubernetesCluster, why_not
from postgres_server import PASSWORD, PASSWORD_VARIABLE, PostgresServer, postgres_storage
from unhurried import UNHURRIED

HOME_CONFIG = """
telemetry: {enabled: false}
"""


def _bench(home: Path, storage: str) -> Iterator[Bench]:
    (home / "dagster.yaml").write_text(HOME_CONFIG + storage)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        with DagsterInstance.get() as instance:
            yield Bench(instance, home)


@pytest.fixture(scope="session")
def step_cluster(request: pytest.FixtureRequest) -> Iterator[KubernetesCluster | None]:
    """The cluster in whose pods the steps run, or None: here."""
    if request.config.getoption("--steps") == "local":
        yield None
        return
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with closing(KubernetesCluster()) as cluster:
        yield cluster


@pytest.fixture
def held(tmp_path: Path, step_cluster: KubernetesCluster | None) -> HeldSteps:
    """The steps of the holding job, wherever they run."""
    return HeldSteps(folder=tmp_path, cluster=step_cluster)


@pytest.fixture(scope="session")
def new_deployment(
    request: pytest.FixtureRequest, step_cluster: KubernetesCluster | None
) -> Iterator[Callable[[], str]]:
    """Returns, called, what to add to a dagster.yaml: its storage, and who sells."""
    if step_cluster is None:
        new_storage = request.getfixturevalue("new_storage")
        launcher = {
            "module": "cu_market",
            "class": "MarketRunLauncher",
            "config": {"market": UNHURRIED},
        }
        yield lambda: f"{new_storage()}run_launcher: {json.dumps(launcher)}\n"
        return
    cluster = step_cluster
    with (
        PostgresServer(listen=("127.0.0.1", cluster.host_address)) as server,
        pytest.MonkeyPatch.context() as patch,
    ):
        server.host = cluster.host_address  # by which pods find it too
        patch.setenv(PASSWORD_VARIABLE, PASSWORD)
        channel = request.config.getoption("--channel")
        options = cluster.options(disconnect_seconds=20, channel=channel)
        options["config"]["env_vars"] = [PASSWORD_VARIABLE, "DAGSTER_HOME"]
        market = {**UNHURRIED, "providers": {"cluster": options}}
        launcher = {
            "module": "cu_market",
            "class": "MarketRunLauncher",
            "config": {"market": market},
        }
        yield (
            lambda: (
                postgres_storage(server, server.create_database())
                + f"run_launcher: {json.dumps(launcher)}\n"
            )
        )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With steps in pods, the suite is one of those that need a cluster."""
    if config.getoption("--steps") == "kubernetes":
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.kubernetes)
                item.add_marker(pytest.mark.filterwarnings(INSECURE))


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, new_deployment: Callable[[], str]
) -> Iterator[Bench]:
    """One instance for all tests of a module."""
    yield from _bench(tmp_path_factory.mktemp("home"), new_deployment())


@pytest.fixture
def bench(tmp_path: Path, new_deployment: Callable[[], str]) -> Iterator[Bench]:
    """An instance that nobody else has used."""
    home = tmp_path / "home"
    home.mkdir()
    yield from _bench(home, new_deployment())
