"""The selection as an integer program: which bid serves which request, starts given.

Sets
    i in I        requests
    F             feasible pairs (i, b) of a request and a bid
    r in R        limits: one per room (a capacity's cores, memory, GPUs; a bid's units) and moment

Parameters (whole numbers)
    c_ib          micro-dollars: money, and the value of the delay that the bid brings
    M_i           micro-dollars: penalty of leaving i unserved
    a_r,ib        what the pair holds of r
    Q_r           what there is of r

Variables
    x_ib          binary, (i, b) in F: b serves i
    z_i >= 0      i is left unserved: the program is never infeasible, and z names the requests

Objective
    min  sum_F c_ib x_ib + sum_i M_i z_i

Constraints
    served once   sum_{b: (i,b) in F} x_ib + z_i = 1        for each i
    room          sum_{(i,b) in r} a_r,ib x_ib <= Q_r       for each r

The only module that knows PuLP, which is imported when it is called. HiGHS runs inside this process
(highspy), CBC is the fallback. The relaxation is solved first for its duals, from which a bound can
be recomputed independently; then the integer program on the same live model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cu_market.dnm.programs.instance import ProgramData, Row
from cu_market.dnm.programs.solve import Clock, SolverAnswer, no_clock

if TYPE_CHECKING:
    import pulp

LARGEST_COEFFICIENT = 2**20


def solve(
    data: ProgramData, *, limit_seconds: float, gap: float, clock: Clock = no_clock
) -> SolverAnswer:
    """Returns the answer of HiGHS, or of CBC where HiGHS is missing or fails.

    Args:
        data: the program.
        limit_seconds: the solver's own limit; it runs over by up to some tenths of a second.
        gap: where the search may end.
        clock: seconds, only to report how long building took.
    """
    import pulp
    from pulp.v4_migration import set_v4_migration_warnings

    set_v4_migration_warnings(False)  # pinned below 4, and only this module would have to move
    failures: list[str] = []
    for run in (_run_highs, _run_cbc):
        try:
            return run(data, limit_seconds=limit_seconds, gap=gap, clock=clock)
        except (pulp.PulpError, ImportError, RuntimeError, OSError, ValueError) as error:
            failures.append(f"{run.__name__.removeprefix('_run_')}: {error!r}")
    return SolverAnswer(failure="; ".join(failures))


def build(data: ProgramData) -> tuple[pulp.LpProblem, list[pulp.LpVariable]]:
    """Returns the program and x by column; names say request, bid and row by index."""
    import pulp

    problem = pulp.LpProblem("selection", pulp.LpMinimize)
    # PuLP writes variables by name to CBC and by first use to HiGHS: numbered names keep both.
    x = [
        problem.add_variable(f"x_{i}_{b}", 0, 1, pulp.LpBinary)
        for i, b in zip(data.column_requests, data.column_bids, strict=True)
    ]
    z = [problem.add_variable(f"z_{i}", 0) for i in range(len(data.penalties_microusd))]
    _set_objective(problem, data, x, z)
    _add_served_once(problem, data, x, z)
    for number, row in enumerate(data.rows):
        _add_room(problem, number, row, x)
    return problem, x


def _set_objective(
    problem: pulp.LpProblem,
    data: ProgramData,
    x: list[pulp.LpVariable],
    z: list[pulp.LpVariable],
) -> None:
    """Minimises sum_F c_ib x_ib + sum_i M_i z_i."""
    import pulp

    terms = [*zip(x, data.column_costs_microusd, strict=True)]
    terms += zip(z, data.penalties_microusd, strict=True)
    problem.setObjective(pulp.LpAffineExpression(terms))


def _add_served_once(
    problem: pulp.LpProblem,
    data: ProgramData,
    x: list[pulp.LpVariable],
    z: list[pulp.LpVariable],
) -> None:
    """Adds sum_b x_ib + z_i = 1 for each i."""
    import pulp

    terms: list[list[tuple[pulp.LpVariable, int]]] = [[(variable, 1)] for variable in z]
    for column, request in enumerate(data.column_requests):
        terms[request].append((x[column], 1))
    for i, members in enumerate(terms):
        problem.addConstraint(
            pulp.LpConstraint(pulp.LpAffineExpression(members), pulp.LpConstraintEQ, rhs=1),
            f"served_{i}",
        )


def _add_room(problem: pulp.LpProblem, number: int, row: Row, x: list[pulp.LpVariable]) -> None:
    """Adds sum_{(i,b) in r} a_r,ib x_ib <= Q_r, divided by a power of two if the numbers are large.

    A float holds such a quotient exactly; solvers' tolerances are absolute, so large numbers would
    make them strict beyond what arithmetic can give.
    """
    import pulp

    scale = scale_of(row)
    members = [
        (x[column], amount if scale == 1 else amount / scale)
        for column, amount in zip(row.columns, row.amounts, strict=True)
    ]
    problem.addConstraint(
        pulp.LpConstraint(
            pulp.LpAffineExpression(members), pulp.LpConstraintLE, rhs=row.limit / scale
        ),
        f"room_{number}",
    )


def scale_of(row: Row) -> int:
    """Returns the power of two that the row is divided by."""
    scale = 1
    while max(row.amounts, default=0) // scale > LARGEST_COEFFICIENT:
        scale *= 2
    return scale


def _run_highs(
    data: ProgramData, *, limit_seconds: float, gap: float, clock: Clock
) -> SolverAnswer:
    """Builds with PuLP, then runs the relaxation and the program on HiGHS's live model.

    The model's status is not read, except to tell that the time limit ended the search: HiGHS calls
    a time-out with a solution "optimal" once PuLP has translated it.
    """
    import highspy
    import pulp

    began = clock()
    problem, _ = build(data)
    solver = pulp.HiGHS(
        msg=False, gapRel=gap, gapAbs=0.5, threads=1, timeLimit=limit_seconds, random_seed=0
    )
    if not solver.available():
        raise ImportError("highspy is not installed")
    solver.createAndConfigureSolver(problem)
    solver.buildSolverModel(problem)
    model = problem.solverModel
    built = clock() - began
    order = {variable.name: k for k, variable in enumerate(problem.variables())}
    names = [
        order[f"x_{i}_{b}"] for i, b in zip(data.column_requests, data.column_bids, strict=True)
    ]
    model.setOptionValue("solve_relaxation", True)
    model.run()
    # HiGHS's dual of a <= row in a minimisation is the objective's slope in its limit: 0 or below.
    row_duals = list(model.getSolution().row_dual)[len(data.penalties_microusd) :]
    duals = {r: -dual / scale_of(data.rows[r]) for r, dual in enumerate(row_duals) if dual < -1e-9}
    model.setOptionValue("solve_relaxation", False)
    model.setOptionValue("time_limit", model.getRunTime() + limit_seconds)
    known = [names[column] for column in data.incumbent]
    model.setSolution(len(known), known, [1.0] * len(known))
    model.run()
    info = model.getInfo()
    values = list(model.getSolution().col_value)
    return SolverAnswer(
        solver="HiGHS",
        values={c: values[k] for c, k in enumerate(names) if values and abs(values[k]) > 1e-7},
        duals=duals,
        claimed_bound_microusd=float(info.mip_dual_bound),
        is_cut=model.getModelStatus() == highspy.HighsModelStatus.kTimeLimit,
        build_seconds=built,
    )


def _run_cbc(data: ProgramData, *, limit_seconds: float, gap: float, clock: Clock) -> SolverAnswer:
    """Runs the relaxation, then the program, each in CBC's own process with private files."""
    import tempfile

    import pulp

    with tempfile.TemporaryDirectory(prefix="cu-market-cbc-") as folder:
        common: dict[str, Any] = {"msg": False, "threads": 1, "timeLimit": limit_seconds}
        relaxed, _ = build(data)
        solver = pulp.PULP_CBC_CMD(mip=False, **common)
        solver.tmpDir = folder
        relaxed.solve(solver)
        prices = {r: relaxed.constraints[f"room_{r}"].pi for r in range(len(data.rows))}
        began = clock()
        problem, x = build(data)
        built = clock() - began
        solver = pulp.PULP_CBC_CMD(gapRel=gap, **common)
        solver.tmpDir = folder
        problem.solve(solver)
    values = {
        column: float(variable.varValue) for column, variable in enumerate(x) if variable.varValue
    }
    return SolverAnswer(
        solver="CBC",
        values=values,
        duals={r: -float(pi) / scale_of(data.rows[r]) for r, pi in prices.items() if pi and pi < 0},
        is_cut=problem.sol_status != pulp.LpSolutionOptimal,
        build_seconds=built,
    )
