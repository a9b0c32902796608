"""Linear and integer programs through PuLP, on HiGHS inside this process.

PuLP builds the program; HiGHS runs on the live model, which is where duals and a start solution
can be had without writing files. No status is believed but that the time limit ended the search.
"""

from __future__ import annotations

from cu_market.dnm.linear import LinearAnswer, LinearProgram


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


def _run(program: LinearProgram, *, limit_seconds: float, gap: float) -> LinearAnswer:
    import highspy
    import pulp

    scale = 1.0
    while max((abs(c) for c in program.costs), default=0) / scale > 2**20:
        scale *= 2
    integers = set(program.integers)
    problem = pulp.LpProblem("program", pulp.LpMinimize)
    x = [
        problem.add_variable(f"x_{k}", 0, upper, pulp.LpInteger if k in integers else "Continuous")
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
    solver = pulp.HiGHS(
        msg=False, gapRel=gap, gapAbs=0.0, threads=1, timeLimit=limit_seconds, random_seed=0
    )
    if not solver.available():
        raise ImportError("highspy is not installed")
    solver.createAndConfigureSolver(problem)
    solver.buildSolverModel(problem)
    model = problem.solverModel
    place = {variable.name: k for k, variable in enumerate(problem.variables())}
    if program.incumbent:
        known = [(place[f"x_{k}"], value) for k, value in program.incumbent]
        model.setSolution(len(known), [k for k, _ in known], [value for _, value in known])
    model.run()
    solution = model.getSolution()
    values = list(solution.col_value)
    duals = [0.0] * len(program.rows)
    if not integers:
        for (number, _), dual in zip(signs, solution.row_dual, strict=False):
            duals[number] += dual * scale
    has_values = model.getInfo().primal_solution_status == 2
    return LinearAnswer(
        solver="HiGHS",
        values=tuple(values[place[f"x_{k}"]] for k in range(len(x))) if has_values else (),
        duals=tuple(duals),
        is_cut=model.getModelStatus() == highspy.HighsModelStatus.kTimeLimit,
    )
