"""Linear and integer programs through PuLP, on HiGHS inside this process.

PuLP builds the program; HiGHS runs on the live model, which is where duals and a start solution
can be had without writing files. No status is believed but that the time limit ended the search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from cu_market.dnm.programs.linear import LinearAnswer, LinearProgram

if TYPE_CHECKING:
    import pulp

    from cu_market.dnm.programs.growing import Entries

RELAXATION = {"presolve": "off", "simplex_scale_strategy": 4}
"""HiGHS's options for programs without integers. Presolve finds nothing in them and is not used
again once they grow; scaled by their largest coefficients they take half the time on rooms of
unlike amounts."""


def solve_linear(program: LinearProgram, *, limit_seconds: float, gap: float = 0.0) -> LinearAnswer:
    """Returns HiGHS's answer; a failure with its reason where there is none.

    Args:
        program: costs of any size: they are divided by a power of two for the solver.
        limit_seconds: the solver's own limit, which runs over by up to some tenths of a second.
        gap: relative, where an integer search may end.
    """
    import pulp
    from pulp.v4_migration import set_v4_migration_warnings

    set_v4_migration_warnings(False)  # pinned below 4, and only this folder would have to move
    try:
        return _run(program, limit_seconds=limit_seconds, gap=gap)
    except (pulp.PulpError, ImportError, RuntimeError, OSError, ValueError) as error:
        return LinearAnswer(failure=f"highs: {error!r}")


class LiveProgram:
    """A program that PuLP has built and HiGHS holds: solved again after it has grown.

    Args:
        program: the first columns and rows.
        gap: relative, where an integer search may end.

    Raises:
        ImportError: highspy is not installed.
    """

    def __init__(self, program: LinearProgram, *, gap: float = 0.0) -> None:
        import pulp
        from pulp.v4_migration import set_v4_migration_warnings

        set_v4_migration_warnings(False)
        self._scale = 1.0
        while max((abs(c) for c in program.costs), default=0) / self._scale > 2**20:
            self._scale *= 2
        problem, x, self._signs = _build(program, self._scale)
        solver = pulp.HiGHS(
            msg=False,
            gapRel=gap,
            gapAbs=0.0,
            threads=1,
            random_seed=0,
            **({} if program.integers else RELAXATION),
        )
        if not solver.available():
            raise ImportError("highspy is not installed")
        solver.createAndConfigureSolver(problem)
        solver.buildSolverModel(problem)
        self._model = problem.solverModel
        place = {variable.name: k for k, variable in enumerate(problem.variables())}
        self._place = [place[variable.name] for variable in x]
        self._rows = len(program.rows)
        if program.incumbent:
            known = [(self._place[k], value) for k, value in program.incumbent]
            self._model.setSolution(len(known), [k for k, _ in known], [v for _, v in known])

    def add_columns(self, costs: Sequence[float], upper: float, entries: Entries) -> None:
        """Adds columns; see Growing."""
        count, before = len(costs), self._model.getNumCol()
        self._place += range(before, before + count)
        self._model.addCols(
            count,
            [cost / self._scale for cost in costs],
            [0.0] * count,
            [upper] * count,
            len(entries.members),
            entries.begins,
            entries.members,
            entries.coefficients,
        )

    def add_rows(self, uppers: Sequence[float], entries: Entries) -> None:
        """Adds rows; see Growing."""
        import highspy

        count = len(uppers)
        self._model.addRows(
            count,
            [-highspy.kHighsInf] * count,
            list(uppers),
            len(entries.members),
            entries.begins,
            [self._place[k] for k in entries.members.tolist()],
            entries.coefficients,
        )
        self._signs += [(self._rows + k, 1) for k in range(count)]
        self._rows += count

    def remove_rows(self, rows: Sequence[int]) -> None:
        """Takes rows out; see Growing."""
        gone = set(rows)
        at = [k for k, (number, _) in enumerate(self._signs) if number in gone]
        self._model.deleteRows(len(at), at)
        kept = [number for number in range(self._rows) if number not in gone]
        anew = {number: k for k, number in enumerate(kept)}
        self._signs = [(anew[number], sign) for number, sign in self._signs if number in anew]
        self._rows = len(kept)

    def solve(self, *, limit_seconds: float) -> LinearAnswer:
        """Returns HiGHS's answer, warm from the last one."""
        import highspy

        model = self._model
        model.setOptionValue("time_limit", model.getRunTime() + limit_seconds)
        model.run()
        solution = model.getSolution()
        values = solution.col_value
        duals = [0.0] * self._rows
        for (number, _), dual in zip(self._signs, solution.row_dual, strict=False):
            duals[number] += dual * self._scale
        # Of an end that is "Unknown", values and duals are as good as any: both are checked.
        return LinearAnswer(
            solver="HiGHS",
            values=tuple(values[k] for k in self._place) if solution.value_valid else (),
            duals=tuple(duals) if solution.dual_valid else (),
            is_cut=model.getModelStatus() == highspy.HighsModelStatus.kTimeLimit,
        )


def _build(
    program: LinearProgram, scale: float
) -> tuple[pulp.LpProblem, list[pulp.LpVariable], list[tuple[int, int]]]:
    """Returns the program, its variables and each PuLP row's (row of the program, sense)."""
    import pulp

    integers = set(program.integers)
    problem = pulp.LpProblem("program", pulp.LpMinimize)
    x = [
        problem.add_variable(
            f"x_{k}", 0, upper, pulp.LpInteger if k in integers else pulp.LpContinuous
        )
        for k, upper in enumerate(program.uppers)
    ]
    problem.setObjective(
        pulp.LpAffineExpression([(x[k], c / scale) for k, c in enumerate(program.costs)])
    )
    signs: list[tuple[int, int]] = []
    for number, row in enumerate(program.rows):
        terms = [(x[k], a) for k, a in zip(row.columns, row.coefficients, strict=True)]
        sides = (
            [(pulp.LpConstraintEQ, row.lower)]
            if row.lower is not None and row.lower == row.upper
            else [(pulp.LpConstraintGE, row.lower), (pulp.LpConstraintLE, row.upper)]
        )
        for sense, limit in sides:
            if limit is not None:
                constraint = pulp.LpConstraint(pulp.LpAffineExpression(terms), sense, rhs=limit)
                problem.addConstraint(constraint, f"r_{len(signs)}")
                signs.append((number, sense))
    return problem, x, signs


def _run(program: LinearProgram, *, limit_seconds: float, gap: float) -> LinearAnswer:
    answer = LiveProgram(program, gap=gap).solve(limit_seconds=limit_seconds)
    return replace(answer, duals=()) if program.integers else answer
