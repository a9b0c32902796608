"""``MarketK8sRunLauncher``: the market over dagster-k8s's launcher."""

from __future__ import annotations

from dagster_k8s import K8sRunLauncher

from cu_market.deo.launcher.mixin import MarketLauncherMixin


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
    """
