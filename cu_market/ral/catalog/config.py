"""What may be written about a catalogue provider in a configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.domain.units import usd_to_microusd
from cu_market.ral.catalog.offers import Terms
from cu_market.ral.catalog.rows import normalise_arch
from cu_market.ral.catalog.store import Catalog, catalogs_folder, open_catalog, read_file
from cu_market.ral.options import problem_of

_Patterns = Annotated[tuple[str, ...], Field(min_length=1)]


class CatalogConfig(BaseModel):
    """The catalogue provider's options.

    Attributes:
        catalog: name of an imported catalogue; or
        file: path of a CSV that is read where it lies.
        regions, instance_types, architectures: see Terms.
        spot: whether spot prices are offered.
        quantity: how many CUs of each type may be held at once.
        startup_seconds: from the lease until a step can run; billed.
        usable_memory_ratio: what the system leaves of a type's memory.
        spot_interruptions_per_hour: expected of each spot CU.
        egress_usd_per_gb: dollars for a GB taken from one of its regions to any other location.
        old_after_days: older prices are said to be old wherever they are shown.
        start: provider options of what starts workers at these prices; None: quotes only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    catalog: str | None = None
    file: str | None = None
    regions: _Patterns = ("*",)
    instance_types: _Patterns = ("*",)
    architectures: _Patterns = ("amd64",)
    spot: bool = True
    quantity: int = Field(default=16, ge=1, le=100_000)
    startup_seconds: float = Field(default=45, ge=0, le=86_400)
    usable_memory_ratio: float = Field(default=0.93, gt=0, le=1)
    spot_interruptions_per_hour: float = Field(default=0.05, ge=0, le=1000)
    egress_usd_per_gb: float = Field(default=0, ge=0, le=1000)
    old_after_days: int = Field(default=30, ge=1)
    start: dict[str, Any] | None = None

    def terms(self, provider: str) -> Terms:
        """Returns the same in the domain's integers."""
        return Terms(
            provider=provider,
            regions=self.regions,
            instance_types=self.instance_types,
            architectures=tuple(normalise_arch(name) for name in self.architectures),
            is_spot=self.spot,
            startup_ms=round(1000 * self.startup_seconds),
            usable_memory_permille=round(1000 * self.usable_memory_ratio),
            interruption_millis_per_hour=round(1000 * self.spot_interruptions_per_hour),
            egress_microusd_per_gb=usd_to_microusd(self.egress_usd_per_gb),
        )


def read_config(name: str, config: Mapping[str, object]) -> CatalogConfig:
    """Returns the checked options of the provider of that name.

    Raises:
        InvalidInputError: every problem in them.
    """
    where = f"provider {name!r}"
    try:
        read = CatalogConfig.model_validate(dict(config))
    except ValidationError as error:
        otherwise = "docs/configuration.md has what it may be"
        raise InvalidInputError(
            problem_of(where, e, CatalogConfig, otherwise=otherwise) for e in error.errors()
        ) from error
    if (read.catalog is None) == (read.file is None):
        remedy = "write catalog: NAME of an imported one, or file: PATH of a CSV"
        what = "neither a catalogue nor a file" if read.file is None else "both are named"
        raise InvalidInputError(
            [Problem(where=f"{where}: catalog", value=read.catalog or "", what=what, remedy=remedy)]
        )
    return read


def find_catalog(name: str, config: CatalogConfig) -> Catalog:
    """Returns the catalogue that the options name; imported ones lie in DAGSTER_HOME.

    Raises:
        InvalidInputError: there is none, or it cannot be read.
    """
    if config.file is not None:
        return read_file(Path(config.file), name)
    home = os.environ.get("DAGSTER_HOME", "")
    if not home:
        remedy = "set it, or write file: PATH of a CSV"
        problem = Problem(where="DAGSTER_HOME", value="", what="not set", remedy=remedy)
        raise InvalidInputError([problem])
    return open_catalog(catalogs_folder(home), config.catalog or "")
