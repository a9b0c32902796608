"""A linear or integer program as plain numbers, ready to cross to another process as JSON.

What a solver answers is untrusted: whoever asks must check it in whole numbers. Values are made
schedules by code that cannot break a rule, duals are made bounds by weak duality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearRow:
    """lower <= sum of coefficients[k] * x[columns[k]] <= upper; None leaves a side open."""

    columns: tuple[int, ...]
    coefficients: tuple[float, ...]
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearProgram:
    """min sum of costs[k] * x[k], 0 <= x[k] <= uppers[k].

    Attributes:
        costs: one per column.
        uppers: one per column; None for no limit.
        rows: the constraints.
        integers: columns that must be whole.
        incumbent: a known solution's columns and values; others are 0.
    """

    costs: tuple[float, ...]
    uppers: tuple[float | None, ...]
    rows: tuple[LinearRow, ...]
    integers: tuple[int, ...] = ()
    incumbent: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearAnswer:
    """What a solver says. Untrusted.

    Attributes:
        solver: its name; empty where none answered.
        values: one per column; empty where there is no solution.
        duals: one per row; empty where there are none, as for a program with integers.
        is_cut: the time limit ended the search.
        failure: why there is no answer; empty where there is one.
    """

    solver: str = ""
    values: tuple[float, ...] = ()
    duals: tuple[float, ...] = ()
    is_cut: bool = False
    failure: str = ""


@runtime_checkable
class LinearSolver(Protocol):
    """Solves linear and integer programs within a limit; a failure is an answer."""

    def solve_linear(
        self, program: LinearProgram, *, limit_seconds: float, gap: float = 0.0
    ) -> LinearAnswer:
        """Returns an answer after at most limit_seconds and a small grace."""


def program_to_json(program: LinearProgram) -> dict[str, Any]:
    """Returns the program, ready for JSON. Its tuples are shared: asdict would copy each number."""
    rows = [{f.name: getattr(row, f.name) for f in fields(row)} for row in program.rows]
    return {f.name: getattr(program, f.name) for f in fields(program)} | {"rows": rows}


def program_from_json(value: Mapping[str, Any]) -> LinearProgram:
    """Returns the program read back.

    Raises:
        ValueError: something is missing or is not a number.
    """
    try:
        return LinearProgram(
            costs=tuple(float(c) for c in value["costs"]),
            uppers=tuple(None if u is None else float(u) for u in value["uppers"]),
            rows=tuple(
                LinearRow(
                    columns=tuple(int(c) for c in row["columns"]),
                    coefficients=tuple(float(a) for a in row["coefficients"]),
                    lower=None if row["lower"] is None else float(row["lower"]),
                    upper=None if row["upper"] is None else float(row["upper"]),
                )
                for row in value["rows"]
            ),
            integers=tuple(int(c) for c in value["integers"]),
            incumbent=tuple((int(c), float(x)) for c, x in value["incumbent"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a linear program: {error!r}") from error


def linear_answer_to_json(answer: LinearAnswer) -> dict[str, Any]:
    """Returns the answer, ready for JSON."""
    return asdict(answer)


def linear_answer_from_json(value: object) -> LinearAnswer:
    """Returns the answer read back.

    Raises:
        ValueError: it is not one.
    """
    if not isinstance(value, dict):
        raise ValueError(f"not a solver's answer: {type(value).__name__}, not an object")
    try:
        return LinearAnswer(
            solver=str(value["solver"]),
            values=tuple(float(x) for x in value["values"]),
            duals=tuple(float(y) for y in value["duals"]),
            is_cut=bool(value["is_cut"]),
            failure=str(value["failure"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a solver's answer: {error!r}") from error
