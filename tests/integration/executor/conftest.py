"""Instances of their own homes, and runs of the suite's jobs in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dagster import DagsterInstance
from execution_record import Bench

HOME_CONFIG = """
telemetry: {enabled: false}
"""


def _bench(home: Path, storage: str) -> Iterator[Bench]:
    (home / "dagster.yaml").write_text(HOME_CONFIG + storage)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        with DagsterInstance.get() as instance:
            yield Bench(instance, home)


@pytest.fixture(scope="module")
def shared(
    tmp_path_factory: pytest.TempPathFactory, new_storage: Callable[[], str]
) -> Iterator[Bench]:
    """One instance for all tests of a module."""
    yield from _bench(tmp_path_factory.mktemp("home"), new_storage())


@pytest.fixture
def bench(tmp_path: Path, new_storage: Callable[[], str]) -> Iterator[Bench]:
    """An instance that nobody else has used."""
    home = tmp_path / "home"
    home.mkdir()
    yield from _bench(home, new_storage())
