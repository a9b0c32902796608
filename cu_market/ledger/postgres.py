"""PostgreSQL's ways: a schema of its own, row and advisory locks, no state kept in the session.

Nothing outlives a transaction on the server, so that a pooler that hands out a server connection
per transaction (pgbouncer's transaction mode) may stand between: no SET but SET LOCAL, advisory
locks of the transaction only, no prepared statement, no startup parameter that a pooler refuses,
tables named with their schema rather than found by a search path.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.schema import CreateSchema

from cu_market.ledger.dialects import BUSY_SECONDS
from cu_market.ledger.errors import LedgerError
from cu_market.ledger.location import shown

SCHEMA = "cu_market"

IDLE_SECONDS = 30.0
"""A transaction whose process has stopped for so long is ended by the server, and its locks go."""

_CONNECT = {
    "connect_timeout": "5",
    # A host that vanished without a word is found out within about half a minute.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "application_name": "cu_market",
}
_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_WRITE = (
    "BEGIN ISOLATION LEVEL READ COMMITTED; "
    f"SET LOCAL lock_timeout = {int(1000 * BUSY_SECONDS)}; "
    f"SET LOCAL idle_in_transaction_session_timeout = {int(1000 * IDLE_SECONDS)}"
)

_LOST_RACES = frozenset({"40001", "40P01", "53300"})
"""Serialization failure, deadlock, too many connections."""

_BUSY = "55P03"
"""A lock was not given within lock_timeout."""

_OUTAGES = ("08", "57P")
"""Beginnings of SQLSTATEs: connection exceptions; shut down, crashed, starting up."""

_REFUSED = re.compile(
    r"FATAL:(?!.*(the database system is|terminating connection|server_login|login has been|"
    r"cannot connect|shutting down|too many|timeout))",
    re.DOTALL,
)
"""What a server says that does answer and will not change its mind: password, database, rights."""


class PostgresDialect:
    """See dialects.Dialect."""

    is_serial = False
    schema: str | None = SCHEMA

    def engine(self, url: URL) -> Engine:
        """Returns an engine that keeps one idle connection; see Dialect.

        A connection is not tried before it is used: what turns out to be lost is done again.
        """
        try:
            engine = create_engine(
                url,
                pool_size=1,
                max_overflow=15,
                pool_timeout=BUSY_SECONDS,
                pool_reset_on_return=None,  # transaction() has committed or rolled back
                isolation_level="AUTOCOMMIT",  # transaction() says BEGIN and COMMIT itself
                connect_args={k: v for k, v in _CONNECT.items() if k not in url.query},
            )
        except ModuleNotFoundError as error:
            raise LedgerError(
                f"ledger {shown(url)}: no driver ({error}); pip install 'cu-market[postgres]'"
            ) from error
        return engine.execution_options(schema_translate_map={None: self.schema})

    @contextmanager
    def transaction(
        self, connection: Connection, *, is_write: bool, locks: tuple[str, ...] = ()
    ) -> Iterator[None]:
        """Begins, takes its locks, and commits unless the block raises; see Dialect.

        BEGIN, limits and locks are one message to the server; the driver's own BEGIN would be one
        more. The locks are a statement of their own among them, so that whatever the block reads
        is read after they were given.
        """
        begin = _WRITE if is_write else _READ
        try:
            connection.exec_driver_sql("; ".join([begin, *map(_lock, sorted(locks))]))
            yield
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise

    def prepare(self, connection: Connection) -> None:
        """Creates the schema unless it is there; see Dialect.

        Looked for first: IF NOT EXISTS asks for the right to create it even where it exists.
        """
        is_there = f"SELECT to_regnamespace('{SCHEMA}') IS NOT NULL"
        if not connection.exec_driver_sql(is_there).scalar():
            connection.execute(CreateSchema(SCHEMA))

    def is_contention(self, error: DBAPIError) -> bool:
        """Whether PostgreSQL gave up a deadlock or a serialization; see Dialect."""
        return _code(error) in _LOST_RACES

    def is_outage(self, error: DBAPIError) -> bool:
        """Whether the server went away or cannot be reached; see Dialect."""
        code = _code(error)
        if code:
            return code.startswith(_OUTAGES)
        if error.connection_invalidated:
            return True
        # Without a code: the driver's own words of a connection, or a mistake in a statement.
        is_of_connection = isinstance(error, (OperationalError, InterfaceError))
        return is_of_connection and not _REFUSED.search(str(error.orig))

    def explain(self, error: DBAPIError) -> str:
        """Returns what is wrong and what to do; see Dialect."""
        said = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else "no answer"
        if _code(error) == _BUSY:
            remedy = "another transaction holds it; see pg_stat_activity for one that does not end"
        elif self.is_outage(error):
            remedy = "check that the server is up and to be reached from here"
        else:
            remedy = f"check user, password and database, and that the user may use schema {SCHEMA}"
        return f"{said}; {remedy}"


def _lock(name: str) -> str:
    """Returns the statement that takes a lock which the commit gives back.

    Callers sort the names: one order for all, no deadlock among them.
    """
    digest = hashlib.sha256(f"cu_market:{name}".encode()).digest()
    return f"SELECT pg_advisory_xact_lock({int.from_bytes(digest[:8], 'big', signed=True)})"


def _roll_back(connection: Connection) -> None:
    """Rolls back; a connection on which that fails is given up, and the server rolls back."""
    if connection.invalidated:
        return
    try:
        connection.exec_driver_sql("ROLLBACK")
    except DBAPIError:
        connection.invalidate()


def _code(error: DBAPIError) -> str:
    """Returns the SQLSTATE, empty where the server said none."""
    return getattr(error.orig, "pgcode", None) or ""
