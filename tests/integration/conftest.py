"""What suites of several folders need."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from postgres_server import PostgresServer


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server that the test may kill, with nobody else connected."""
    try:
        started = PostgresServer()
    except LookupError as error:
        pytest.skip(str(error))
    with started:
        yield started
