"""How what takes too long interpreted is compiled: searches over schedules and over selections.

Nothing here is allocated by compiled code, so references are not counted (_nrt): counting them,
with an atomic instruction for each array that is named, took five sixths of a round.

Compiled code is kept on disk beside the sources (else in the user's cache folder, else not at all)
by its own text and that of every file of its folder, and of this one: what it calls stands in other
files, and would otherwise stay as it was first compiled. To compile takes some ten seconds, once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from numba import njit
from numpy.typing import NDArray

OPTIONS: dict[str, Any] = {"_nrt": False, "error_model": "numpy"}

Array = NDArray[Any]
F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compiles a function that other compiled ones call."""
    return cast(F, njit(**OPTIONS)(function))


def inlined(function: F) -> F:
    """The same, put in where it is called: its arguments are many arrays."""
    return cast(F, njit(**OPTIONS, inline="always")(function))


def kept_on_disk(function: F) -> F:
    """Compiles a function that is called from outside, and keeps it on disk where that can be.

    Args:
        function: closes over sources(), which makes that a part of its key.
    """
    assert function.__closure__, "without it, the files that it calls could change unseen"
    try:
        return cast(F, njit(**OPTIONS, cache=True)(function))
    except RuntimeError:  # neither folder can be written
        return compiled(function)


def sources(folder: Path) -> str:
    """Returns what compiled code depends on: a digest of every file there and below, and here."""
    found = hashlib.sha256()
    for top in (folder, Path(__file__).parent):
        for path in sorted(top.rglob("*.py")):
            found.update(path.read_bytes())
    return found.hexdigest()
