"""Where the ledger is: a URL, checked before anything is opened, never shown with its password."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from cu_market.domain.problem import InvalidInputError, Problem

POSTGRES_DRIVER = "psycopg2"

_WHERE = "ledger url"
_EXAMPLES = "write sqlite:////absolute/path/ledger.db or postgresql+psycopg2://user@host/database"


def ledger_url(dagster_home: str | None, configured: str | None) -> str:
    """Returns the configured URL, else that of ``<DAGSTER_HOME>/cu-market/ledger.db``.

    The folder is no importable name: code servers started in DAGSTER_HOME would find a folder
    ``cu_market`` there before the package.

    Raises:
        InvalidInputError: the URL cannot be used, or neither it nor DAGSTER_HOME is set, or
            DAGSTER_HOME is no directory.
    """
    if configured is not None and configured.strip():
        parse_url(configured.strip())
        return configured.strip()
    home = Path(dagster_home.strip()) if dagster_home and dagster_home.strip() else None
    if home is None:
        _refuse("DAGSTER_HOME", "", "not set", "set it to a directory, or configure the ledger url")
    if not home.is_absolute() or not home.is_dir():
        what = "not a directory" if home.is_absolute() else "not an absolute path"
        _refuse("DAGSTER_HOME", str(home), what, "create the directory and give its absolute path")
    if "?" in str(home):  # begins the query of a URL, and cannot be escaped in a file's name there
        remedy = "configure the ledger url, or move the directory"
        _refuse("DAGSTER_HOME", str(home), "a '?' cannot stand in a ledger's file name", remedy)
    file = home / "cu-market" / "ledger.db"
    return URL.create("sqlite", database=str(file)).render_as_string(hide_password=False)


def parse_url(text: str) -> URL:
    """Returns the URL of a database that a ledger can be kept in.

    Raises:
        InvalidInputError: not a URL, another database, or a SQLite file that is in memory or not
            named absolutely (each process would find another file).
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # The cause is left out: it quotes the URL, password and all.
        raise InvalidInputError(
            [Problem(where=_WHERE, value=_masked(text), what="not a URL", remedy=_EXAMPLES)]
        ) from None
    kind = url.get_backend_name()
    if kind not in ("sqlite", "postgresql"):
        _refuse(_WHERE, shown(url), f"{kind} keeps no ledger", _EXAMPLES)
    if kind == "postgresql":
        driver = url.drivername.partition("+")[2] or POSTGRES_DRIVER
        if driver != POSTGRES_DRIVER:
            remedy = f"write postgresql+{POSTGRES_DRIVER}://, which cu-market[postgres] installs"
            _refuse(_WHERE, shown(url), f"driver {driver} is not supported", remedy)
        # Said in full: what a bare postgresql:// means changes with SQLAlchemy 2.1.
        return url.set(drivername=f"postgresql+{POSTGRES_DRIVER}")
    if kind == "sqlite":
        path = url.database or ""
        if path in ("", ":memory:"):
            remedy = "name a file (four slashes: sqlite:////...), or use InMemoryLedger in a test"
            _refuse(_WHERE, shown(url), "a database in memory dies with its process", remedy)
        if not Path(path).is_absolute():
            what = "not an absolute path: each process would find another file"
            _refuse(_WHERE, shown(url), what, "write four slashes: sqlite:////absolute/ledger.db")
    return url


def shown(url: URL) -> str:
    """Returns the URL as messages may show it: the password hidden, the query left out."""
    return url.set(query={}).render_as_string(hide_password=True)


def _masked(text: str) -> str:
    """Returns only the scheme of what could not be parsed: the rest may hold a password."""
    scheme, separator, _ = text.partition("://")
    return f"{scheme}://..." if separator else "..."


def _refuse(where: str, value: str, what: str, remedy: str) -> NoReturn:
    raise InvalidInputError([Problem(where=where, value=value, what=what, remedy=remedy)])
