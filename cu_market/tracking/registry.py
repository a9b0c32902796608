"""The register of models: one JSON file a version, aliases in another, all under a Dagster home.

MLflow is told of each version when it can be reached (see mirror.py); nothing waits for it, and no
model is ever loaded from it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from cu_market.domain.problem import CUMarketError
from cu_market.pse.champion.state import ModelState, read_state

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"


class NoSuchModelError(CUMarketError):
    """There is no such version or alias; the message says which there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One version of a code location's model.

    Attributes:
        location: the code location.
        version: counted from 1.
        created_at: aware UTC.
        state: the model.
        figures: of its evaluation, by name.
        details: anything else that is JSON: comparison, data digest, commit.
        mlflow_run_id: of the run that tells of it, or None while MLflow was not told.
    """

    location: str
    version: int
    created_at: datetime
    state: ModelState
    figures: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    mlflow_run_id: str | None = None

    @property
    def name(self) -> str:
        """The version as publications and messages name it."""
        return f"{self.location or 'default'}@{self.version}"

    def to_record(self) -> dict[str, Any]:
        """Returns the version ready for JSON."""
        return {
            "location": self.location,
            "version": self.version,
            "created_at": self.created_at.isoformat(),
            "state": self.state.to_record(),
            "digest": self.state.digest,
            "figures": dict(self.figures),
            "details": dict(self.details),
            "mlflow_run_id": self.mlflow_run_id,
        }


class Registry:
    """All versions of one code location's model.

    Args:
        folder: of all locations; see models_folder.
        location: the code location.
    """

    def __init__(self, folder: Path, location: str) -> None:
        self.location = location
        self._folder = folder / (re.sub(r"[^A-Za-z0-9_.-]", "_", location) or "_default")

    def versions(self) -> list[ModelVersion]:
        """Returns every version, the oldest first."""
        numbers = sorted(int(path.stem) for path in self._folder.glob("[0-9]*.json"))
        return [self.version(number) for number in numbers]

    def version(self, number: int) -> ModelVersion:
        """Returns one version, its digest checked.

        Raises:
            NoSuchModelError: there is none.
            InvalidInputError: the file is not what was written.
        """
        try:
            record = json.loads((self._folder / f"{number}.json").read_text())
        except FileNotFoundError:
            raise NoSuchModelError(
                f"code location {self.location!r} has no model version {number}; "
                "`cu-market pse models` lists them"
            ) from None
        return ModelVersion(
            location=self.location,
            version=number,
            created_at=datetime.fromisoformat(record["created_at"]),
            state=read_state(record["state"], digest=record["digest"]),
            figures=record["figures"],
            details=record["details"],
            mlflow_run_id=record["mlflow_run_id"],
        )

    def add(
        self,
        state: ModelState,
        *,
        created_at: datetime,
        figures: Mapping[str, float],
        details: Mapping[str, Any],
    ) -> ModelVersion:
        """Keeps a new version and returns it."""
        number = max((int(p.stem) for p in self._folder.glob("[0-9]*.json")), default=0) + 1
        version = ModelVersion(
            location=self.location,
            version=number,
            created_at=created_at,
            state=state,
            figures=figures,
            details=details,
        )
        self.keep(version)
        return version

    def keep(self, version: ModelVersion) -> None:
        """Writes a version, over what was written of it before."""
        self._write(f"{version.version}.json", version.to_record())

    def aliases(self) -> dict[str, int]:
        """Returns the version that each alias stands for."""
        path = self._folder / "aliases.json"
        return json.loads(path.read_text()) if path.is_file() else {}

    def alias(self, name: str) -> ModelVersion | None:
        """Returns an alias's version, or None."""
        number = self.aliases().get(name)
        return None if number is None else self.version(number)

    def set_aliases(self, aliases: Mapping[str, int]) -> None:
        """Writes all aliases at once."""
        self._write("aliases.json", dict(aliases))

    def _write(self, name: str, document: object) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        draft = self._folder / f".{name}.{os.getpid()}"
        draft.write_text(json.dumps(document, indent=1, sort_keys=True))
        draft.replace(self._folder / name)


def models_folder(home: str | Path) -> Path:
    """Returns where a Dagster home's models are kept."""
    return Path(home) / "cu-market" / "models"


def registries(home: str | Path) -> list[Registry]:
    """Returns the registers of all code locations that have a model, by name."""
    folder = models_folder(home)
    found = []
    for path in sorted(folder.glob("*/*.json")):
        if path.stem.isdigit():
            found.append(json.loads(path.read_text())["location"])
    return [Registry(folder, name) for name in dict.fromkeys(found)]
