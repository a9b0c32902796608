"""Linear and integer programs through PuLP, on HiGHS inside this process.

PuLP builds the program; HiGHS runs on the live model, which is where duals and a start solution
can be had without writing files. No status is believed but that the time limit ended the search.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cu_market.dnm.programs.linear import LinearAnswer, LinearProgram

if TYPE_CHECKING:
    import pulp

RELAXATION = {"presolve": "off", "simplex_scale_strategy": 4}
"""HiGHS's options for programs without integers: presolve finds nothing in them, and scaled by
their largest coefficients they take half the time on rooms of unlike amounts."""


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
    except (pulp.PulpError, ImportError, RuntimeError, OSError, ValueError, MemoryError) as error:
        return LinearAnswer(failure=f"highs: {error!r}")


def _run(program: LinearProgram, *, limit_seconds: float, gap: float) -> LinearAnswer:
    import highspy
    import pulp

    scale = 1.0
    while max((abs(c) for c in program.costs), default=0) / scale > 2**20:
        scale *= 2
    problem, x, signs = _build(program, scale)
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
    model = problem.solverModel
    columns = {variable.name: k for k, variable in enumerate(problem.variables())}
    place = [columns[variable.name] for variable in x]
    if program.incumbent:
        known = [(place[k], value) for k, value in program.incumbent]
        model.setSolution(len(known), [k for k, _ in known], [v for _, v in known])
    model.setOptionValue("time_limit", max(0.0, limit_seconds))  # below 0 it would be none
    model.run()
    solution = model.getSolution()
    values = solution.col_value
    duals = [0.0] * len(program.rows)
    for (number, _), dual in zip(signs, solution.row_dual, strict=False):
        duals[number] += dual * scale
    # Of an end that is "Unknown", values and duals are as good as any: both are checked.
    return LinearAnswer(
        solver="HiGHS",
        values=tuple(values[k] for k in place) if solution.value_valid else (),
        duals=tuple(duals) if solution.dual_valid and not program.integers else (),
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
