"""Servers that tests may ask for: each starts its own from the system's binaries, or skips."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pgbouncer_server import PgBouncer, find_pgbouncer
from postgres_server import PostgresServer, find_binaries


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server of this session's own; see postgres_url for its databases."""
    if find_binaries() is None:
        pytest.skip("no PostgreSQL is installed here (Debian's package: postgresql)")
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a database that nobody else has used."""
    name = postgres.create_database()
    yield postgres.url(name)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def pgbouncer(postgres: PostgresServer) -> Iterator[PgBouncer]:
    """A pgbouncer in transaction mode before this session's server."""
    if find_pgbouncer() is None:
        pytest.skip("no pgbouncer is installed here (Debian's package: pgbouncer)")
    with PgBouncer(postgres) as pooler:
        yield pooler


@pytest.fixture
def pgbouncer_url(pgbouncer: PgBouncer) -> Iterator[str]:
    """The URL, through the pooler, of a database that nobody else has used."""
    name = pgbouncer.server.create_database()
    yield pgbouncer.url(name)
    pgbouncer.server.drop_database(name)
