"""Tells where a Dagster instance keeps its runs, if that is a PostgreSQL.

Private: the instance's run storage and its postgres_url, the same for ``storage: postgres`` and for
a run storage configured by itself; dagster-postgres 0.29.27. Asked by attribute, so that nothing
of dagster-postgres is imported where it is not in use. And the run storage's configuration in the
instance's reference, in which what is named by ``{env: NAME}`` is still named only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster import DagsterInstance


def postgres_url_of(instance: DagsterInstance) -> str | None:
    """Returns the SQLAlchemy URL of an instance's PostgreSQL, secrets and all, or None."""
    url = getattr(instance.run_storage, "postgres_url", None)
    return url if isinstance(url, str) else None


def postgres_reference_of(instance: DagsterInstance) -> Mapping[str, Any] | None:
    """Returns how an instance's dagster.yaml names its PostgreSQL, or None where that is not known.

    The keys are Dagster's, ``postgres_url`` or ``postgres_db``; references are not followed.
    """
    if postgres_url_of(instance) is None:
        return None
    data = instance.get_ref().run_storage_data
    if data is None or data.module_name.partition(".")[0] != "dagster_postgres":
        return None
    config = data.config_dict
    named = {key: config[key] for key in ("postgres_url", "postgres_db") if config.get(key)}
    return named if named and not config.get("auth_provider") else None
