"""Pods whose channel is a database of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from channel_pods import UPPER, Pod, Start, reference_of
from postgres_server import PASSWORD, PASSWORD_VARIABLE

from cu_market.deo.channel.carrier import DatabaseCarrier
from cu_market.ledger.location import Reference, follow
from cu_market.ledger.sql import open_ledger


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts pods on the ledger that a reference leads to."""
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    made: list[Any] = []

    def start(
        reference: Reference,
        code: str = UPPER,
        *,
        disconnect_seconds: float = 60,
        theirs: Reference | None = None,
    ) -> Pod:
        ledger = open_ledger(follow(reference, "ledger"))
        carrier = DatabaseCarrier(ledger.channels, reference)
        if theirs is not None:
            carrier.environment = DatabaseCarrier(ledger.channels, theirs).environment
        pod = Pod(
            carrier, code, disconnect_seconds=disconnect_seconds, log=tmp_path / f"{len(made)}.log"
        )
        made.extend([pod, ledger])
        return pod

    yield start
    for each in made:
        each.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def reference(request: pytest.FixtureRequest, tmp_path: Path) -> Reference:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    return reference_of(request.getfixturevalue("server"))
