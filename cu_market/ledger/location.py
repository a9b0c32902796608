"""Where the ledger is: a URL, or a reference to one; never shown with its password."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from cu_market.domain.problem import InvalidInputError, Problem

POSTGRES_DRIVER = "psycopg2"

_WHERE = "ledger url"
_EXAMPLES = "write sqlite:////absolute/path/ledger.db or postgresql+psycopg2://user@host/database"


Reference = str | Mapping[str, Any]
"""A URL, or where one is found: ``{"env": NAME}``, or Dagster's own ``{"postgres_url": ...}`` and
``{"postgres_db": {...}}``, any value of which may be ``{"env": NAME}``."""

_DEFAULTS = {"password": "", "port": 5432, "scheme": "postgresql"}


def follow(reference: Reference, where: str) -> str:
    """Returns the URL that a reference leads to in this process's environment.

    Args:
        reference: see Reference.
        where: its place, for messages.

    Raises:
        InvalidInputError: a variable that is not set, or another form.
    """
    if isinstance(reference, str):
        return reference
    if "env" in reference:
        return _value(reference, where)
    if "postgres_url" in reference:
        return _value(reference["postgres_url"], f"{where}.postgres_url")
    if "postgres_db" not in reference:
        _refuse(where, ", ".join(reference), "not a reference", "write a URL or {env: NAME}")
    said = {**_DEFAULTS, **reference["postgres_db"]}
    params = said.pop("params", {})
    place = f"{where}.postgres_db"
    found = {name: _value(value, f"{place}.{name}") for name, value in said.items()}
    missing = {"username", "hostname", "db_name"} - found.keys()
    if missing:
        _refuse(place, "", f"without {', '.join(sorted(missing))}", "write it")
    return URL.create(
        found["scheme"],
        username=found["username"],
        password=found["password"] or None,
        host=found["hostname"],
        port=int(found["port"]),
        database=found["db_name"],
        query={name: str(value) for name, value in params.items()},
    ).render_as_string(hide_password=False)


def secrets_in(reference: Reference) -> Iterator[str]:
    """Yields which parts of a reference are secrets written out."""
    if isinstance(reference, str):
        if _has_password(reference):
            yield "the URL's password"
    elif isinstance(reference.get("postgres_url"), str):
        yield from secrets_in(reference["postgres_url"])
    elif isinstance(reference.get("postgres_db"), Mapping):
        said = reference["postgres_db"]
        if isinstance(said.get("password"), str) and said["password"]:
            yield "password"
        if any("password" in name for name in said.get("params") or ()):
            yield "params"


def _has_password(text: str) -> bool:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        return True  # it cannot be told
    return bool(url.password) or any("password" in name for name in url.query)


def _value(value: Any, where: str) -> str:
    """Returns a value, a reference to the environment followed."""
    if not isinstance(value, Mapping):
        return str(value)
    name = str(value.get("env", ""))
    if not os.environ.get(name):
        what = "this environment variable is not set"
        remedy = "set it to what the ledger's URL needs, or leave ledger_url out"
        _refuse(f"{where}.env", name, what, remedy)
    return os.environ[name]


def ledger_url(dagster_home: str | None, configured: str | None) -> str:
    """Returns the configured URL, else that of ``<DAGSTER_HOME>/cu-market/ledger.db``.

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
    return URL.create("sqlite", database=str(ledger_file(home))).render_as_string(
        hide_password=False
    )


def ledger_file(home: Path) -> Path:
    """Returns where a home's ledger is unless its settings name another.

    The folder is no importable name: code servers started in DAGSTER_HOME would find a folder
    ``cu_market`` there before the package.
    """
    return home / "cu-market" / "ledger.db"


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
