"""``MarketK8sRunLauncher``: the market over dagster-k8s's launcher."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import UserDefinedDagsterK8sConfig

from cu_market.deo.launcher.mixin import MarketLauncherMixin

if TYPE_CHECKING:
    from dagster import DagsterRun

    from cu_market.market.auction import Market

logger = logging.getLogger(__name__)

REMEMBERED = 1000
"""Runs of which it is remembered what their workers got: one that is resumed gets it, too."""


class MarketK8sRunLauncher(MarketLauncherMixin, K8sRunLauncher):
    """Launches each run's worker in a pod as K8sRunLauncher does, after the run's auction.

    It is a K8sRunLauncher: ``dagster-k8s/config`` tags, op contexts, run monitoring and resume look
    at its type and attributes and find what they know.

    .. code-block:: yaml

        run_launcher:
          module: cu_market
          class: MarketK8sRunLauncher
          config:
            service_account_name: dagster
            instance_config_map: dagster-instance
            dagster_home: /opt/dagster/dagster_home
            market:
              providers:
                cluster:
                  kind: kubernetes
                  namespace: dagster
                  pools:
                    - {name: general, core_usd_per_hour: 0.04, gb_usd_per_hour: 0.005}

    The run worker's own pod asks for the memory that its job's run workers have needed, unless the
    launcher's ``resources`` or a ``dagster-k8s/config`` tag says how much.
    """

    _run_worker_bytes: OrderedDict[str, int]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._run_worker_bytes = OrderedDict()
        super().__init__(*args, **kwargs)

    def get_container_context_for_run(self, dagster_run: DagsterRun) -> K8sContainerContext:
        """Returns the base's, with the memory that the job's history asks for.

        The base asks for it at every look at a run, so nothing is read here: what was read within
        the auction's time is remembered.
        """
        context = super().get_container_context_for_run(dagster_run)
        wanted = self._run_worker_bytes.get(dagster_run.run_id)
        if wanted is None or _says_memory(context.run_k8s_config.container_config):
            return context
        resources = {"requests": {"memory": str(wanted)}}
        sized = UserDefinedDagsterK8sConfig(container_config={"resources": resources})
        return context.merge(K8sContainerContext(run_k8s_config=sized))

    def _look_ahead(self, market: Market, run: DagsterRun) -> None:
        from cu_market.dagster_compat.outline import location_name
        from cu_market.domain.problem import CUMarketError
        from cu_market.market.run_workers import wanted_bytes

        try:
            wanted = wanted_bytes(market.ledger, location_name(run), run.job_name)
        except CUMarketError:  # a launch does not fail for it: sized as without a history
            logger.exception("run worker not sized", extra={"action": "size run worker"})
            return
        if wanted is not None:
            self._run_worker_bytes[run.run_id] = wanted
            while len(self._run_worker_bytes) > REMEMBERED:
                self._run_worker_bytes.popitem(last=False)


def _says_memory(container: Mapping[str, Any]) -> bool:
    resources = container.get("resources") or {}
    return any("memory" in (resources.get(kind) or {}) for kind in ("requests", "limits"))
