"""Pods reached through the database: it goes away, it is not found, the run worker is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from kubernetes_cluster import KubernetesCluster, wait_for
from pod_deployment import ledger_reference
from postgres_server import PASSWORD, PASSWORD_VARIABLE, PostgresServer

from cu_market.conformance.suite import ProviderConformance
from cu_market.conformance.tested import Configured
from cu_market.conformance.told_worker import receive_line, tell
from cu_market.ral.provider import EndKind, HolderStatus

pytestmark = [pytest.mark.timeout(200)]

# A run worker in small: starts a worker, tells who it is, and is killed.
STARTER = """
import json, signal, sys
from cu_market.conformance.suite import ProviderConformance
from cu_market.conformance.tested import Configured
from cu_market.conformance.told_worker import tell
said = json.loads(sys.argv[1])
tested = ProviderConformance()
tested.configured = Configured(**said)
provider = tested.load()
worker = provider.start(tested.launch_on(provider, starter="tests/1/2"))
tell(worker, "say hello")
print(worker.holder, flush=True)
signal.pause()
"""


@pytest.fixture
def server(cluster: KubernetesCluster) -> Iterator[PostgresServer]:
    """A server that pods reach, and that the test may kill."""
    with PostgresServer(listen=("127.0.0.1", cluster.host_address)) as started:
        yield started


def configured(
    cluster: KubernetesCluster, server: PostgresServer, *variables: str, **more: Any
) -> Configured:
    options = cluster.options(channel="database", **more)
    options["config"]["env_vars"] = list(variables)
    return Configured(name="cluster", options=options, ledger=ledger_reference(cluster, server))


def started(said: Configured) -> Any:
    """Returns a provider and a worker of its, which does as it is told."""
    tested = ProviderConformance()
    tested.configured = said
    provider = tested.load()
    return provider, provider.start(tested.launch_on(provider, starter="tests/1/2"))


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_database_that_comes_back_has_lost_nothing(
    cluster: KubernetesCluster, server: PostgresServer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    provider, worker = started(configured(cluster, server, PASSWORD_VARIABLE))
    with closing(worker):
        assert tell(worker, "say before") == "before"
        getattr(server, how)()
        worker.send(b"say meanwhile\n")
        server.start()
        assert receive_line(worker) == "meanwhile"
        assert tell(worker, "say after") == "after"
        assert provider.check(worker.holder) is HolderStatus.RUNNING
    assert worker.join(60)


def test_a_pod_whose_run_worker_was_killed_ends_itself(
    cluster: KubernetesCluster, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    said = configured(cluster, server, PASSWORD_VARIABLE, disconnect_seconds=1)
    words = {"name": said.name, "options": dict(said.options), "ledger": said.ledger}
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, json.dumps(words)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        holder = process.stdout.readline().strip()
        process.kill()
    assert holder
    tested = ProviderConformance()
    tested.configured = said
    provider = tested.load()
    wait_for(lambda: provider.check(holder) is HolderStatus.ENDED, "the pod's end", 90)


def test_a_ledger_that_the_pod_cannot_find_is_said(
    cluster: KubernetesCluster, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    _, worker = started(configured(cluster, server))  # its environment lacks the password
    with closing(worker):
        end = wait_for(worker.end, "the worker's end", 90)
        assert end.kind is EndKind.EXITED
        assert f"{PASSWORD_VARIABLE}': this environment variable is not set" in end.detail
    assert worker.join(60)
