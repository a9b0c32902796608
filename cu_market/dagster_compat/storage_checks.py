"""Opens a step's storages without asking again whether they are migrated.

The run worker has opened the same storages before it started the step. Dagster's SQLite storages
load all of Alembic's revision files to compare one string: 35 to 80 ms of every forked step.

Its PostgreSQL storages each connect once to list all tables: 45 ms of every step together. They
leave that out where their configuration says so.

Private: check_alembic_revision of the SQLite run and schedule storages; the instance's reference
and its storages' ConfigurableClassData; seen in 1.13.27.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dagster._core.instance import InstanceRef
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from dagster._serdes import ConfigurableClassData

STORAGES = (
    "storage_data",
    "event_storage_data",
    "run_storage_data",
    "schedule_storage_data",
)
"""The parts of an instance's reference that tell of storages."""

_MODULES: tuple[Any, ...] = (sqlite_run_storage, sqlite_schedule_storage)


@contextmanager
def migrations_taken_as_done() -> Iterator[None]:
    """Within it, SQLite storages believe that they are at their newest revision."""
    originals = [module.check_alembic_revision for module in _MODULES]
    for module in _MODULES:
        module.check_alembic_revision = lambda *_: ("checked", "checked")
    try:
        yield
    finally:
        for module, original in zip(_MODULES, originals, strict=True):
            module.check_alembic_revision = original


def with_tables_taken_as_there(ref: InstanceRef) -> InstanceRef:
    """Returns a reference whose PostgreSQL storages do not ask whether their tables are there."""
    changed: dict[str, Any] = {}
    for name in STORAGES:
        data: ConfigurableClassData | None = getattr(ref, name)
        if data is not None and data.module_name.partition(".")[0] == "dagster_postgres":
            # Every JSON is YAML.
            config = {**data.config_dict, "should_autocreate_tables": False}
            changed[name] = data._replace(config_yaml=json.dumps(config))
    return ref._replace(**changed)
