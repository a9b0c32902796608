"""`cu-market pse models`, `promote`, `rollback`: versions of models and who is champion."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cu_market.cli.exits import NothingFoundError
from cu_market.cli.output import make_table
from cu_market.ledger.interface import Ledger
from cu_market.tracking.promotion import promote, rollback
from cu_market.tracking.registry import NoSuchModelError, Registry, registries

if TYPE_CHECKING:
    from rich.console import RenderableType


def models_document(home: Path) -> dict[str, Any]:
    """Returns every version of every code location.

    Raises:
        NothingFoundError: there is none yet.
    """
    models = [
        {
            **version.to_record(),
            "name": version.name,
            "aliases": sorted(a for a, n in registry.aliases().items() if n == version.version),
        }
        for registry in registries(home)
        for version in registry.versions()
    ]
    if not models:
        raise NothingFoundError(
            "no model yet: launch the job 'retraining' of code location 'cu_market'"
        )
    return {"models": models}


def models_table(document: Mapping[str, Any]) -> RenderableType:
    """Returns one row a version."""
    rows = [
        (
            model["name"],
            ", ".join(model["aliases"]),
            model["created_at"][:19],
            str(model["state"]["trained_on"]),
            _figure(model["figures"].get("held_back_relative_wastage")),
            _figure(model["figures"].get("held_back_failed_ratio")),
            _figure(model["figures"].get("held_back_coverage_ratio")),
            ", ".join(f"{k}={v:g}" for k, v in model["state"]["parameters"].items()),
            "yes" if model["mlflow_run_id"] else "not yet",
        )
        for model in document["models"]
    ]
    columns = ("model", "is", "trained", "on", "wastage", "failed", "covered", "state", "in MLflow")
    return make_table("Models", columns, rows, right=columns[3:7])


def promote_document(home: Path, ledger: Ledger, name: str) -> dict[str, Any]:
    """Makes a version champion.

    Args:
        home: the Dagster home.
        ledger: where it is published.
        name: ``location@version``, or the version where there is one location.

    Raises:
        NothingFoundError: there is no such version.
    """
    location, at, number = name.rpartition("@")
    registry = _registry(home, location if at else None)
    if not number.isdigit():
        raise NothingFoundError(f"model {name!r}: write location@version, such as flights@3")
    try:
        chosen = promote(registry, ledger, int(number), now=datetime.now(UTC))
    except NoSuchModelError as error:
        raise NothingFoundError(str(error)) from error
    return {"champion": chosen.name, "aliases": registry.aliases()}


def rollback_document(home: Path, ledger: Ledger, location: str | None) -> dict[str, Any]:
    """Makes the champion before this one champion again.

    Raises:
        NothingFoundError: there was none.
    """
    registry = _registry(home, location)
    try:
        chosen = rollback(registry, ledger, now=datetime.now(UTC))
    except NoSuchModelError as error:
        raise NothingFoundError(str(error)) from error
    return {"champion": chosen.name, "aliases": registry.aliases()}


def _registry(home: Path, location: str | None) -> Registry:
    found = {registry.location: registry for registry in registries(home)}
    wanted = "" if location == "default" else location
    if wanted is None and len(found) == 1:
        return next(iter(found.values()))
    if wanted is None or wanted not in found:
        known = ", ".join(name or "default" for name in found) or "none yet"
        raise NothingFoundError(f"code location {location or '(unnamed)'}: models are of {known}")
    return found[wanted]


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
