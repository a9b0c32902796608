"""Finds the market's settings of a Dagster instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from cu_market.market.settings import MarketSettings

MARKET = "market"
"""The executor's name, and the branch of its config that routes."""


def instance_settings(instance: DagsterInstance) -> MarketSettings:
    """Returns the settings of the instance's market launcher; defaults where it has another.

    Raises:
        InvalidInputError: with every problem.
    """
    from cu_market.market.settings import MarketSettings, parse_settings

    ref = instance.get_ref()
    data = ref.run_launcher_data
    if data is None or not data.class_name.startswith("Market"):
        return MarketSettings()
    config = data.config_dict.get("market")
    return parse_settings(config, "dagster.yaml: run_launcher.config.market")
