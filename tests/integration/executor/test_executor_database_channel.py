"""Steps in pods where pods/exec is not granted: same run, no exec, nothing left in the database."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cluster_rights import Account, documents_without, granted, note_rights
from dagster import DagsterInstance
from execution_record import MARKET, Bench
from kubernetes_cluster import INSECURE, KubernetesCluster, why_not
from postgres_server import PASSWORD, PASSWORD_VARIABLE, PostgresServer

from cu_market.domain.allocation import AllocationState

pytestmark = [
    pytest.mark.integration,
    pytest.mark.kubernetes,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings(INSECURE),
    # Dagster reads its config classes in a way that pydantic has deprecated.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]

JOBS: Mapping[str, Mapping[str, Any]] = {
    "plain": {"greet": {"config": {"name": "Ada"}}},
    "dynamic": {"spread": {"config": {"count": 3}}},
    "retried": {},
}
"""Values and logs, mapped steps, retries of the user's own."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[KubernetesCluster]:
    """A namespace of these tests' own."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with closing(KubernetesCluster()) as found:
        yield found


@pytest.fixture(scope="module")
def account(
    cluster: KubernetesCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Account]:
    """Has the rights of the manifests but for pods/exec."""
    path = tmp_path_factory.mktemp("rights") / "kubeconfig"
    with closing(Account(cluster, "no-exec", documents_without("pods/exec"), path)) as made:
        yield made


@pytest.fixture(scope="module")
def server(cluster: KubernetesCluster) -> Iterator[PostgresServer]:
    """A PostgreSQL that pods reach too."""
    with PostgresServer(listen=("127.0.0.1", cluster.host_address)) as started:
        yield started


def told(events: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    """Returns steps' events as both executors tell them: in-process starts no process for a step,
    and makes resources and captures what is printed by run."""
    apart = ("STEP_WORKER", "LOGS_CAPTURED", "RESOURCE_INIT")
    return {key: [e for e in each if not e.startswith(apart)] for key, each in events.items()}


@pytest.mark.parametrize("keep", [True, False], ids=["kept pods", "a pod for each step"])
def test_same_run_as_in_this_process(
    cluster: KubernetesCluster,
    account: Account,
    server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    keep: bool,
) -> None:
    options = cluster.options(
        kubeconfig=str(account.kubeconfig), channel="database", keep=keep, worker_memory="300MiB"
    )
    options["config"]["env_vars"] = [PASSWORD_VARIABLE, "DAGSTER_HOME"]
    market = {
        "providers": {"cluster": options},
        "bid_deadline_seconds": 10,
        "on_market_failure": "fail",
        "defaults": {"cpu": 0.2, "memory": "200MiB"},
    }
    launcher = {"module": "cu_market", "class": "MarketRunLauncher", "config": {"market": market}}
    database = server.create_database()
    place = {"hostname": cluster.host_address, "port": server.port, "db_name": database}
    who = {"username": "postgres", "password": {"env": PASSWORD_VARIABLE}}
    scheme = {"scheme": "postgresql+psycopg2"}
    config = {
        "telemetry": {"enabled": False},
        "storage": {"postgres": {"postgres_db": {**place, **who, **scheme}}},
        "run_launcher": launcher,
    }
    (tmp_path / "dagster.yaml").write_text(json.dumps(config))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    used = note_rights(monkeypatch)
    manifests: list[str] = []
    create = type(cluster.api).create

    def noted_create(self: Any, path: str, body: Any) -> Any:
        manifests.append(json.dumps(body))
        return create(self, path, body)

    monkeypatch.setattr(type(cluster.api), "create", noted_create)
    with DagsterInstance.get() as instance:
        bench = Bench(instance, tmp_path)
        for name, ops in JOBS.items():
            own = bench.record(bench.run(name, {"in_process": {}}, ops=ops))
            run_id = bench.run(name, MARKET, ops=ops)
            pods = bench.record(run_id)
            assert pods.status == own.status == "SUCCESS", bench.engine_messages(run_id)
            assert told(pods.events) == told(own.events)
            assert pods.values == own.values
            assert pods.logs == own.logs
            rows = bench.allocations(run_id)
            assert {row.provider for row in rows} == {"cluster"}
            settled = [row for row in rows if row.state is AllocationState.SETTLED]
            assert {row.step_key for row in settled} == set(own.events)
            assert keep or len({row.holder for row in settled}) == len(settled)
            # What pods get names the database and not its password; no event tells it either.
            said = "\n".join([*manifests, *(str(e) for e in instance.all_logs(run_id))])
            assert f'"{PASSWORD_VARIABLE}' in said.replace("\\", "")
            assert "CU_MARKET_LEDGER" in said
    assert used <= granted(account.documents)
    assert not any(resource.startswith("pods/") for _, resource, _ in used)
    for table in ("channels", "parcels"):
        rows_left = server.execute(f"SELECT count(*) FROM cu_market.{table}", database=database)
        assert rows_left == [(0,)], table
