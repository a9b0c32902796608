"""All that differs between databases: engines, locks, and what their errors mean. SQLite's ways."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import QueuePool

from cu_market.ledger.errors import LedgerError
from cu_market.ledger.queue import WriterQueue

BUSY_SECONDS = 10.0
"""How long a transaction waits for others before the ledger says that it is busy."""


class Dialect(Protocol):
    """One database's ways.

    Attributes:
        is_serial: one transaction at a time in this process, on one connection.
        schema: schema that holds the tables, or None for the default.
    """

    is_serial: bool
    schema: str | None

    def engine(self, url: URL) -> Engine:
        """Returns an engine; nothing is connected yet."""

    def transaction(
        self, connection: Connection, *, is_write: bool, locks: tuple[str, ...] = ()
    ) -> AbstractContextManager[None]:
        """Returns a transaction on one consistent state, committed unless the block raises.

        Args:
            locks: names; every other transaction that locks one of them is held back until the
                commit.
        """

    def prepare(self, connection: Connection) -> None:
        """Makes room for the tables; called under the lock ``migration``."""

    def is_contention(self, error: DBAPIError) -> bool:
        """Whether the same transaction may succeed when it is tried again at once."""

    def is_outage(self, error: DBAPIError) -> bool:
        """Whether the database was lost or is not to be reached, and may come back."""

    def explain(self, error: DBAPIError) -> str:
        """Returns what is wrong and what to do about it."""


def dialect_of(url: URL) -> Dialect:
    """Returns the ways of the URL's database."""
    if url.get_backend_name() == "postgresql":
        from cu_market.ledger.postgres import PostgresDialect

        return PostgresDialect()
    return SqliteDialect(url)


class SqliteDialect:
    """One file, one writer: WAL, synchronous=FULL, BEGIN IMMEDIATE for what writes."""

    is_serial = True
    schema: str | None = None

    def __init__(self, url: URL) -> None:
        self._queue = WriterQueue(Path(f"{url.database}-queue"), BUSY_SECONDS)

    def engine(self, url: URL) -> Engine:
        """Returns an engine of one connection; see Dialect."""
        check_file(url)
        engine = create_engine(
            url,
            poolclass=QueuePool,
            pool_size=1,
            max_overflow=0,
            pool_reset_on_return=None,  # transaction() has committed or rolled back
            connect_args={"isolation_level": None, "check_same_thread": False, "timeout": 0.0},
        )
        event.listen(engine, "connect", _set_up_sqlite)
        return engine

    @contextmanager
    def transaction(
        self, connection: Connection, *, is_write: bool, locks: tuple[str, ...] = ()
    ) -> Iterator[None]:
        """Begins, and commits unless the block raises; see Dialect.

        No name needs a lock of its own: BEGIN IMMEDIATE holds every other writer back.
        """
        with self._queue.turn() if is_write else nullcontext(), connection.begin():
            statement = "BEGIN IMMEDIATE" if is_write else "BEGIN"
            driver: Any = connection.connection.driver_connection
            try:
                driver.execute(statement)  # past SQLAlchemy, which takes ten times as long for it
            except sqlite3.Error as error:
                raise OperationalError(statement, None, error) from error
            yield

    def prepare(self, connection: Connection) -> None:
        """Does nothing: a file has no schemas; see Dialect."""

    def is_contention(self, error: DBAPIError) -> bool:
        """Whether SQLite said busy; see Dialect."""
        return _is_busy(error.orig)

    def is_outage(self, error: DBAPIError) -> bool:
        """Never: a file is there or it is not; see Dialect."""
        return False

    def explain(self, error: DBAPIError) -> str:
        """Returns what is wrong and what to do; see Dialect."""
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        remedies = {
            sqlite3.SQLITE_BUSY: "other processes hold it; see who has the file open",
            sqlite3.SQLITE_READONLY: "it is read-only: make the file and its directory writable "
            "for this user",
            sqlite3.SQLITE_CANTOPEN: "it cannot be opened: make its directory writable for this "
            "user",
            sqlite3.SQLITE_FULL: "the disk is full: free some space",
            sqlite3.SQLITE_NOTADB: "the file is not a SQLite database: name another file",
            sqlite3.SQLITE_CORRUPT: "the file is damaged: restore it from a backup, or move it "
            "away to start anew",
            sqlite3.SQLITE_IOERR: "the disk or file system failed: SQLite needs a local one",
        }
        return f"{error.orig}; {remedies.get(code, 'see the database error above')}"


def check_file(url: URL) -> None:
    """Makes the file's own directory if only that is missing.

    Raises:
        LedgerError: the directory above is missing too, or file or directory is read-only.
    """
    file = Path(str(url.database))
    directory = file.parent
    try:
        directory.mkdir(exist_ok=True)
    except OSError as error:
        reason = f"directory {directory} cannot be made ({error.strerror})"
        raise LedgerError(
            f"ledger file {file}: {reason}; create it, or configure another ledger url"
        ) from error
    if file.is_dir():
        raise LedgerError(f"ledger file {file}: is a directory; name a file in it")
    blocked = file if file.exists() and not os.access(file, os.W_OK) else directory
    if not os.access(blocked, os.W_OK):
        raise LedgerError(
            f"ledger file {file}: {blocked} is read-only; make the file and its directory writable "
            "for this user, or configure another ledger url"
        )


def _set_up_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute(f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}")
    # The first two to open a new file may meet here; one then answers "busy" at once, and the
    # transaction is tried again.
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")


def _is_busy(error: BaseException | None) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
