"""The kubernetes provider keeps the contract of every provider."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes_cluster import KubernetesCluster
from postgres_server import PASSWORD_VARIABLE

from cu_market.conformance.adoption import AdoptionConformance
from cu_market.conformance.offers import OffersConformance
from cu_market.conformance.runs import RunsConformance
from cu_market.conformance.suite import ProviderConformance
from cu_market.conformance.tested import Configured
from cu_market.conformance.workers import WorkersConformance

pytestmark = [
    pytest.mark.timeout(200),
    # Dagster reads its config classes in a way that pydantic has deprecated.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]


class TestKubernetes(ProviderConformance):
    """All of it, on a real cluster."""

    @pytest.fixture(autouse=True)
    def _on_the_cluster(self, cluster: KubernetesCluster) -> None:
        self.configured = Configured(name="cluster", options=cluster.options())


class TestKubernetesThroughTheDatabase(
    OffersConformance, WorkersConformance, AdoptionConformance, RunsConformance
):
    """All of it again, where exec is not used, but for CUs started ahead: there are none."""

    @pytest.fixture(autouse=True)
    def _on_the_cluster(self, cluster: KubernetesCluster, pod_ledger: dict[str, Any]) -> None:
        options = cluster.options(channel="database")
        options["config"]["env_vars"] = [PASSWORD_VARIABLE]
        self.configured = Configured(name="cluster", options=options, ledger=pod_ledger)
