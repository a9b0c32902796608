"""A node pool with terms of its own: sizes that are sold, a least time, a price that rises."""

from __future__ import annotations

import pytest
from dagster import DagsterRunStatus
from pod_deployment import Deployment

from cu_market.domain.allocation import AllocationState
from cu_market.domain.bid import Rates
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import MIB

pytestmark = [pytest.mark.timeout(300)]

PROVIDERS = {
    "cluster": {
        "pools": [
            {
                "name": "sized",
                "core_usd_per_second": 0.00001,
                "gb_usd_per_second": 0.000001,
                "minimum_seconds": 600,
                "congestion": 1,
                "size_classes": [
                    {"cpu": 0.125, "memory": "64MiB"},
                    {"cpu": 0.5, "memory": "192MiB"},
                    {"cpu": 1, "memory": "1GiB"},
                ],
            }
        ]
    }
}
SOLD = ResourceVector(cpu_millis=500, memory_bytes=192 * MIB)
PRICE = Rates(core_microusd_per_hour=36_000, gb_microusd_per_hour=3_600).price_microusd_per_hour(
    SOLD
)


def test_a_pod_has_a_size_that_is_sold_and_is_billed_by_its_pools_terms(
    deployment: Deployment,
) -> None:
    first = deployment.submit("patient_job")
    name = deployment.running_pod(first, "patient")
    pod = deployment.cluster.api.get(f"{deployment.cluster.path}/{name}")
    requests = pod["spec"]["containers"][0]["resources"]["requests"]
    assert requests["cpu"] == "500m"
    assert int(requests["memory"]) > SOLD.memory_bytes  # and the worker's beside it
    second = deployment.submit("patient_job")
    deployment.running_pod(second, "patient")
    for run_id in (first, second):
        deployment.release(run_id)
        assert deployment.finish(run_id) is DagsterRunStatus.SUCCESS
        deployment.assert_nothing_left(run_id)

    (one,), (other,) = deployment.rows(first), deployment.rows(second)
    for row in (one, other):
        assert row.state is AllocationState.SETTLED
        assert (row.resource_id, row.size, row.minimum_ms) == ("cluster/sized", SOLD, 600_000)
        assert row.cost_microusd == round(row.price_microusd_per_hour / 6)  # of a few seconds
    assert one.price_microusd_per_hour == PRICE
    assert PRICE < other.price_microusd_per_hour <= 2 * PRICE  # part of the pool was leased
