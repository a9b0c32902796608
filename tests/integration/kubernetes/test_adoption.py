"""From a stock Dagster deployment to the first auctioned step, by the page's own commands."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stock_chart
import walkthrough
from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus
from kubernetes_cluster import CHECKOUT, KubernetesCluster, wait_for
from pod_deployment import Deployment
from postgres_server import PASSWORD, PostgresServer, free_port

from cu_market.domain.allocation import AllocationState

pytestmark = [pytest.mark.timeout(400)]


class Stock:
    """A namespace with Dagster as its chart installs it, without the market.

    Attributes:
        home: of an instance on the same storage, for the test to look.
        values: a folder with deploy/, its registry replaced by the tests' image.
    """

    def __init__(self, cluster: KubernetesCluster, server: PostgresServer, folder: Path) -> None:
        self._cluster = cluster
        self._folder = folder
        self._image = os.environ["CU_MARKET_TEST_IMAGE"]
        self._database = {
            "hostname": cluster.host_address,
            "port": server.port,
            "username": "postgres",
            "password": {"env": "DAGSTER_PG_PASSWORD"},
            "db_name": server.create_database(),
            "scheme": "postgresql+psycopg2",
        }
        self.home = folder / "home"
        self.home.mkdir()
        storage = {"postgres": {"postgres_db": self._database}}
        (self.home / "dagster.yaml").write_text(json.dumps({"storage": storage}))
        self.values = folder / "values"
        shutil.copytree(CHECKOUT / "deploy", self.values / "deploy")
        file = self.values / "deploy" / "values.yaml"
        repository, _, tag = self._image.rpartition(":")
        text = file.read_text().replace(walkthrough.REGISTRY_IMAGE.partition(":")[0], repository)
        file.write_text(text.replace('tag: "1"', f'tag: "{tag}"'))
        helm = f'#!/bin/sh\nexec {sys.executable} {stock_chart.__file__} "$@"\n'
        programs = {"docker": walkthrough.DOCKER, "helm": helm}
        self.environment = walkthrough.write_programs(folder / "bin", programs)
        self.environment[stock_chart.VARIABLE] = str(folder / "chart.json")

    def install(self) -> None:
        """Makes the namespace and what the chart renders with its own launcher."""
        api, name = self._cluster.api, stock_chart.NAMESPACE
        api.create("/api/v1/namespaces", {"metadata": {"name": name}})
        accounts = f"/api/v1/namespaces/{name}/serviceaccounts"
        api.create(accounts, {"metadata": {"name": "dagster"}})
        around = stock_chart.Surroundings(
            image=self._image,
            database=self._database,
            password=PASSWORD,
            address=self._cluster.host_address,
            port=free_port(),
            context=self._context(),
        )
        stock_chart.write_surroundings(self._folder / "chart.json", around)
        stock_chart.apply(stock_chart.STOCK_VALUES, around)

    def _context(self) -> dict[str, Any]:
        """Returns what pods need here, with a mounted volume that every step can reach."""
        walkthrough.make_credentials(self._cluster)
        shared = self._folder / "storage"
        shared.mkdir()
        context = walkthrough.pod_context(self._cluster)
        volume = {"name": "storage", "host_path": {"path": str(shared)}}
        mount = {"name": "storage", "mount_path": f"{stock_chart.HOME}/storage"}
        context["volumes"] = [*context["volumes"], volume]
        context["volume_mounts"] = [*context["volume_mounts"], mount]
        return context

    def run(self, command: str) -> str:
        """Returns what one of the page's commands has printed."""
        return walkthrough.run_command(command, folder=self.values, environment=self.environment)


@pytest.fixture
def stock(
    cluster: KubernetesCluster, reachable_postgres: PostgresServer, tmp_path: Path
) -> Iterator[Stock]:
    """Dagster as its chart installs it."""
    if os.environ.get("CU_MARKET_TEST_HOST_PATHS") != "1":
        pytest.skip("the cluster's node is another machine: install the chart itself there")
    wait_for(lambda: not walkthrough.has_namespace(cluster), "a cluster without Dagster", 120)
    made = Stock(cluster, reachable_postgres, tmp_path)
    try:
        made.install()
        yield made
    finally:
        walkthrough.remove_all(cluster)


def test_five_commands_lead_from_a_stock_deployment_to_an_auctioned_step(
    stock: Stock, cluster: KubernetesCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = walkthrough.commands("From a Helm release to the first auctioned step")
    assert len(lines) <= 5
    told = [stock.run(line) for line in lines]
    assert any("cluster/general" in each for each in told)

    monkeypatch.setenv("DAGSTER_HOME", str(stock.home))
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", PASSWORD)
    with DagsterInstance.get() as instance:
        deployment = Deployment(instance, None, stock.home, cluster)
        (run,) = instance.get_runs()
        status = deployment.finish(run.run_id, 240)
        assert status is DagsterRunStatus.SUCCESS, deployment.messages(run.run_id)[-5:]
        # Awards that were moved before they were leased are released, at no cost.
        rows = [r for r in deployment.rows(run.run_id) if r.state is AllocationState.SETTLED]
        assert {row.provider for row in rows} == {"cluster"}
        succeeded = deployment.events(run.run_id, DagsterEventType.STEP_SUCCESS)
        assert sorted(row.step_key for row in rows) == sorted(map(str, succeeded))
        words = "\n".join(deployment.messages(run.run_id))
        assert "Kubernetes run worker job created" in words
        assert "Bill:" in words
        deployment.assert_nothing_left(run.run_id)
