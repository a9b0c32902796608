"""The rights of deploy/rbac.yaml suffice, and each of them is used: a run of everything, listed.

Without its rule for pods/exec the rest suffices for the channel through the database, and is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
from cluster_rights import Account, Right, documents_without, granted, note_rights
from kubernetes_cluster import KubernetesCluster, wait_for
from postgres_server import PASSWORD_VARIABLE

from cu_market.deo.channel.carrier import DatabaseCarrier
from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.resources import ResourceVector
from cu_market.ledger.location import follow
from cu_market.ledger.sql import open_ledger
from cu_market.ral.carrier import Carrier
from cu_market.ral.kubernetes.api import ClusterError
from cu_market.ral.kubernetes.provider import KubernetesProvider
from cu_market.ral.provider import HolderStatus, WorkerLaunch

pytestmark = [pytest.mark.timeout(200)]

ECHO = (
    "import os, socket\n"
    "s = socket.socket(fileno=int(os.environ['CU_MARKET_CHANNEL_FD']))\n"
    "while data := s.recv(65536): s.sendall(data)\n"
)


@pytest.fixture(scope="module")
def account(
    cluster: KubernetesCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Account]:
    """Has all of the rights."""
    path = tmp_path_factory.mktemp("rights") / "kubeconfig"
    with closing(Account(cluster, "dagster", documents_without(), path)) as made:
        yield made


@pytest.fixture(scope="module")
def account_without_exec(
    cluster: KubernetesCluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Account]:
    """Has the rights but for pods/exec."""
    path = tmp_path_factory.mktemp("rights") / "kubeconfig"
    with closing(Account(cluster, "no-exec", documents_without("pods/exec"), path)) as made:
        yield made


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> set[Right]:
    """The rights that have been asked for since."""
    return note_rights(monkeypatch)


def launch(step_key: str, carrier: Carrier | None = None) -> WorkerLaunch:
    allocation = Allocation(
        run_id="rights",
        step_key=step_key,
        attempt=1,
        state=AllocationState.LEASED,
        auction_id="a",
        bid_id="cluster/general",
        provider="cluster",
        resource_id="cluster/general",
        capacity_id="cluster/general",
        size=ResourceVector(cpu_millis=100, memory_bytes=64 * 2**20),
        price_microusd_per_hour=1,
        expected_ms=1,
        awarded_at=datetime.now(UTC),
    )
    return WorkerLaunch(
        run_id="rights",
        worker_key="cluster/general",
        arguments=("-c", ECHO),
        allocation=allocation,
        starter="tests/1/2",
        carrier=carrier,
    )


def use_everything(provider: KubernetesProvider, carrier: Carrier | None = None) -> None:
    """Asks it for all that a provider is asked for."""
    assert provider.pool().profiles
    standing_by = ["taken"] if provider.capabilities.ahead else []
    for step_key in ("closed", "stopped", "reaped", *standing_by):
        if step_key == "taken":
            holder = provider.start_ahead(launch("ahead"))
            worker = provider.take_over(holder, launch(step_key))
        else:
            worker = provider.start(launch(step_key, carrier))
        worker.send(b"hello")
        assert worker.receive() == b"hello"
        assert provider.check(worker.holder) is HolderStatus.RUNNING
        if step_key == "closed":
            worker.close()
        elif step_key == "stopped":
            provider.stop(worker.holder)
        else:
            assert provider.reap(["tests/1/2"]) == ["tests/1/2"]
        assert worker.join(30)
        wait_for(
            lambda holder=worker.holder: provider.check(holder) is HolderStatus.ENDED, "its end"
        )
        worker.close()


def test_what_is_used_is_what_is_granted(
    cluster: KubernetesCluster, account: Account, used: set[Right]
) -> None:
    options = cluster.options(kubeconfig=str(account.kubeconfig))
    options.pop("kind")
    use_everything(KubernetesProvider.from_config("cluster", options))
    # exec is a GET for WebSockets and a POST for SPDY, of which servers before 1.31 ask "create".
    assert used | {("namespace", "pods/exec", "create")} == granted(account.documents)


def test_through_the_database_no_exec_is_used(
    cluster: KubernetesCluster,
    account_without_exec: Account,
    pod_ledger: dict[str, Any],
    used: set[Right],
) -> None:
    kubeconfig = str(account_without_exec.kubeconfig)
    options = cluster.options(kubeconfig=kubeconfig, channel="database")
    options.pop("kind")
    options["config"]["env_vars"] = [PASSWORD_VARIABLE]
    with open_ledger(follow(pod_ledger, "ledger")) as ledger:
        carrier = DatabaseCarrier(ledger.channels, pod_ledger)
        use_everything(KubernetesProvider.from_config("cluster", options), carrier)
        assert ledger.channels.forget_run("rights") == 0  # none is left
    assert ("namespace", "pods/exec", "get") not in used
    # Nothing is started ahead there, to be marked later.
    assert used | {("namespace", "pods", "patch")} == granted(account_without_exec.documents)


def test_a_missing_right_is_said_in_the_clusters_words(
    cluster: KubernetesCluster, account: Account
) -> None:
    options = cluster.options(kubeconfig=str(account.kubeconfig), namespace="kube-system")
    options.pop("kind")
    provider = KubernetesProvider.from_config("cluster", options)
    with pytest.raises(ClusterError, match=r"forbidden.*resourcequotas|resourcequotas.*forbidden"):
        provider.pool()
