"""Which DAGSTER_HOME a command works in, and the one that the demo makes for itself."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cu_market.cli.default_home import DAGSTER_YAML, WORKSPACE_YAML
from cu_market.cli.exits import CommandError
from cu_market.domain.problem import InvalidInputError, Problem

DEMO = "demo"
MARKER = ".cu_market_demo"
"""Only a directory that holds this file is ever emptied."""

LOCK = ".cu_market_lock"


def base_home() -> Path:
    """Returns $DAGSTER_HOME, else ./dagster_home; absolute."""
    return Path(os.environ.get("DAGSTER_HOME", "").strip() or "dagster_home").absolute()


def find_home(chosen: str | None) -> Path:
    """Returns the home of a deployment that a command reads, see find_folder.

    A folder without a dagster.yaml, in which no market has been, is none: there is nothing to tell
    of it, and opening its ledger would create one.

    Raises:
        InvalidInputError: it is no directory, or no deployment's.
    """
    from cu_market.ledger.location import ledger_file  # SQLAlchemy: only where a command runs

    home = find_folder(chosen)
    if not (home / "dagster.yaml").is_file() and not ledger_file(home).is_file():
        what = "no dagster.yaml in it, and no ledger of a market"
        remedy = (
            "name the home of your deployment, or write a dagster.yaml there as README.md shows; "
            "`cu-market demo` makes a home of its own"
        )
        raise InvalidInputError([_unusable(chosen, home, what, remedy)])
    return home


def find_folder(chosen: str | None) -> Path:
    """Returns the directory that is a home or may become one.

    The chosen one; else $DAGSTER_HOME; else the demo's, if it has run here; else ./dagster_home.

    Raises:
        InvalidInputError: it is no directory.
    """
    if chosen:
        home = Path(chosen).absolute()
    elif os.environ.get("DAGSTER_HOME", "").strip():
        home = base_home()
    else:
        demo = base_home() / DEMO
        home = demo if (demo / MARKER).is_file() else base_home()
    if not home.is_dir():
        remedy = "create it with a dagster.yaml, or run `cu-market demo` first"
        raise InvalidInputError([_unusable(chosen, home, "not a directory", remedy)])
    return home


def _unusable(chosen: str | None, home: Path, what: str, remedy: str) -> Problem:
    """Returns what is said of a home that cannot be used: with the value as it was written."""
    said = os.environ.get("DAGSTER_HOME", "").strip()
    if chosen or said:
        where, value = ("--home", chosen) if chosen else ("DAGSTER_HOME", said)
        is_elsewhere = value != str(home)
        what = f"{what}: {home}" if is_elsewhere else what
        return Problem(where=where, value=str(value), what=what, remedy=remedy)
    if home.is_dir():
        return Problem(
            where="DAGSTER_HOME", value="", what=f"not set; {home}: {what}", remedy=remedy
        )
    what = f"not set, and {home} does not exist"
    remedy = "set it, pass --home, or run `cu-market demo` first"
    return Problem(where="DAGSTER_HOME", value="", what=what, remedy=remedy)


def find_folder_or_none(chosen: str | None) -> Path | None:
    """Returns the directory as find_folder does, or None where none was chosen and there is none.

    Raises:
        InvalidInputError: one was chosen, by argument or variable, and is no directory.
    """
    is_chosen = bool(chosen or os.environ.get("DAGSTER_HOME", "").strip())
    return find_folder(chosen) if is_chosen or base_home().is_dir() else None


def prepare_demo_home(base: Path, *, is_fresh: bool) -> Path:
    """Returns <base>/demo with a dagster.yaml and a workspace.yaml of its own.

    The configuration is the base's where it has one. Fresh: what earlier demos have left (runs,
    ledger, history) is deleted first, so that the first run is one.

    Raises:
        InvalidInputError: the directory exists and is not the demo's.
        CommandError: another cu-market works in it.
    """
    home = base / DEMO
    if home.exists() and any(home.iterdir()) and not (home / MARKER).is_file():
        what = f"exists and is not a demo's (it has no {MARKER})"
        raise InvalidInputError(
            [
                Problem(
                    where="the demo's home",
                    value=str(home),
                    what=what,
                    remedy="move it away, or set DAGSTER_HOME or --home to another directory",
                )
            ]
        )
    home.mkdir(parents=True, exist_ok=True)
    (home / MARKER).touch()
    if is_fresh:
        with locked(home):
            _empty(home)
    config = base / "dagster.yaml"
    text = config.read_text() if config.is_file() else DAGSTER_YAML
    (home / "dagster.yaml").write_text(text)
    (home / "workspace.yaml").write_text(WORKSPACE_YAML)
    return home


def find_workspace(chosen: str | None, home: Path) -> Path:
    """Returns the workspace file: the chosen, ./workspace.yaml, or the one in the home.

    Raises:
        InvalidInputError: there is none.
    """
    looked = [Path(chosen)] if chosen else [Path("workspace.yaml"), home / "workspace.yaml"]
    for path in looked:
        if path.is_file():
            return path.absolute()
    raise InvalidInputError(
        [
            Problem(
                where="--workspace",
                value=", ".join(str(path) for path in looked),
                what="no such file",
                remedy="name your workspace.yaml",
            )
        ]
    )


def find_workspace_or_none(chosen: str | None, home: Path) -> Path | None:
    """Returns the workspace file as find_workspace does, or None where none was chosen or is.

    Raises:
        InvalidInputError: the chosen one is not there.
    """
    is_there = Path("workspace.yaml").is_file() or (home / "workspace.yaml").is_file()
    return find_workspace(chosen, home) if chosen or is_there else None


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Holds the home for one daemon of ours at a time.

    Raises:
        CommandError: another cu-market has it.
    """
    with (home / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise CommandError(
                f"{home} is in use by another cu-market (up or demo): stop it first, or name "
                "another directory with --home"
            ) from error
        yield


def _empty(home: Path) -> None:
    for entry in home.iterdir():
        if entry.name in (MARKER, LOCK):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
