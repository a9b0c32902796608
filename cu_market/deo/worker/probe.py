"""``python -m cu_market.deo.worker.probe``: tells, from a CU, what a step there would find.

Started by a provider in place of the worker, on the same channel: a JSON line asks, one answers,
until the channel closes.
Nothing of a secret is asked for or told: of variables, only whether they are set.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import platform
import socket
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

CHANNEL_FD_VARIABLE = "CU_MARKET_CHANNEL_FD"
PACKAGES = ("cu-market", "dagster", "dagster-postgres", "sqlalchemy", "psycopg2-binary")
CONNECT_SECONDS = 5.0


def answer(question: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what is found here.

    Args:
        question: ``modules`` to import, ``files`` of code, ``addresses`` ("host:port") to connect
            to, ``variables`` to look for, ``shared``: a file that was written elsewhere.
    """
    clock_us = time.time_ns() // 1000  # first: what follows takes time
    modules: Sequence[str] = question.get("modules", ())
    return {
        "clock_us": clock_us,
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in PACKAGES},
        "imports": {name: failure_of_import(name) for name in modules},
        "sources": {name: source_of_module(name) for name in modules}
        | {path: source_of_file(Path(path)) for path in question.get("files", ())},
        "addresses": {each: failure_of_connect(each) for each in question.get("addresses", ())},
        "missing_variables": [v for v in question.get("variables", ()) if v not in os.environ],
        "shared": read_text(question.get("shared", "")),
    }


def version_of(package: str) -> str:
    """Returns an installed package's version, or nothing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def failure_of_import(module: str) -> str:
    """Returns why a module cannot be imported, or nothing."""
    try:
        importlib.import_module(module)
    except BaseException:  # noqa: BLE001 - the user's import may raise anything, SystemExit too
        return traceback.format_exc(limit=-1).strip().splitlines()[-1]
    return ""


def source_of_module(module: str) -> str:
    """Returns a digest of the sources of a module's outermost package, or nothing."""
    try:
        spec = importlib.util.find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        return ""
    if spec is None or spec.origin is None:
        return ""
    origin = Path(spec.origin)
    return source_of_file(origin.parent if origin.name == "__init__.py" else origin)


def source_of_file(path: Path) -> str:
    """Returns a digest of a file, or of a directory's Python files and their names, or nothing."""
    digest = hashlib.sha256()
    found = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    try:
        for each in found:
            digest.update(each.relative_to(path.parent).as_posix().encode() + b"\0")
            digest.update(each.read_bytes() + b"\0")
    except OSError:
        return ""
    return digest.hexdigest()[:16]


def failure_of_connect(address: str) -> str:
    """Returns why an address cannot be connected to, or nothing."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def read_text(path: str) -> str | None:
    """Returns a short file's text, or None where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8")[:1000] if path else None
    except (OSError, UnicodeDecodeError):
        return None


def main() -> int:
    """Answers until the channel closes."""
    descriptor = os.environ.pop(CHANNEL_FD_VARIABLE, None)
    if descriptor is None:
        print(f"{__name__}: {CHANNEL_FD_VARIABLE} is not set", file=sys.stderr)
        return 2
    with socket.socket(fileno=int(descriptor)) as channel, channel.makefile("rb") as lines:
        sys.path.insert(0, os.getcwd())
        for line in lines:
            channel.sendall(json.dumps(answer(json.loads(line))).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
