"""What is wrong with an input, as data: what, where, the value, the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class CUMarketError(Exception):
    """Root of every error that cu_market raises on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing wrong with an input, said so that a person can mend it.

    Attributes:
        where: the place, as its author names it: ``op 'train': tag cu/memory``.
        value: what stood there, as written.
        what: what is wrong with it.
        remedy: what to write or do instead.
    """

    where: str
    value: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}={self.value!r}: {self.what}; {self.remedy}"


class InvalidInputError(CUMarketError):
    """Some input cannot be used. Carries every problem found, not only the first.

    Attributes:
        problems: at least one.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def require(condition: bool, where: str, value: object, what: str, remedy: str) -> None:
    """Raises InvalidInputError with one problem unless the condition holds."""
    if not condition:
        raise InvalidInputError([Problem(where=where, value=str(value), what=what, remedy=remedy)])
