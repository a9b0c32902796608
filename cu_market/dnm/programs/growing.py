"""A linear program that grows and is solved again: columns and rows join, and rows may leave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from cu_market.dnm.programs.linear import LinearAnswer, LinearProgram, LinearRow, LinearSolver

Numbers = npt.NDArray[np.int64]
Coefficients = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """The nonzeros of a batch of rows, or of columns.

    Attributes:
        begins: where each one's entries begin.
        members: column numbers of rows, row numbers of columns.
        coefficients: as many as members.
    """

    begins: Numbers
    members: Numbers
    coefficients: Coefficients

    @classmethod
    def of(cls, parts: Sequence[tuple[Numbers, Coefficients]]) -> Entries:
        """Returns the entries of at least one row or column, each its members and coefficients."""
        ends = np.cumsum([len(members) for members, _ in parts])
        return cls(
            begins=np.append(0, ends[:-1]),
            members=np.concatenate([members for members, _ in parts]),
            coefficients=np.concatenate([coefficients for _, coefficients in parts]),
        )

    def __iter__(self) -> Iterator[tuple[list[int], list[float]]]:
        """Yields each one's members and coefficients."""
        ends = [*self.begins[1:].tolist(), len(self.members)]
        for begin, end in zip(self.begins.tolist(), ends, strict=True):
            yield self.members[begin:end].tolist(), self.coefficients[begin:end].tolist()


class Growing(Protocol):
    """A program that is kept, grows and is solved again."""

    def add_columns(self, costs: Sequence[float], upper: float, entries: Entries) -> None:
        """Adds columns between 0 and upper; their numbers go on from the count of those before."""

    def add_rows(self, uppers: Sequence[float], entries: Entries) -> None:
        """Adds rows, each at most its upper; their numbers go on from the count of those before."""

    def remove_rows(self, rows: Sequence[int]) -> None:
        """Takes rows out; those that stay are numbered anew, in their order."""

    def solve(self, *, limit_seconds: float) -> LinearAnswer:
        """Returns the answer to all that it has by now."""


@runtime_checkable
class OpensPrograms(Protocol):
    """A solver that keeps a program and solves it again after it has grown."""

    def open_program(self, program: LinearProgram) -> Growing:
        """Builds the program."""


class Rebuilt:
    """A program that grows here and is handed over whole each time, for a solver that keeps none.

    Args:
        program: the first columns and rows.
        solver: who solves.
    """

    def __init__(self, program: LinearProgram, solver: LinearSolver) -> None:
        self._program, self._solver = program, solver

    def add_columns(self, costs: Sequence[float], upper: float, entries: Entries) -> None:
        """Adds columns; see Growing."""
        old, first = self._program, len(self._program.costs)
        joined: dict[int, list[tuple[int, float]]] = {}
        for number, (rows, coefficients) in enumerate(entries, start=first):
            for row, amount in zip(rows, coefficients, strict=True):
                joined.setdefault(row, []).append((number, amount))
        rows_now = list(old.rows)
        for row, some in joined.items():
            rows_now[row] = replace(
                rows_now[row],
                columns=(*rows_now[row].columns, *(number for number, _ in some)),
                coefficients=(*rows_now[row].coefficients, *(amount for _, amount in some)),
            )
        self._program = replace(
            old,
            costs=(*old.costs, *costs),
            uppers=(*old.uppers, *[upper] * len(costs)),
            rows=tuple(rows_now),
        )

    def add_rows(self, uppers: Sequence[float], entries: Entries) -> None:
        """Adds rows; see Growing."""
        added = tuple(
            LinearRow(columns=tuple(columns), coefficients=tuple(coefficients), upper=upper)
            for upper, (columns, coefficients) in zip(uppers, entries, strict=True)
        )
        self._program = replace(self._program, rows=self._program.rows + added)

    def remove_rows(self, rows: Sequence[int]) -> None:
        """Takes rows out; see Growing."""
        gone = set(rows)
        kept = tuple(row for k, row in enumerate(self._program.rows) if k not in gone)
        self._program = replace(self._program, rows=kept)

    def solve(self, *, limit_seconds: float) -> LinearAnswer:
        """Returns the solver's answer to all of it."""
        return self._solver.solve_linear(self._program, limit_seconds=limit_seconds)
