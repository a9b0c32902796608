"""What a solver is, and how much of its answer is believed: nothing that is not checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Protocol

from cu_market.dnm.programs.instance import ProgramData
from cu_market.dnm.programs.linear import LinearAnswer, LinearProgram

INTEGRALITY = 1e-5

Clock = Callable[[], float]
"""Seconds from any origin."""


def no_clock() -> float:
    """Returns 0: times are then reported as 0, and a search in arrays does not see its limit."""
    return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SolverAnswer:
    """What a solver says. Untrusted.

    Attributes:
        solver: ``HiGHS``, ``CBC``, or empty where none answered.
        values: value by column; zeros may be left out.
        duals: the linear relaxation's price by row, micro-dollars per unit, 0 or above.
        claimed_bound_microusd: the solver's own lower bound, or None.
        is_cut: the time limit ended the search.
        build_seconds: spent on building the model.
        failure: why there is no answer; empty where there is one.
    """

    solver: str = ""
    values: Mapping[int, float] = field(default_factory=dict)
    duals: Mapping[int, float] = field(default_factory=dict)
    claimed_bound_microusd: float | None = None
    is_cut: bool = False
    build_seconds: float = 0.0
    failure: str = ""


class Solver(Protocol):
    """Finds good values for a program within a limit.

    A failure is an answer with its reason, never an exception: the plan stands without a solver.
    """

    def solve(self, data: ProgramData, *, limit_seconds: float, gap: float) -> SolverAnswer:
        """Returns an answer after at most limit_seconds and a small grace.

        Args:
            data: the program.
            limit_seconds: work limit.
            gap: (objective - bound) / objective at which the search may end.
        """


class InProcessSolver:
    """Solves in the caller's own process. Its limit is the solver's own, which runs over.

    Args:
        clock: seconds, only to report how long building took.
    """

    def __init__(self, clock: Clock = no_clock) -> None:
        self._clock = clock

    def solve(self, data: ProgramData, *, limit_seconds: float, gap: float) -> SolverAnswer:
        """Returns the program's answer; imports PuLP on the first call."""
        from cu_market.dnm.programs.program import solve

        return solve(data, limit_seconds=limit_seconds, gap=gap, clock=self._clock)

    def solve_linear(
        self, program: LinearProgram, *, limit_seconds: float, gap: float = 0.0
    ) -> LinearAnswer:
        """Returns the program's answer; imports PuLP on the first call."""
        from cu_market.dnm.programs.linear_program import solve_linear

        return solve_linear(program, limit_seconds=limit_seconds, gap=gap)


def read_choice(data: ProgramData, answer: SolverAnswer) -> dict[int, int] | None:
    """Returns the bid index by request index that the answer's values say, rounded.

    Returns:
        None if the values are no choice: a value that is not 0 or 1, a column that does not exist,
        a request chosen twice, or nothing at all.
    """
    choice: dict[int, int] = {}
    for column, value in answer.values.items():
        if not (0 <= column < len(data.column_requests)) or not isfinite(value):
            return None
        if abs(value) <= INTEGRALITY:
            continue
        request = data.column_requests[column]
        if abs(value - 1) > INTEGRALITY or request in choice:
            return None
        choice[request] = data.column_bids[column]
    return choice or None


def answer_to_json(answer: SolverAnswer) -> dict[str, Any]:
    """Returns the answer, ready for JSON."""
    return {
        "solver": answer.solver,
        "values": [[column, value] for column, value in answer.values.items()],
        "duals": [[row, value] for row, value in answer.duals.items()],
        "claimed_bound_microusd": answer.claimed_bound_microusd,
        "is_cut": answer.is_cut,
        "build_seconds": answer.build_seconds,
        "failure": answer.failure,
    }


def answer_from_json(value: object) -> SolverAnswer:
    """Returns the answer read back.

    Raises:
        ValueError: it is not one.
    """
    if not isinstance(value, dict):
        raise ValueError(f"not a solver's answer: {type(value).__name__}, not an object")
    try:
        claimed = value["claimed_bound_microusd"]
        return SolverAnswer(
            solver=str(value["solver"]),
            values={int(column): float(x) for column, x in value["values"]},
            duals={int(row): float(x) for row, x in value["duals"]},
            claimed_bound_microusd=None if claimed is None else float(claimed),
            is_cut=bool(value["is_cut"]),
            build_seconds=float(value["build_seconds"]),
            failure=str(value["failure"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"not a solver's answer: {error!r}") from error
