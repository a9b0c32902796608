"""What is wrong with a provider's options, said so that it can be mended."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping

from pydantic import BaseModel
from pydantic_core import ErrorDetails, PydanticCustomError

from cu_market.domain.problem import Problem


def refuse(what: str, remedy: str) -> PydanticCustomError:
    """Returns an error whose context holds the remedy, for problem_of to take out again."""
    return PydanticCustomError("cu_market", "{what}", {"what": what, "remedy": remedy})


def reading(parse: Callable[[object], int], remedy: str) -> Callable[[object], int]:
    """Returns a validator that reads a value by parse and says the remedy when it cannot."""

    def read(value: object) -> int:
        try:
            return parse(value)
        except ValueError as error:
            raise refuse(str(error), remedy) from error

    return read


def problem_of(
    where: str,
    error: ErrorDetails,
    options: type[BaseModel],
    nested: Mapping[str, type[BaseModel]] | None = None,
    *,
    remedies: Mapping[str, str] | None = None,
    otherwise: str,
) -> Problem:
    """Returns what pydantic has found, with a remedy.

    Args:
        where: whose options.
        error: one finding.
        options: their model.
        nested: models of what stands below an option, by its name.
        remedies: by an option's path, or by pydantic's kind of error.
        otherwise: the remedy for all else.
    """
    path = ".".join(str(part) for part in error["loc"])
    remedies = remedies or {}
    value, what = str(error["input"]), error["msg"]
    remedy = remedies.get(path, remedies.get(error["type"], otherwise))
    if error["type"] == "cu_market":
        remedy = error["ctx"]["remedy"]
    elif error["type"] == "extra_forbidden":
        above = [part for part in error["loc"][:-1] if isinstance(part, str)]
        model = (nested or {}).get(above[-1], options) if above else options
        known = list(model.model_fields)
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        what = "no such option"
        remedy = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    elif error["type"] == "missing":
        value, what, remedy = "", "missing", f"write {error['loc'][-1]}"
    return Problem(where=f"{where}: {path}", value=value, what=what, remedy=remedy)
