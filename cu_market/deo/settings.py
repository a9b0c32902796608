"""Finds the market's settings of a Dagster instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from cu_market.market.settings import MarketSettings

MARKET = "market"
"""The executor's name, and the branch of its config that routes."""


def beside_storage(settings: MarketSettings, instance: DagsterInstance) -> MarketSettings:
    """Returns settings whose ledger is beside Dagster's own storage, unless they name one.

    Where Dagster is on PostgreSQL, the ledger is a schema of its own in the same database, found
    anew by every process from its dagster.yaml: no secret is written or sent anywhere.
    """
    from cu_market.dagster_compat.storage_location import postgres_reference_of, postgres_url_of

    if settings.ledger_url:
        return settings
    found = postgres_reference_of(instance) or postgres_url_of(instance)
    return settings if found is None else settings.model_copy(update={"ledger_url": found})


def instance_settings(instance: DagsterInstance) -> MarketSettings:
    """Returns the settings of the instance's market launcher; defaults where it has another.

    Its ledger is the one that they name, else the one beside Dagster's storage.

    Raises:
        InvalidInputError: with every problem.
    """
    from cu_market.market.settings import parse_settings

    ref = instance.get_ref()
    data = ref.run_launcher_data
    has_market = data is not None and data.class_name.startswith("Market")
    config = data.config_dict.get("market") if has_market and data is not None else None
    settings = parse_settings(config, "dagster.yaml: run_launcher.config.market")
    return beside_storage(settings, instance)
