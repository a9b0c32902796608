"""A run worker's pod is lost with run resume on: the next one adopts what runs on in pods.

Each test kills on purpose and waits for what it has caused; the step counts its own executions.
"""

from __future__ import annotations

from collections import Counter

import pytest
from dagster import DagsterEventType, DagsterRunStatus
from kubernetes_cluster import wait_for
from pod_deployment import Deployment

from cu_market.domain.allocation import FINAL, Allocation, AllocationState

pytestmark = [pytest.mark.timeout(400)]

RUN_WORKERS_IN_PODS = True
ONCE = (
    DagsterEventType.STEP_WORKER_STARTING,
    DagsterEventType.STEP_WORKER_STARTED,
    DagsterEventType.STEP_START,
    DagsterEventType.STEP_OUTPUT,
    DagsterEventType.HANDLED_OUTPUT,
    DagsterEventType.STEP_SUCCESS,
)


def begin(deployment: Deployment) -> tuple[str, str]:
    """Returns a run whose step speaks in a pod, and that pod."""
    run_id = deployment.submit("steadfast_job")
    pod = deployment.running_pod(run_id, "steadfast")
    wait_for(lambda: len(words(deployment, run_id)) > 3, "that words are stored")
    return run_id, pod


def words(deployment: Deployment, run_id: str) -> list[int]:
    """Returns the numbers that the step has said, in the event log's order."""
    said = (m for m in deployment.messages(run_id) if " - word " in m or m.startswith("word "))
    return [int(message.rsplit(" ", 1)[-1]) for message in said]


def lose_run_worker(deployment: Deployment, run_id: str, *, grace_seconds: int) -> None:
    """Deletes the run worker's pod; returns when it is gone."""
    selector = f"dagster/run-id={run_id},app.kubernetes.io/component=run_worker"
    (worker,) = deployment.cluster.pods(selector)
    name = worker["metadata"]["name"]
    deployment.cluster.api.delete(f"{deployment.cluster.path}/{name}", grace_seconds=grace_seconds)
    wait_for(
        lambda: name not in [p["metadata"]["name"] for p in deployment.cluster.pods(selector)],
        "the end of the run worker's pod",
    )


def resumed(deployment: Deployment, run_id: str) -> str:
    """Returns what the run worker says that takes over, once it does."""

    def said() -> str | None:
        return next((m for m in deployment.messages(run_id) if "resumes the run" in m), None)

    return str(wait_for(said, "a run worker that takes over", 200))


def leased(deployment: Deployment, run_id: str, step_key: str) -> list[Allocation]:
    """Returns the attempts of a step that ever had a lease."""
    return [row for row in deployment.rows(run_id, step_key) if row.fencing_token]


def assert_as_if_nothing_had_happened(deployment: Deployment, run_id: str, pod: str) -> None:
    """One execution, every event once, one attempt, one bill for all of its time."""
    assert deployment.finish(run_id, 180) is DagsterRunStatus.SUCCESS
    begun = (deployment.signals / f"{run_id}.begun").read_text().split()
    assert begun == [pod]
    said = int((deployment.signals / f"{run_id}.said").read_text())
    assert words(deployment, run_id) == list(range(1, said + 1))
    for kind in ONCE:
        counted = Counter(deployment.events(run_id, kind))
        assert counted["steadfast"] == counted["repeat"] == 1, kind
    assert deployment.events(run_id, DagsterEventType.ASSET_MATERIALIZATION) == ["steadfast"]
    assert deployment.events(run_id, DagsterEventType.STEP_FAILURE) == []
    assert deployment.events(run_id, DagsterEventType.STEP_UP_FOR_RETRY) == []
    (row,) = leased(deployment, run_id, "steadfast")
    assert row.attempt == 1
    assert row.state is AllocationState.SETTLED
    first, *_, last = deployment.instance.all_logs(run_id)
    (success,) = deployment.instance.all_logs(run_id, of_type=DagsterEventType.STEP_START)[:1]
    assert row.leased_at is not None
    assert row.ended_at is not None
    assert first.timestamp < row.leased_at.timestamp() < success.timestamp
    assert row.cost_microusd == row.cost_until(row.ended_at)
    (usage,) = [u for u in deployment.ledger.usages(run_id=run_id) if u.step_key == "steadfast"]
    assert usage.attempt == 1
    assert last.timestamp > row.ended_at.timestamp()
    deployment.assert_nothing_left(run_id)


