"""Brings a ledger's tables up to date when it is opened; does nothing, quickly, when they are."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, select
from sqlalchemy.exc import DBAPIError

from cu_market.ledger.database import Database
from cu_market.ledger.interface import LedgerError
from cu_market.ledger.location import shown
from cu_market.ledger.schema import HEAD, VERSION

SCRIPTS = Path(__file__).parent / "migrations"


def bring_up_to_date(database: Database) -> None:
    """Leaves the tables at HEAD: one query when they are there, else Alembic under a lock.

    Raises:
        LedgerError: the ledger is from a newer version, or cannot be used.
    """
    if _stored_quickly(database) == HEAD:
        return
    database.migrating(lambda connection: _upgrade(connection, database))


def _stored_quickly(database: Database) -> str | None:
    """Returns the stored revision; None where the table is not there (or nothing can be read,
    which the migration then meets and explains)."""
    try:
        return database.read(lambda connection: connection.scalar(select(VERSION.c.version_num)))
    except LedgerError as error:
        if isinstance(error.__cause__, DBAPIError):
            return None
        raise


def _upgrade(connection: Connection, database: Database) -> None:
    stored = None
    if inspect(connection).has_table(VERSION.name, schema=database.dialect.schema):
        stored = connection.scalar(select(VERSION.c.version_num))
    if stored == HEAD:
        return  # another process was first
    # Imported here: a ledger that is up to date must open without Alembic's import time.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if stored is not None and stored not in known:
        raise LedgerError(
            f"ledger {shown(database.url)}: is at revision {stored!r}, which this version of "
            f"cu_market does not know (it knows up to {HEAD!r}); upgrade cu_market, or configure "
            "another ledger url"
        )
    config.attributes["connection"] = connection
    config.attributes["schema"] = database.dialect.schema
    command.upgrade(config, HEAD)
