"""What may happen to a pod: each ends as documented, leaks nothing, uses up no user's retry."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from dagster import DagsterEventType, DagsterRunStatus
from kubernetes_cluster import KubernetesCluster, wait_for
from pod_deployment import Deployment

from cu_market.domain.allocation import FINAL, AllocationState
from cu_market.ral.kubernetes.api import ClusterError

pytestmark = [pytest.mark.timeout(400)]

PROVIDERS = {
    "cluster": {"pending_seconds": 30},
    "absent": {
        "pending_seconds": 30,
        "image": "local/no-such-image:1",
        "deployment": "absent",
        "pools": [{"name": "cheap", "core_usd_per_hour": 0.0001, "gb_usd_per_hour": 0.0001}],
    },
}
API_SERVER_PID = "CU_MARKET_TEST_API_SERVER_PID"


def assert_second_attempt_won(deployment: Deployment, run_id: str, step_key: str) -> None:
    """The first attempt is billed as lost, the second as ok; Dagster saw no retry."""
    assert deployment.events(run_id, DagsterEventType.STEP_UP_FOR_RETRY) == []
    assert deployment.events(run_id, DagsterEventType.STEP_SUCCESS) == [step_key]
    rows = deployment.rows(run_id, step_key)
    assert [row.attempt for row in rows] == [1, 2]
    assert all(row.state in FINAL for row in rows)
    deployment.assert_nothing_left(run_id)


def lost_message(deployment: Deployment, run_id: str) -> str:
    return next(m for m in deployment.messages(run_id) if "Attempt 1" in m)


def test_a_pod_deleted_by_hand(deployment: Deployment) -> None:
    run_id = deployment.submit("patient_job")
    pod = deployment.running_pod(run_id, "patient")
    (deployment.signals / f"{run_id}.patient").unlink()
    deployment.cluster.api.delete(f"{deployment.cluster.path}/{pod}", grace_seconds=2)
    assert deployment.running_pod(run_id, "patient") != pod
    deployment.release(run_id)
    assert deployment.finish(run_id) is DagsterRunStatus.SUCCESS
    assert_second_attempt_won(deployment, run_id, "patient")
    assert "deleted" in lost_message(deployment, run_id)


@contextmanager
def cordoned(cluster: KubernetesCluster) -> Iterator[None]:
    """Within it, the first node takes no new pods."""
    node = cluster.api.get("/api/v1/nodes")["items"][0]["metadata"]["name"]
    subprocess.run(["kubectl", "cordon", node], check=True, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        subprocess.run(["kubectl", "uncordon", node], check=True, stdout=subprocess.DEVNULL)


def test_a_node_cordoned_and_drained(deployment: Deployment) -> None:
    cluster = deployment.cluster
    run_id = deployment.submit("patient_job")
    pod = deployment.running_pod(run_id, "patient")
    (deployment.signals / f"{run_id}.patient").unlink()
    with cordoned(cluster):
        eviction = {"apiVersion": "policy/v1beta1", "kind": "Eviction"}
        eviction |= {"metadata": {"name": pod, "namespace": cluster.namespace}}
        cluster.api.create(f"{cluster.path}/{pod}/eviction", eviction)
        wait_for(
            lambda: any("Attempt 1 was lost" in m for m in deployment.messages(run_id)),
            "the attempt's loss",
        )
    assert deployment.running_pod(run_id, "patient") != pod
    deployment.release(run_id)
    assert deployment.finish(run_id) is DagsterRunStatus.SUCCESS
    assert_second_attempt_won(deployment, run_id, "patient")
    assert "evicted" in lost_message(deployment, run_id)
    assert "cordoned" in lost_message(deployment, run_id)


def test_a_quota_that_is_exhausted(deployment: Deployment) -> None:
    cluster = deployment.cluster
    path = f"/api/v1/namespaces/{cluster.namespace}/resourcequotas"
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    cluster.api.create(path, quota)
    wait_for(
        lambda: "hard" in (cluster.api.get(f"{path}/none").get("status") or {}),
        "the quota's status",
    )
    try:
        run_id = deployment.submit("patient_job")
        wait_for(
            lambda: any("exceeded quota" in m for m in deployment.messages(run_id)),
            "the cluster's words in the run page",
        )
    finally:
        cluster.api.delete(f"{path}/none", grace_seconds=0)
    deployment.release(run_id)
    deployment.finish(run_id)
    released = [r for r in deployment.rows(run_id) if r.state is AllocationState.RELEASED]
    assert released
    assert all(row.cost_microusd is None for row in released)
    assert deployment.events(run_id, DagsterEventType.STEP_UP_FOR_RETRY) == []
    deployment.assert_nothing_left(run_id)


def test_an_image_that_does_not_exist_is_a_withdrawn_bid(deployment: Deployment) -> None:
    run_id = deployment.submit("anywhere_job")
    assert deployment.finish(run_id) is DagsterRunStatus.SUCCESS
    first, second = deployment.rows(run_id, "anywhere")
    assert (first.provider, first.state) == ("absent", AllocationState.RELEASED)
    assert first.unstarted_at is not None
    assert (second.provider, second.state) == ("cluster", AllocationState.SETTLED)
    said = lost_message(deployment, run_id)
    assert "no-such-image" in said
    assert "withdrawn" in said
    deployment.assert_nothing_left(run_id)


def test_out_of_memory_is_renegotiated(deployment: Deployment) -> None:
    run_id = deployment.submit("hungry_job")
    assert deployment.finish(run_id) is DagsterRunStatus.SUCCESS
    rows = deployment.rows(run_id, "hungry")
    assert len(rows) > 1
    sizes = [row.size.memory_bytes for row in rows]
    assert sizes == sorted(set(sizes))
    assert deployment.events(run_id, DagsterEventType.STEP_UP_FOR_RETRY) == []
    assert any("out of memory" in m for m in deployment.messages(run_id))
    deployment.assert_nothing_left(run_id)


def test_a_killed_run_workers_pods_are_reaped(deployment: Deployment) -> None:
    run_id = deployment.submit("patient_job")
    pod = deployment.running_pod(run_id, "patient")
    lease = deployment.ledger.run_lease(run_id)
    assert lease is not None
    psutil.Process(int(lease.holder.split("/")[1])).kill()

    names = deployment.cluster.pods
    wait_for(lambda: pod not in [p["metadata"]["name"] for p in names()], "the pod's end", 90)
    assert deployment.finish(run_id) is DagsterRunStatus.FAILURE
    deployment.assert_nothing_left(run_id)


def test_the_api_server_killed_for_a_minute(deployment: Deployment) -> None:
    pid_file = os.environ.get(API_SERVER_PID)
    if not pid_file:
        pytest.skip(f"{API_SERVER_PID} names no file with the API server's process id")
    run_id = deployment.submit("talkative_job")
    deployment.running_pod(run_id, "talkative")
    server = psutil.Process(int(Path(pid_file).read_text()))
    command = server.cmdline()
    server.kill()
    try:
        time.sleep(60)  # what is tested
    finally:
        Path(pid_file).write_text(str(_start_apart(command, f"{pid_file}.log")))
    # Its node was not heard either, and takes no pods until it is: whatever follows needs it.
    wait_for(lambda: _has_ready_node(deployment.cluster), "the API server and its node", 120)
    deployment.release(run_id)
    assert deployment.finish(run_id, 180) is DagsterRunStatus.SUCCESS
    words = [m for m in deployment.messages(run_id) if " - word " in m or m.startswith("word ")]
    numbers = [int(m.rsplit(" ", 1)[-1]) for m in words]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 100
    assert [row.attempt for row in deployment.rows(run_id)] == [1]
    deployment.assert_nothing_left(run_id)


def _start_apart(command: Sequence[str], log: str) -> int:
    """Starts a process that outlives this one; returns its id."""
    opened = (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    actions = [opened, (os.POSIX_SPAWN_DUP2, 1, 2)]
    return os.posix_spawn(command[0], command, os.environ, file_actions=actions, setsid=True)


def _has_ready_node(cluster: KubernetesCluster) -> bool:
    try:
        (node, *_) = cluster.api.get("/api/v1/nodes")["items"]
    except ClusterError:
        return False
    ready = [c["status"] for c in node["status"]["conditions"] if c["type"] == "Ready"]
    return ready == ["True"] and not node["spec"].get("taints")


def test_an_interrupted_run_ends_its_pods(deployment: Deployment) -> None:
    run_id = deployment.submit("patient_job")
    deployment.running_pod(run_id, "patient")
    lease = deployment.ledger.run_lease(run_id)
    assert lease is not None
    os.kill(int(lease.holder.split("/")[1]), signal.SIGINT)
    assert deployment.finish(run_id) in (DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)
    deployment.assert_nothing_left(run_id)


def test_a_pending_pod_is_given_up_on_an_interrupt(deployment: Deployment) -> None:
    run_id = deployment.submit("nowhere_job")
    wait_for(lambda: deployment.events(run_id, DagsterEventType.STEP_WORKER_STARTING), "the lease")
    lease = deployment.ledger.run_lease(run_id)
    assert lease is not None
    os.kill(int(lease.holder.split("/")[1]), signal.SIGINT)
    assert deployment.finish(run_id) in (DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)
    assert {row.state for row in deployment.rows(run_id)} == {AllocationState.RELEASED}
    deployment.assert_nothing_left(run_id)


def test_a_run_waits_while_the_cluster_has_no_room(deployment: Deployment) -> None:
    with cordoned(deployment.cluster):
        run_id = deployment.submit("patient_job")
        wait_for(
            lambda: any(m.startswith("Waiting for room") for m in deployment.messages(run_id)),
            "that the run waits",
        )
        assert deployment.rows(run_id) == []
    deployment.running_pod(run_id, "patient")
    deployment.release(run_id)
    assert deployment.finish(run_id) is DagsterRunStatus.SUCCESS
    assert deployment.events(run_id, DagsterEventType.STEP_UP_FOR_RETRY) == []
    deployment.assert_nothing_left(run_id)
