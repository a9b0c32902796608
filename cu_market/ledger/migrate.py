"""Brings a ledger's tables up to date when it is opened; does nothing, quickly, when they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, select
from sqlalchemy.exc import DBAPIError

from cu_market.ledger.database import Database
from cu_market.ledger.errors import LedgerError
from cu_market.ledger.location import shown
from cu_market.ledger.schema import HEAD, VERSION

if TYPE_CHECKING:
    from alembic.config import Config

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


def move_to(database: Database, revision: str) -> None:
    """Moves the tables up or down to a revision, ``base`` for none, in one transaction.

    Going down drops what only newer revisions know. Every process that has the ledger open must
    have ended before.

    Raises:
        LedgerError: no such revision, the ledger is from a newer version, or cannot be used.
    """
    database.migrating(lambda connection: _move(connection, database, revision))


def revisions() -> list[str]:
    """Returns every revision that this version knows, the oldest first."""
    from alembic.script import ScriptDirectory

    found = ScriptDirectory.from_config(_config()).walk_revisions()
    return [script.revision for script in found][::-1]


def _upgrade(connection: Connection, database: Database) -> None:
    if _stored(connection, database) != HEAD:  # else another process was first
        _move(connection, database, HEAD)


def _stored(connection: Connection, database: Database) -> str | None:
    if not inspect(connection).has_table(VERSION.name, schema=database.dialect.schema):
        return None
    return connection.scalar(select(VERSION.c.version_num))


def _move(connection: Connection, database: Database, revision: str) -> None:
    # Imported here: a ledger that is up to date must open without Alembic's import time.
    from alembic import command

    stored = _stored(connection, database)
    known = revisions()
    for wanted in (stored, None if revision == "base" else revision):
        if wanted is not None and wanted not in known:
            raise LedgerError(
                f"ledger {shown(database.url)}: revision {wanted!r} is one that this version of "
                f"cu_market does not know (it knows {', '.join(known)}); upgrade cu_market, or "
                "configure another ledger url"
            )
    config = _config()
    config.attributes["connection"] = connection
    config.attributes["schema"] = database.dialect.schema
    is_down = revision == "base" or (stored or "") > revision
    (command.downgrade if is_down else command.upgrade)(config, revision)


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
