"""What the whole suite shares: servers that tests may ask for, each started from the system's
binaries or skipped, and examples that no clock ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings
from pgbouncer_server import PgBouncer, find_pgbouncer
from postgres_server import (
    PASSWORD,
    PASSWORD_VARIABLE,
    PostgresServer,
    find_binaries,
    postgres_storage,
)

pytest_plugins = ["suite_counts"]

# How long an example takes says how busy the machine is, nothing of the example.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


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


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds ``--storage``: the whole suite of deployments runs on either."""
    parser.addoption(
        "--storage",
        choices=["sqlite", "postgres"],
        default="sqlite",
        help="where the tests' Dagster deployments keep their runs, events and ledger",
    )
    parser.addoption(
        "--steps",
        choices=["local", "kubernetes"],
        default="local",
        help="where the steps of the executor's suite run: here, or in pods (on PostgreSQL then)",
    )
    parser.addoption(
        "--channel",
        choices=["exec", "database"],
        default="exec",
        help="how pods of the executor's suite are reached",
    )


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--storage postgres`` whatever has a deployment is a test of PostgreSQL."""
    if config.getoption("--storage") == "postgres":
        for item in items:
            if {"new_storage", "new_deployment"} & set(getattr(item, "fixturenames", ())):
                item.add_marker("postgres")


@pytest.fixture(scope="session")
def new_storage(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """Returns, called, what to add to a dagster.yaml for storage that nobody else has used."""
    if request.config.getoption("--storage") == "sqlite":
        yield lambda: ""
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PASSWORD_VARIABLE, PASSWORD)
        yield lambda: postgres_storage(server, server.create_database())
