"""From a stock Dagster deployment to the first auctioned step, by the page's own commands."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stock_chart
from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus
from kubernetes_cluster import CHECKOUT, KubernetesCluster, wait_for
from pod_deployment import Deployment
from postgres_server import PASSWORD, PostgresServer, free_port

from cu_market.domain.allocation import AllocationState
from cu_market.ral.kubernetes.api import SERVICE_ACCOUNT, ClusterError

pytestmark = [pytest.mark.timeout(400)]

REGISTRY_IMAGE = "registry.example.com/dagster-market:1"
DOCKER = '#!/bin/sh\n[ "$1" = push ] || test -f "$3"\n'
"""Stands in for docker: the image that the tests' pods run is there already."""


def commands() -> list[str]:
    """Returns the lines of the page's first block of commands."""
    text = (CHECKOUT / "docs" / "kubernetes.md").read_text()
    block = re.search(r"```sh\n(.*?)```", text, re.S)
    assert block is not None
    return block[1].strip().splitlines()


def certificates(server: str) -> str:
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
        text = file.read_text().replace(REGISTRY_IMAGE.partition(":")[0], repository)
        file.write_text(text.replace('tag: "1"', f'tag: "{tag}"'))
        self._write_programs(folder / "bin")

    def _write_programs(self, folder: Path) -> None:
        folder.mkdir()
        path = f"{folder}:{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path}
        self.environment[stock_chart.VARIABLE] = str(self._folder / "chart.json")
        helm = f'#!/bin/sh\nexec {sys.executable} {stock_chart.__file__} "$@"\n'
        for name, text in (("docker", DOCKER), ("helm", helm)):
            program = folder / name
            program.write_text(text)
            program.chmod(0o755)

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
        """Returns what makes this machine's folders the image, and its cluster a complete one.

        It has no service that stands for its API server, and gives pods no certificate of it.
        """
        api = self._cluster.api.client().configuration
        address, port = str(api.host).removeprefix("https://").split(":")
        self._make_credentials(certificates(str(api.host)))
        shared = self._folder / "storage"  # a mounted volume that every step can reach
        shared.mkdir()
        context = dict(self._cluster.options()["config"])
        more = {
            "credentials": ({"secret": {"secret_name": "credentials"}}, SERVICE_ACCOUNT),
            "storage": ({"host_path": {"path": str(shared)}}, f"{stock_chart.HOME}/storage"),
        }
        context["volumes"] = [
            *context["volumes"],
            *({"name": name, **volume} for name, (volume, _) in more.items()),
        ]
        context["volume_mounts"] = [
            *context["volume_mounts"],
            *({"name": name, "mount_path": path} for name, (_, path) in more.items()),
        ]
        context["env_vars"] = [
            f"PATH={Path(sys.executable).parent}:/usr/bin:/bin",
            f"KUBERNETES_SERVICE_HOST={address}",
            f"KUBERNETES_SERVICE_PORT={port}",
            "OMP_NUM_THREADS=1",
        ]
        return context

    def _make_credentials(self, certificate: str) -> None:
        path = f"/api/v1/namespaces/{stock_chart.NAMESPACE}/secrets"

        def token() -> dict[str, str] | None:
            for secret in self._cluster.api.get(path)["items"]:
                notes = secret["metadata"].get("annotations") or {}
                if notes.get("kubernetes.io/service-account.name") == "dagster":
                    return dict(secret["data"])
            return None

        data = wait_for(token, "the account's token")
        body = {"metadata": {"name": "credentials"}, "data": data}
        body["stringData"] = {"ca.crt": certificate, "namespace": stock_chart.NAMESPACE}
        self._cluster.api.create(path, body)

    def run(self, command: str) -> str:
        """Returns what one of the page's commands has printed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command.replace(REGISTRY_IMAGE, self._image)],
            cwd=self.values,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def close(self) -> None:
        """Removes all of it."""
        api = self._cluster.api
        for kind in ("clusterroles", "clusterrolebindings"):
            group = "/apis/rbac.authorization.k8s.io/v1"
            api.delete(f"{group}/{kind}/cu-market-room", grace_seconds=0)
        api.delete(f"/api/v1/namespaces/{stock_chart.NAMESPACE}", grace_seconds=0)


def has_namespace(cluster: KubernetesCluster) -> bool:
    try:
        cluster.api.get(f"/api/v1/namespaces/{stock_chart.NAMESPACE}")
    except ClusterError as error:
        if error.status != 404:
            raise
        return False
    return True


@pytest.fixture
def stock(
    cluster: KubernetesCluster, reachable_postgres: PostgresServer, tmp_path: Path
) -> Iterator[Stock]:
    """Dagster as its chart installs it."""
    if os.environ.get("CU_MARKET_TEST_HOST_PATHS") != "1":
        pytest.skip("the cluster's node is another machine: install the chart itself there")
    wait_for(lambda: not has_namespace(cluster), "a cluster without Dagster", 120)
    made = Stock(cluster, reachable_postgres, tmp_path)
    try:
        made.install()
        yield made
    finally:
        made.close()


def test_five_commands_lead_from_a_stock_deployment_to_an_auctioned_step(
    stock: Stock, cluster: KubernetesCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = commands()
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
