"""MarketK8sRunLauncher: the run worker is a pod too."""

from __future__ import annotations

from typing import Any

import pytest
from dagster import DagsterRunStatus
from dagster_k8s import K8sRunLauncher
from kubernetes_cluster import wait_for
from pod_deployment import Deployment

from cu_market import MarketK8sRunLauncher
from cu_market.dagster_compat.outline import location_name
from cu_market.domain.allocation import AllocationState
from cu_market.domain.units import MIB
from cu_market.market.run_workers import wanted_bytes

pytestmark = [pytest.mark.timeout(400)]

RUN_WORKERS_IN_PODS = True


def test_it_is_what_dagster_k8s_looks_for(deployment: Deployment) -> None:
    launcher = deployment.instance.run_launcher
    assert isinstance(launcher, MarketK8sRunLauncher)
    assert isinstance(launcher, K8sRunLauncher)
    assert launcher.supports_resume_run
    assert launcher.job_namespace == deployment.cluster.namespace


def test_a_run_whose_worker_is_a_pod(deployment: Deployment) -> None:
    run_id = deployment.submit("mixed_job")
    assert deployment.finish(run_id, 180) is DagsterRunStatus.SUCCESS
    rows = deployment.rows(run_id)
    assert {row.provider for row in rows} == {"local", "cluster"}
    assert {row.state for row in rows} == {AllocationState.SETTLED}
    assert "Kubernetes run worker job created" in "\n".join(deployment.messages(run_id))
    wait_for(
        lambda: deployment.cluster.pods(f"cu-market/run-id={run_id}") == [], "no pod of a step"
    )


def test_the_next_run_worker_is_sized_by_those_before_it(deployment: Deployment) -> None:
    def worker_of(run_id: str) -> dict[str, Any]:
        selector = f"dagster/run-id={run_id},app.kubernetes.io/component=run_worker"
        (pod,) = deployment.cluster.pods(selector)
        (container,) = pod["spec"]["containers"]
        return dict(container["resources"]["requests"])

    first = deployment.submit("mixed_job")
    assert deployment.finish(first, 180) is DagsterRunStatus.SUCCESS
    location = deployment.instance.get_run_by_id(first)
    assert location is not None
    wanted = wanted_bytes(deployment.ledger, location_name(location), "mixed_job")
    assert wanted is not None
    assert 128 * MIB < wanted < 2048 * MIB
    second = deployment.submit("mixed_job")
    assert deployment.finish(second, 180) is DagsterRunStatus.SUCCESS
    assert worker_of(second) == {"cpu": "250m", "memory": str(wanted)}
