"""`cu-market catalog`: price catalogues imported from files, kept with their date."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cu_market.cli.options import Home, Json
from cu_market.cli.output import make_console, make_table, write_json
from cu_market.domain.problem import InvalidInputError, Problem

if TYPE_CHECKING:
    from cu_market.ral.catalog.store import Catalog

catalog_app = typer.Typer(
    name="catalog",
    help="Import and list price catalogues (CSV files with SkyPilot's columns).",
    no_args_is_help=True,
)


@catalog_app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The CSV file.")],
    name: Annotated[
        str | None, typer.Option("--name", help="Left out: the file's name without its ending.")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="When the prices held: 2026-07-01; or the file's.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Check a price catalogue and keep it, with its date. Nothing is fetched from anywhere."""
    from cu_market.cli.homes import find_folder
    from cu_market.ral.catalog.store import catalogs_folder, import_catalog

    now = datetime.now(UTC)
    folder = catalogs_folder(find_folder(home))
    catalog = import_catalog(
        folder, file, name or file.stem, now=now, as_of=_read_date(as_of, now) if as_of else None
    )
    if as_json:
        write_json(catalog_record(catalog))
        return
    console = make_console()
    console.print(
        f"Imported {len(catalog.rows)} rows of {catalog.source} as {catalog.name!r}, prices of "
        f"{catalog.as_of:%Y-%m-%d}. A provider uses them by `kind: catalog, catalog: "
        f"{catalog.name}`.",
        markup=False,
    )
    if catalog.zone_rows:
        console.print(
            f"{catalog.zone_rows} more are further zones of those types and regions: each type has "
            "the lowest prices of its region's zones."
        )
    if catalog.left_out:
        rows = [(str(count), reason.why) for reason, count in catalog.left_out.items()]
        console.print(make_table("Rows left out", ("rows", "why"), rows, right=("rows",)))


@catalog_app.command("list")
def list_imported(home: Home = None, as_json: Json = False) -> None:
    """List the imported catalogues with their dates."""
    from cu_market.cli.exits import NothingFoundError
    from cu_market.cli.homes import find_folder
    from cu_market.ral.catalog.store import catalogs_folder, list_catalogs, open_catalog

    folder = catalogs_folder(find_folder(home))
    records = [catalog_record(open_catalog(folder, name)) for name in list_catalogs(folder)]
    if not records:
        raise NothingFoundError("no catalogue yet: run `cu-market catalog import FILE`")
    if as_json:
        write_json({"catalogs": records})
        return
    columns = ("catalog", "rows", "left out", "regions", "prices of", "imported", "from")
    rows = [
        (
            record["catalog"],
            str(record["rows"]),
            str(sum(entry["rows"] for entry in record["left_out"])),
            str(len(record["regions"])),
            record["as_of"][:10],
            record["imported_at"][:10],
            record["source"],
        )
        for record in records
    ]
    right = ("rows", "left out", "regions")
    make_console().print(make_table("Price catalogues", columns, rows, right=right))


def catalog_record(catalog: Catalog) -> dict[str, Any]:
    """Returns a catalogue without its rows, ready for JSON."""
    return {
        "catalog": catalog.name,
        "rows": len(catalog.rows),
        "zone_rows": catalog.zone_rows,
        "left_out": [
            {"reason": str(reason), "rows": count, "why": reason.why}
            for reason, count in catalog.left_out.items()
        ],
        "regions": sorted({row.region for row in catalog.rows}),
        "gpu_types": sorted({row.gpu_type for row in catalog.rows if row.gpu_type}),
        "as_of": catalog.as_of.isoformat(),
        "imported_at": catalog.imported_at.isoformat() if catalog.imported_at else "",
        "source": catalog.source,
        "sha256": catalog.sha256,
    }


def _read_date(said: str, now: datetime) -> datetime:
    """Returns the beginning of that day in UTC, or that moment.

    Raises:
        InvalidInputError: not a date, or one in the future.
    """
    what = "not a date"
    try:
        read = datetime.fromisoformat(said)
    except ValueError:
        pass
    else:
        moment = read if read.tzinfo else read.replace(tzinfo=UTC)
        if moment <= now:
            return moment
        what = "in the future"
    remedy = "write a day that has passed, such as 2026-07-01"
    raise InvalidInputError([Problem(where="--as-of", value=said, what=what, remedy=remedy)])
