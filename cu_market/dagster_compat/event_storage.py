"""Writes a run's event log faster: engines and connections are kept, entries go together.

Dagster's SQLite event log makes a SQLAlchemy engine for every event it writes, and each new engine
asks the database for its dialect again; an engine of a NullPool holds no connection, so it can
be kept. Its PostgreSQL event log connects anew for every event: 15 ms each where an event over a
kept connection takes 1 ms. A run worker writes for all of its steps, so one connection is theirs.
Entries that arrive together and concern the run alone go into one transaction, and into the log
once also where PostgreSQL goes away and comes back while they are written.

Private: create_engine of the SQLite event log, its run_connection and prepare_insert_event; the
PostgreSQL event log's _engine, _token_provider, _event_to_row and prepare_insert_event_batch, and
the table of both; seen in 1.13.27.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dagster import DagsterInstance, EventLogEntry
from dagster._core.events import (
    ASSET_CHECK_EVENTS,
    ASSET_EVENTS,
    EVENT_TYPE_TO_PIPELINE_RUN_STATUS,
)
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

logger = logging.getLogger(__name__)

_MIRRORED = frozenset({*ASSET_EVENTS, *ASSET_CHECK_EVENTS, *EVENT_TYPE_TO_PIPELINE_RUN_STATUS})
"""Events that Dagster writes to its cross-run index too, one by one."""

TRIES = 3
"""How often a batch is written whose connection is lost: dagster-postgres waits about six seconds
each time for a server that is away."""


@contextmanager
def connections_kept(instance: DagsterInstance) -> Iterator[None]:
    """Within it, writing the event log opens nothing anew for each event."""
    storage = _concrete(instance.event_log_storage)
    with _connection_kept(storage) if _is_postgres(storage) else _engines_kept():
        yield


@contextmanager
def _connection_kept(storage: Any) -> Iterator[None]:
    """Within it, the PostgreSQL event log keeps one connection, tried before each use."""
    from dagster_postgres.utils import create_pg_engine

    original = storage._engine
    storage._engine = create_pg_engine(
        storage.postgres_url,
        storage._token_provider,
        isolation_level="AUTOCOMMIT",
        pool_size=1,
        pool_pre_ping=True,
    )
    try:
        yield
    finally:
        storage._engine.dispose()
        storage._engine = original


@contextmanager
def _engines_kept() -> Iterator[None]:
    """Within it, the SQLite event log keeps one engine for each of its files."""
    module: Any = sqlite_event_log
    original = module.create_engine
    engines: dict[str, Any] = {}

    def kept(url: str, **options: Any) -> Any:
        if url not in engines:
            engines[url] = original(url, **options)
        return engines[url]

    module.create_engine = kept
    try:
        yield
    finally:
        module.create_engine = original


def store_entries(instance: DagsterInstance, entries: Sequence[EventLogEntry]) -> None:
    """Writes entries of one run to the event log, in order.

    Raises:
        DBAPIError: the database refuses them, or its connection was lost again and again.
        DagsterPostgresException: the server cannot be reached.
    """
    storage = _concrete(instance.event_log_storage)
    takes_batches = isinstance(storage, SqliteEventLogStorage) or _is_postgres(storage)
    batch: list[EventLogEntry] = []
    for entry in entries:
        if takes_batches and _concerns_run_alone(entry):
            batch.append(entry)
            continue
        _write(storage, batch)
        batch = []
        instance.handle_new_event(entry)
    _write(storage, batch)


def _write(storage: Any, batch: Sequence[EventLogEntry]) -> None:
    if not batch:
        return
    if _is_postgres(storage):
        _write_once(storage, batch)
        return
    with storage.run_connection(batch[0].run_id) as connection:
        for entry in batch:
            connection.execute(storage.prepare_insert_event(entry))


def _write_once(storage: Any, batch: Sequence[EventLogEntry]) -> None:
    """Writes the batch; again where its connection is lost and the log has nothing of it.

    One statement, since the connection commits after each: all of it is there or nothing. Dagster
    also sends a NOTIFY per event, to webservers of before it polled; those of this version poll.
    """
    for tries in range(1, TRIES + 1):
        try:
            with storage.run_connection(batch[0].run_id) as connection:
                if tries == 1 or not _is_there(storage, connection, batch[-1]):
                    connection.execute(storage.prepare_insert_event_batch(batch))
                return
        except DBAPIError as error:
            if not error.connection_invalidated or tries == TRIES:
                raise
            logger.warning(
                "the connection was lost while %d entries were written: again", len(batch)
            )


def _is_there(storage: Any, connection: Any, entry: EventLogEntry) -> bool:
    """Whether the log has the entry: by its whole text, in which its moment is told."""
    table, row = SqlEventLogStorageTable.c, storage._event_to_row(entry)
    same = (table.run_id == row["run_id"]) & (table.event == row["event"])
    return connection.execute(select(table.id).where(same).limit(1)).first() is not None


def _concerns_run_alone(entry: EventLogEntry) -> bool:
    event = entry.dagster_event
    return event is None or event.event_type not in _MIRRORED


def _is_postgres(storage: Any) -> bool:
    """Whether it is dagster-postgres's own class; nothing is imported to find out."""
    return type(storage).__module__.startswith("dagster_postgres.")


def _concrete(storage: Any) -> Any:
    """Returns the storage behind the wrapper that an instance of one file has."""
    return getattr(getattr(storage, "_storage", None), "event_log_storage", storage)
