"""Writes a run's event log faster where it is SQLite.

Dagster's SQLite event log makes a SQLAlchemy engine for every event it writes, and each new engine
asks the database for its dialect again; an engine of a NullPool holds no connection, so it can
be kept.
Entries that arrive together and concern the run alone go into one transaction.

Private: create_engine of the SQLite event log, its run_connection and prepare_insert_event; seen in
1.13.27.
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
def engines_kept() -> Iterator[None]:
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
    batch: list[EventLogEntry] = []
    for entry in entries:
        if isinstance(storage, SqliteEventLogStorage) and _concerns_run_alone(entry):
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
        for entry in batch:
            connection.execute(storage.prepare_insert_event(entry))


def _concerns_run_alone(entry: EventLogEntry) -> bool:
    event = entry.dagster_event
    return event is None or event.event_type not in _MIRRORED


def _concrete(storage: Any) -> Any:
    """Returns the storage behind the wrapper that an instance of one file has."""
    return getattr(getattr(storage, "_storage", None), "event_log_storage", storage)
