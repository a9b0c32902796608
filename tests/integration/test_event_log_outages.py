"""Entries of a run, written together to PostgreSQL, while it goes away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from dagster import DagsterInstance, EventLogEntry
from postgres_server import PASSWORD, PASSWORD_VARIABLE, PostgresServer, postgres_storage
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError, ProgrammingError

from cu_market.dagster_compat.event_storage import TRIES, connections_kept, store_entries

pytestmark = [pytest.mark.integration, pytest.mark.postgres, pytest.mark.timeout(240)]

RUN_ID = "11111111-2222-4333-8444-555555555555"
MESSAGES = ["first", "second", "third"]
WRITING = "FROM pg_stat_activity WHERE query LIKE 'INSERT INTO event_logs%' AND state = 'active'"


@pytest.fixture
def database(server: PostgresServer) -> str:
    return server.create_database()


@pytest.fixture
def instance(
    server: PostgresServer, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DagsterInstance]:
    storage = postgres_storage(server, database)
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n" + storage)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    with DagsterInstance.get() as instance, connections_kept(instance):
        yield instance


def entries() -> list[EventLogEntry]:
    return [
        EventLogEntry(
            error_info=None,
            level=20,
            user_message=message,
            run_id=RUN_ID,
            timestamp=time.time(),
            job_name="watched",
        )
        for message in MESSAGES
    ]


def told(instance: DagsterInstance) -> list[str]:
    return [entry.user_message for entry in instance.all_logs(RUN_ID)]


def test_what_a_lost_connection_was_writing_is_written_again(
    instance: DagsterInstance, server: PostgresServer, database: str
) -> None:
    with closing(
        psycopg2.connect(
            host=server.host,
            port=server.port,
            user="postgres",
            password=PASSWORD,
            dbname=database,
        )
    ) as other:
        other.cursor().execute("LOCK TABLE event_logs IN EXCLUSIVE MODE")
        writer = threading.Thread(target=store_entries, args=(instance, entries()), daemon=True)
        writer.start()
        while server.execute(f"SELECT count(*) {WRITING}") == [(0,)]:
            time.sleep(0.05)
        server.execute(f"SELECT pg_terminate_backend(pid) {WRITING}")
        other.rollback()
        writer.join()
    assert told(instance) == MESSAGES


def test_what_was_committed_before_the_connection_was_lost_is_there_once(
    instance: DagsterInstance,
) -> None:
    lost = []

    def lose(connection, cursor, statement, *_) -> None:
        if statement.startswith("INSERT INTO event_logs") and not lost:
            lost.append(statement)
            raise psycopg2.OperationalError("server closed the connection unexpectedly")

    event.listen(Engine, "after_cursor_execute", lose)
    try:
        store_entries(instance, entries())
    finally:
        event.remove(Engine, "after_cursor_execute", lose)
    assert lost
    assert told(instance) == MESSAGES


def test_an_outage_that_goes_on_is_told(instance: DagsterInstance) -> None:
    tried = []

    def lose(cursor, statement, *_) -> None:
        if statement.startswith("INSERT INTO event_logs"):
            tried.append(statement)
            raise psycopg2.OperationalError("server closed the connection unexpectedly")

    event.listen(Engine, "do_execute", lose)
    try:
        with pytest.raises(OperationalError):
            store_entries(instance, entries())
    finally:
        event.remove(Engine, "do_execute", lose)
    assert len(tried) == TRIES
    assert told(instance) == []


def test_any_other_refusal_is_told_at_once(
    instance: DagsterInstance, server: PostgresServer, database: str
) -> None:
    server.execute("ALTER TABLE event_logs RENAME TO elsewhere", database=database)
    with pytest.raises(ProgrammingError):
        store_entries(instance, entries())
