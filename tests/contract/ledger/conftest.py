"""Every ledger: in memory, on SQLite, on PostgreSQL, and there behind a pooler."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cu_market.ledger.interface import Ledger
from cu_market.ledger.memory import InMemoryLedger
from cu_market.ledger.sql import open_ledger

KINDS = [
    "memory",
    "sqlite",
    pytest.param("postgres", marks=pytest.mark.postgres),
    pytest.param("pgbouncer", marks=pytest.mark.pgbouncer),
]


@pytest.fixture(params=KINDS)
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    if request.param == "memory":
        yield InMemoryLedger()
        return
    is_file = request.param == "sqlite"
    file = f"sqlite:///{tmp_path / 'ledger.db'}"
    url = file if is_file else request.getfixturevalue(f"{request.param}_url")
    opened = open_ledger(url)
    yield opened
    opened.close()
