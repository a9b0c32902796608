"""What PostgreSQL and its pooler say, sorted: try again at once, wait for it, or give up."""

from __future__ import annotations

import psycopg2
import pytest
from sqlalchemy.exc import OperationalError, ProgrammingError

from cu_market.ledger.postgres import PostgresDialect


def error(said: str, *, is_lost: bool = False) -> OperationalError:
    cause = psycopg2.OperationalError(said)
    return OperationalError("statement", None, cause, connection_invalidated=is_lost)


HEAD = 'connection to server at "127.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    "said",
    [
        HEAD + "Connection refused\n\tIs the server running on that host?",
        HEAD + "timeout expired",
        HEAD + "FATAL:  the database system is starting up",
        HEAD + "FATAL:  the database system is shutting down",
        HEAD + "FATAL:  server login has been failing, try again later (server_login_retry)",
        HEAD + "FATAL:  pgbouncer cannot connect to server",
        "server closed the connection unexpectedly",
    ],
)
def test_what_may_come_back_is_an_outage(said: str) -> None:
    assert PostgresDialect().is_outage(error(said))
    assert "check that the server is up" in PostgresDialect().explain(error(said))


@pytest.mark.parametrize(
    "said",
    [
        HEAD + 'FATAL:  password authentication failed for user "dagster"',
        HEAD + 'FATAL:  database "dagster" does not exist',
        HEAD + 'FATAL:  no pg_hba.conf entry for host "10.0.0.1"',
    ],
)
def test_what_will_not_change_is_none(said: str) -> None:
    assert not PostgresDialect().is_outage(error(said))
    assert "check user, password and database" in PostgresDialect().explain(error(said))


def test_a_mistake_in_a_statement_is_none() -> None:
    cause = psycopg2.ProgrammingError("can't adapt type 'object'")
    assert not PostgresDialect().is_outage(ProgrammingError("statement", None, cause))


def test_a_connection_that_was_lost_is_an_outage_whatever_was_said() -> None:
    assert PostgresDialect().is_outage(error("FATAL:  who knows", is_lost=True))
