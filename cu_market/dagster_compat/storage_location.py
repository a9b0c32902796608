"""Tells where a Dagster instance keeps its runs, if that is a PostgreSQL.

Private: the instance's run storage and its postgres_url, the same for ``storage: postgres`` and for
a run storage configured by itself; dagster-postgres 0.29.27. Asked by attribute, so that nothing
of dagster-postgres is imported where it is not in use.
"""

from __future__ import annotations

from dagster import DagsterInstance


def postgres_url_of(instance: DagsterInstance) -> str | None:
    """Returns the SQLAlchemy URL of an instance's PostgreSQL, secrets and all, or None."""
    url = getattr(instance.run_storage, "postgres_url", None)
    return url if isinstance(url, str) else None
