"""From a clean clone and an empty cluster to the first auctioned step, by the page's commands."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import walkthrough
from bare_cluster import BareCluster
from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus
from kubernetes_cluster import CHECKOUT, KubernetesCluster, wait_for
from pod_deployment import Deployment
from postgres_server import find_binaries, free_port

from cu_market.domain.allocation import AllocationState

pytestmark = [pytest.mark.timeout(500)]

HEADING = "From an empty cluster to the first auctioned step"
RUNS = "{runsOrError {... on Runs {results {runId status}}}}"


def clone(folder: Path) -> Path:
    """Returns a folder with the files that a clone would hold, as they stand now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("this checkout is no clone")
    for name in filter(None, listed.stdout.split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(CHECKOUT / name, target)
    return folder


@pytest.fixture
def installation(cluster: KubernetesCluster, tmp_path: Path) -> Iterator[BareCluster]:
    """A clone in ``tmp_path``, for a cluster without Dagster, and what is made gone afterwards."""
    if os.environ.get("CU_MARKET_TEST_HOST_PATHS") != "1":
        pytest.skip("the cluster's node is another machine: follow the page there")
    if find_binaries() is None:
        pytest.skip("no PostgreSQL is installed here (Debian's package: postgresql)")
    wait_for(lambda: not walkthrough.has_namespace(cluster), "a cluster without Dagster", 120)
    made = BareCluster(cluster)
    made.adapt(clone(tmp_path / "clone") / "deploy" / "standalone.yaml")
    made.make_volumes(tmp_path)
    try:
        yield made
    finally:
        walkthrough.remove_all(cluster)
        made.remove_volumes()


@contextmanager
def forwarded(command: str, environment: dict[str, str]) -> Iterator[str]:
    """Runs the page's port-forward, from a port free here; gives the webserver's address."""
    port = free_port()
    assert command.endswith(" 3000"), command
    arguments = command.removesuffix("3000").split()
    with subprocess.Popen(
        [*arguments, f"{port}:3000"], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert "Forwarding from" in process.stdout.readline()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def look_at(cluster: KubernetesCluster, installation: BareCluster, home: Path) -> str:
    """Writes an instance on the installation's storage; returns the password of it."""
    secret = cluster.api.get(
        f"/api/v1/namespaces/{walkthrough.NAMESPACE}/secrets/dagster-postgresql-secret"
    )
    database = {
        "hostname": cluster.host_address,
        "port": int(installation.ports["dagster-postgresql"]),
        "username": "dagster",
        "password": {"env": "DAGSTER_PG_PASSWORD"},
        "db_name": "dagster",
        "scheme": "postgresql+psycopg2",
    }
    home.mkdir()
    storage = {"storage": {"postgres": {"postgres_db": database}}}
    (home / "dagster.yaml").write_text(json.dumps(storage))
    return base64.b64decode(secret["data"]["postgresql-password"]).decode()


def test_documented_commands_lead_from_an_empty_cluster_to_a_bill(
    installation: BareCluster,
    cluster: KubernetesCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = walkthrough.write_programs(tmp_path / "bin", {"docker": walkthrough.DOCKER})
    *lines, forward = walkthrough.commands(HEADING)
    told = {}
    for line in lines:
        told[line] = walkthrough.run_command(
            line, folder=tmp_path / "clone", environment=environment
        )
        if "apply" in line:
            walkthrough.make_credentials(cluster)
    (pool,) = (text for line, text in told.items() if line.endswith("cu-market pool"))
    assert "cluster/general" in pool
    (explained,) = (text for line, text in told.items() if "cu-market explain last" in line)
    assert "cluster/general" in explained
    assert re.search(r"\$\d+\.\d+", explained), explained

    home = tmp_path / "home"
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", look_at(cluster, installation, home))
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    with DagsterInstance.get() as instance:
        deployment = Deployment(instance, None, home, cluster)
        (run,) = instance.get_runs()
        words = "\n".join(deployment.messages(run.run_id))
        assert run.status is DagsterRunStatus.SUCCESS, words[-2000:]
        rows = [r for r in deployment.rows(run.run_id) if r.state is AllocationState.SETTLED]
        assert {row.provider for row in rows} == {"cluster"}
        succeeded = deployment.events(run.run_id, DagsterEventType.STEP_SUCCESS)
        assert sorted(row.step_key for row in rows) == sorted(map(str, succeeded))
        assert "Bill:" in words
        deployment.assert_nothing_left(run.run_id)
    pods = f"/api/v1/namespaces/{walkthrough.NAMESPACE}/pods"
    label = {"labelSelector": f"cu-market/run-id={run.run_id}"}
    wait_for(lambda: not cluster.api.get(pods, **label)["items"], "no pod of the run's")

    with forwarded(forward, environment) as address:
        query = urllib.request.Request(
            f"{address}/graphql",
            data=json.dumps({"query": RUNS}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(query, timeout=60) as answer:
            shown = json.load(answer)
    (result,) = shown["data"]["runsOrError"]["results"]
    assert result == {"runId": run.run_id, "status": "SUCCESS"}
