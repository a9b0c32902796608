"""One run, half its steps on this machine and half in pods, launched by the daemon on Postgres."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
from dagster import DagsterEventType, DagsterRunStatus
from pod_deployment import Deployment

from cu_market.domain.allocation import AllocationState

pytestmark = [pytest.mark.timeout(300)]


def outputs(deployment: Deployment, run_id: str) -> dict[str, Any]:
    """Returns what the run's steps have put out, as the IO manager stored it."""
    root = Path(deployment.instance.storage_directory()) / run_id
    return {
        str(path.relative_to(root)): pickle.loads(path.read_bytes())
        for path in root.rglob("*")
        if path.is_file() and "compute_logs" not in path.parts
    }


def test_steps_go_both_ways_and_the_bill_names_both(deployment: Deployment) -> None:
    reference = deployment.submit("reference_job")
    run_id = deployment.submit("mixed_job")
    assert deployment.finish(run_id) is DagsterRunStatus.SUCCESS
    assert deployment.finish(reference) is DagsterRunStatus.SUCCESS
    stored = outputs(deployment, run_id)
    assert len(stored) >= 9
    assert stored == outputs(deployment, reference)

    rows = deployment.rows(run_id)
    assert {row.state for row in rows} == {AllocationState.SETTLED}
    by_provider = {
        name: {row.step_key for row in rows if row.provider == name}
        for name in ("local", "cluster")
    }
    assert by_provider["local"] == {"numbers", "cubes", "total", "report"}
    assert by_provider["cluster"] == {"squares", "halves", "bounds", "shout"}
    assert all(row.cost_microusd is not None for row in rows)
    usages = deployment.ledger.usages(run_id=run_id)
    assert {usage.step_key for usage in usages} == {row.step_key for row in rows}
    assert all(usage.measurement.peak_memory_bytes > 0 for usage in usages)
    deployment.assert_nothing_left(run_id)


def test_what_a_pods_step_says_reaches_the_run_page(deployment: Deployment) -> None:
    run_id = deployment.submit("mixed_job")
    assert deployment.finish(run_id) is DagsterRunStatus.SUCCESS
    assert "halved 100 values" in "\n".join(deployment.messages(run_id))
    bills = [m for m in deployment.messages(run_id) if m.startswith("Bill:")]
    assert sum("cluster/general" in bill for bill in bills) == 4
    logs = Path(deployment.instance.storage_directory(), run_id, "compute_logs")
    assert "halving" in "".join(path.read_text() for path in logs.glob("*.out"))
    started = deployment.events(run_id, DagsterEventType.STEP_WORKER_STARTED)
    assert len(started) == len(set(started)) == 8


def test_the_users_kubernetes_tag_refines_the_pod(deployment: Deployment) -> None:
    run_id = deployment.submit("refined_job")
    name = deployment.running_pod(run_id, "refined")
    pod = deployment.cluster.api.get(f"{deployment.cluster.path}/{name}")
    labels = pod["metadata"]["labels"]
    assert labels["team"] == "science"
    assert labels["cu-market/run-id"] == labels["dagster/run-id"] == run_id
    resources = pod["spec"]["containers"][0]["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    deployment.release(run_id)
    assert deployment.finish(run_id) is DagsterRunStatus.SUCCESS
    assert outputs(deployment, run_id)["refined/result"] == "vanilla"
    deployment.assert_nothing_left(run_id)