def test_a_running_step_is_adopted(deployment: Deployment) -> None:
    run_id, pod = begin(deployment)
    lose_run_worker(deployment, run_id, grace_seconds=0)
    assert "steadfast run on and are adopted; none are leased anew" in resumed(deployment, run_id)
    stored = len(words(deployment, run_id))
    wait_for(lambda: len(words(deployment, run_id)) > stored + 3, "words by the new run worker")
    assert deployment.cluster.pods(f"cu-market/run-id={run_id}")[0]["metadata"]["name"] == pod
    deployment.release(run_id)
    assert_as_if_nothing_had_happened(deployment, run_id, pod)


def test_a_step_that_ends_while_nobody_is_there(deployment: Deployment) -> None:
    run_id, pod = begin(deployment)
    lose_run_worker(deployment, run_id, grace_seconds=0)
    deployment.release(run_id)
    wait_for(lambda: (deployment.signals / f"{run_id}.said").exists(), "the end of its code")
    assert deployment.events(run_id, DagsterEventType.STEP_OUTPUT) == []
    assert "steadfast run on and are adopted" in resumed(deployment, run_id)
    assert_as_if_nothing_had_happened(deployment, run_id, pod)


def test_a_run_worker_that_is_asked_to_end_leaves_its_steps_running(
    deployment: Deployment,
) -> None:
    run_id, pod = begin(deployment)
    lose_run_worker(deployment, run_id, grace_seconds=20)
    (row,) = deployment.rows(run_id, "steadfast")
    assert row.state is AllocationState.ACCEPTED
    assert "steadfast run on and are adopted" in resumed(deployment, run_id)
    deployment.release(run_id)
    assert_as_if_nothing_had_happened(deployment, run_id, pod)


def test_where_its_pod_is_gone_too_a_step_is_leased_anew(deployment: Deployment) -> None:
    run_id, pod = begin(deployment)
    (deployment.signals / f"{run_id}.steadfast").unlink()
    lose_run_worker(deployment, run_id, grace_seconds=0)
    deployment.cluster.api.delete(f"{deployment.cluster.path}/{pod}", grace_seconds=0)
    assert "none run on and are adopted; steadfast are leased" in resumed(deployment, run_id)
    assert deployment.running_pod(run_id, "steadfast", 100) != pod
    deployment.release(run_id)
    assert deployment.finish(run_id, 180) is DagsterRunStatus.SUCCESS
    assert len((deployment.signals / f"{run_id}.begun").read_text().split()) == 2
    assert deployment.events(run_id, DagsterEventType.STEP_FAILURE) == []
    assert deployment.events(run_id, DagsterEventType.STEP_UP_FOR_RETRY) == []
    rows = leased(deployment, run_id, "steadfast")
    assert len(rows) == 2
    assert all(row.state in FINAL for row in rows)
    assert rows[0].ended_at is not None
    assert rows[1].leased_at is not None
    assert rows[0].ended_at <= rows[1].leased_at
    deployment.assert_nothing_left(run_id)


def test_of_a_run_that_is_cancelled_meanwhile_nothing_is_left(deployment: Deployment) -> None:
    run_id, _ = begin(deployment)
    lose_run_worker(deployment, run_id, grace_seconds=0)
    run = deployment.run(run_id)
    deployment.instance.report_run_canceled(run)
    deployment.assert_nothing_left(run_id)
    assert (deployment.signals / f"{run_id}.begun").read_text().count("\n") == 1
