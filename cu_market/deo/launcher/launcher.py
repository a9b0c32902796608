"""``MarketRunLauncher``: the market over Dagster's default launcher."""

from __future__ import annotations

from dagster import DefaultRunLauncher

from cu_market.deo.launcher.mixin import MarketLauncherMixin


class MarketRunLauncher(MarketLauncherMixin, DefaultRunLauncher):
    """Launches runs as DefaultRunLauncher does, each after its auction.

    .. code-block:: yaml

        run_launcher:
          module: cu_market
          class: MarketRunLauncher
          config:
            market: {on_market_failure: native}
    """
