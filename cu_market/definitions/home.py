"""What the assets work on: the instance's ledger, home and models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dagster import DagsterInstance

from cu_market.deo.settings import instance_settings
from cu_market.ledger.interface import Ledger
from cu_market.market.opening import open_instance_ledger
from cu_market.tracking.registry import Registry, models_folder

OWN_LOCATION = "cu_market"
"""The code location of these definitions; its own steps are learned from like any other's."""


@contextmanager
def opened_ledger(instance: DagsterInstance) -> Iterator[Ledger]:
    """Yields the instance's ledger and closes it."""
    with open_instance_ledger(instance_settings(instance), instance.root_directory) as ledger:
        yield ledger


def home_of(instance: DagsterInstance) -> Path:
    """Returns the Dagster home."""
    return Path(instance.root_directory)


def registry_of(instance: DagsterInstance, location: str) -> Registry:
    """Returns a code location's versions."""
    return Registry(models_folder(home_of(instance)), location)
