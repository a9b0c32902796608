"""A run worker's pod is lost where pods are reached through the database: adopted as by exec."""

from __future__ import annotations

import pytest
from kubernetes_cluster import wait_for
from pod_deployment import Deployment
from test_resumed_run import (
    assert_as_if_nothing_had_happened,
    begin,
    lose_run_worker,
    resumed,
    words,
)

from cu_market.domain.allocation import AllocationState

pytestmark = [pytest.mark.timeout(400)]

RUN_WORKERS_IN_PODS = True
PROVIDERS = {"cluster": {"channel": "database"}}


def assert_no_channel_left(deployment: Deployment, run_id: str) -> None:
    assert deployment.ledger.channels.forget_run(run_id) == 0


def test_a_running_step_is_adopted(deployment: Deployment) -> None:
    run_id, pod = begin(deployment)
    lose_run_worker(deployment, run_id, grace_seconds=0)
    assert "steadfast run on and are adopted; none are leased anew" in resumed(deployment, run_id)
    stored = len(words(deployment, run_id))
    wait_for(lambda: len(words(deployment, run_id)) > stored + 3, "words by the new run worker")
    deployment.release(run_id)
    assert_as_if_nothing_had_happened(deployment, run_id, pod)
    assert_no_channel_left(deployment, run_id)


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
    assert_no_channel_left(deployment, run_id)
