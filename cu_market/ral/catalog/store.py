"""Where imported catalogues are kept: the file as it was, and when and whence it came.

Nothing is fetched: prices are as old as what was imported, and say so.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.ral.catalog.rows import CatalogRow
from cu_market.ral.catalog.table import LeftOut, read_table

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """A catalogue and how old its prices are.

    Attributes:
        name: what it is kept under.
        rows: in the file's order, one for each type and region.
        zone_rows: how many more of the file's rows are in those; see CatalogTable.
        left_out: how many are in none, by why.
        as_of: when its prices held: what was said at the import, else the file's own time.
        imported_at: aware UTC, or None for a file that is read where it lies.
        source: the file's name at the import.
        sha256: of its content.
    """

    name: str
    rows: tuple[CatalogRow, ...]
    zone_rows: int
    left_out: Mapping[LeftOut, int]
    as_of: datetime
    imported_at: datetime | None
    source: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Manifest:
    as_of: str
    imported_at: str
    source: str
    sha256: str


def catalogs_folder(home: str | os.PathLike[str]) -> Path:
    """Returns where a Dagster home keeps its catalogues."""
    return Path(home) / "cu-market" / "catalogs"


def import_catalog(
    folder: Path, file: Path, name: str, *, now: datetime, as_of: datetime | None = None
) -> Catalog:
    """Checks a file, keeps it under a name, and returns it. An earlier one of that name goes.

    Args:
        folder: see catalogs_folder; made where it is missing.
        file: the CSV.
        name: letters, digits, ``.``, ``_`` and ``-``.
        now: aware UTC.
        as_of: when the prices held; the file's own time if None.

    Raises:
        InvalidInputError: the name, the file, or any of its rows cannot be used. Nothing is kept.
    """
    if not _NAME.match(name):
        remedy = "write letters, digits, '.', '_' and '-'"
        _refuse("catalogue name", name, "not a name", remedy)
    catalog = read_file(file, name)
    manifest = _Manifest(
        as_of=(as_of or catalog.as_of).isoformat(),
        imported_at=now.isoformat(),
        source=file.name,
        sha256=catalog.sha256,
    )
    folder.mkdir(parents=True, exist_ok=True)
    # The manifest names the content by its digest, so a reader never pairs one with the other's.
    _write(folder / f"{name}-{catalog.sha256[:12]}.csv", file.read_bytes())
    _write(folder / f"{name}.json", json.dumps(asdict(manifest), indent=1).encode())
    for old in folder.glob(f"{name}-*.csv"):
        if re.fullmatch(rf"{re.escape(name)}-[0-9a-f]{{12}}", old.stem) and (
            old.stem != f"{name}-{catalog.sha256[:12]}"
        ):
            old.unlink(missing_ok=True)
    return open_catalog(folder, name)


def open_catalog(folder: Path, name: str) -> Catalog:
    """Returns a kept catalogue.

    Raises:
        InvalidInputError: there is none of that name, or its file is not what was imported.
    """
    path = folder / f"{name}.json"
    try:
        manifest = _Manifest(**json.loads(path.read_bytes()))
        text = (folder / f"{name}-{manifest.sha256[:12]}.csv").read_bytes()
    except OSError:
        known = ", ".join(list_catalogs(folder)) or "none"
        remedy = f"run `cu-market catalog import FILE --name {name}`; there are: {known}"
        _refuse("catalog", name, "not imported", remedy)
    except (TypeError, ValueError) as error:
        _refuse(str(path), name, f"cannot be read: {error}", "import the catalogue again")
    digest = hashlib.sha256(text).hexdigest()
    if digest != manifest.sha256:
        _refuse("catalog", name, "its file has changed since its import", "import it again")
    table = read_table(text.decode(), f"catalog {name!r}")
    return Catalog(
        name=name,
        rows=table.rows,
        zone_rows=table.zone_rows,
        left_out=table.left_out,
        as_of=datetime.fromisoformat(manifest.as_of),
        imported_at=datetime.fromisoformat(manifest.imported_at),
        source=manifest.source,
        sha256=digest,
    )


def list_catalogs(folder: Path) -> list[str]:
    """Returns the names of the kept catalogues, sorted."""
    return sorted(path.stem for path in folder.glob("*.json"))


def read_file(file: Path, name: str) -> Catalog:
    """Returns a catalogue that is read where it lies; its prices are as old as the file.

    Raises:
        InvalidInputError: it cannot be read, or holds what it may not.
    """
    try:
        data = file.read_bytes()
        as_of = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        text = data.decode()
    except OSError as error:
        what = error.strerror or "cannot be read"
        _refuse("catalogue file", str(file), what, "give a CSV file's path")
    except UnicodeDecodeError as error:
        _refuse("catalogue file", str(file), f"not UTF-8 text: {error.reason}", "give a CSV file")
    table = read_table(text, file.name)
    return Catalog(
        name=name,
        rows=table.rows,
        zone_rows=table.zone_rows,
        left_out=table.left_out,
        as_of=as_of,
        imported_at=None,
        source=file.name,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _write(path: Path, data: bytes) -> None:
    """Writes a whole file or none of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(data)
    draft.replace(path)


def _refuse(where: str, value: str, what: str, remedy: str) -> NoReturn:
    raise InvalidInputError([Problem(where=where, value=value, what=what, remedy=remedy)])
