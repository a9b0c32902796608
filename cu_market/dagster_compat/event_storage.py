"""Writes a run's event log faster: engines and connections are kept, entries go together.

Dagster's SQLite event log makes a SQLAlchemy engine for every event it writes, and each new engine
asks the database for its dialect again; an engine of a NullPool holds no connection, so it can
be kept. Its PostgreSQL event log connects anew for every event: 15 ms each where an event over a
kept connection takes 1 ms. A run worker writes for all of its steps, so one connection is theirs.
Entries that arrive together and concern the run alone go into one transaction.

Private: create_engine of the SQLite event log, its run_connection and prepare_insert_event; the
PostgreSQL event log's _engine, _token_provider and prepare_insert_event_batch; seen in 1.13.27.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dagster import DagsterInstance, EventLogEntry
from dagster._core.events import (
    ASSET_CHECK_EVENTS,
    ASSET_EVENTS,
    EVENT_TYPE_TO_PIPELINE_RUN_STATUS,
)
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage

_MIRRORED = frozenset({*ASSET_EVENTS, *ASSET_CHECK_EVENTS, *EVENT_TYPE_TO_PIPELINE_RUN_STATUS})
"""Events that Dagster writes to its cross-run index too, one by one."""


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
    """Writes entries of one run to the event log, in order."""
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
    with storage.run_connection(batch[0].run_id) as connection:
        if _is_postgres(storage):
            # One statement, since its connection commits after each. Dagster also sends a NOTIFY
            # per event, to webservers of before it polled; those of this version poll.
            connection.execute(storage.prepare_insert_event_batch(batch))
            return
        for entry in batch:
            connection.execute(storage.prepare_insert_event(entry))


def _concerns_run_alone(entry: EventLogEntry) -> bool:
    event = entry.dagster_event
    return event is None or event.event_type not in _MIRRORED


def _is_postgres(storage: Any) -> bool:
    """Whether it is dagster-postgres's own class; nothing is imported to find out."""
    return type(storage).__module__.startswith("dagster_postgres.")


def _concrete(storage: Any) -> Any:
    """Returns the storage behind the wrapper that an instance of one file has."""
    return getattr(getattr(storage, "_storage", None), "event_log_storage", storage)
