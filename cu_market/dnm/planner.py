"""The plan: construct, ask the solver if that is not proven good, check, keep the better.

Sets
    i in I            requests;  A  pairs (p, c) of which c waits for p
    F                 feasible pairs (i, b) of a request and a bid
    r in R            rooms: a capacity's cores, memory, GPUs; the units of a bid sold whole

Parameters (whole milliseconds and micro-dollars)
    e_ib              time of i on b, start-up and transfer included
    c_ib(w)           money, expected loss, and value of the delay after waiting w (``objective``)
    a_r,ib, Q_r(t)    what the pair holds of r;  what there is of it, more as leases end
    E_i, L_ib         earliest start;  latest end, a retry's time kept free where it may be needed
    M_i               penalty of leaving i unserved

Variables
    b_i, t_i          bid and start of i, or i is left unserved

Objective
    min  sum_{i served} c_i,b(i) (t_i - ready_i) + sum_{i unserved} M_i

Constraints
    ready             ready_i = max(E_i, max_{(p, i) in A} t_p + e_p,b(p)) <= t_i
    in time           t_i + e_i,b(i) <= L_i,b(i)
    room              sum_{i: t_i <= t < t_i + e_i,b(i)} a_r,ib <= Q_r(t)   for each r, moment t

Starts come of a construction. At given starts what is left is an integer program:
``programs.program`` states it whole; where there are more pairs ``selection`` solves its relaxation
in arrays, and states what is left of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cu_market.dnm.bounds.bound import floor_bound, lagrangian_bound
from cu_market.dnm.bounds.waiting import waiting_bound
from cu_market.dnm.colocation import plan_together, ties_of
from cu_market.dnm.explain import explain
from cu_market.dnm.given import Given
from cu_market.dnm.objective import Surcharges, no_surcharge
from cu_market.dnm.offers import OfferTable, RunningLease
from cu_market.dnm.placement.construction import Placement, Schedule, construct_best
from cu_market.dnm.placement.descent import descend
from cu_market.dnm.programs.linear import LinearSolver
from cu_market.dnm.programs.rows import assemble
from cu_market.dnm.programs.solve import Clock, Solver, SolverAnswer, no_clock, read_choice
from cu_market.dnm.standing import NOTHING_STANDS, Hold, Standing, seats
from cu_market.domain.bid import Bid
from cu_market.domain.plan import Award, Plan, Unserved
from cu_market.domain.problem import CUMarketError
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector

CONSTRUCTION = "construction"

LARGEST_TABLE = 2_000
"""Pairs that are handed to a solver at once where starts are given; more are selected in arrays."""

LARGEST_FREE_TABLE = 10_000
"""The same where starts are free: one program of so many is solved within a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Search:
    """Where the search stands: the best schedule so far, who found it, what is proven."""

    schedule: Schedule
    bound: int
    solver: str = CONSTRUCTION
    is_cut: bool = False
    is_bound_independent: bool = True
    build_seconds: float = 0.0
    solve_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Instance:
    """What a construction is to be improved with; see plan."""

    given: Given
    table: OfferTable
    surcharges: Surcharges
    solver: Solver
    limit_seconds: float
    gap: float
    fixed_starts: bool
    held: Mapping[int, Placement]
    clock: Clock

    def is_proven(self, schedule: Schedule, bound: int) -> bool:
        """Whether the gap between them is small enough."""
        return _is_proven(schedule, bound, self.gap)


def plan(
    requests: Sequence[ResourceRequest],
    bids: Sequence[Bid],
    capacities: Mapping[str, ResourceVector],
    *,
    solver: Solver | None,
    limit_seconds: float,
    gap: float = 0.01,
    fixed_starts: bool = False,
    running: Sequence[RunningLease] = (),
    standing: Mapping[str, Standing] = NOTHING_STANDS,
    surcharges: Surcharges = no_surcharge,
    clock: Clock = no_clock,
) -> Plan:
    """Returns which bid serves which request, when, and why the others lost.

    1. Put everything into canonical order, tell feasible pairs from others.
    2. Construct a schedule that fits; bound it from below by everyone's cheapest offer.
    3. If the gap between them is proven small enough, done: no solver is called.
    4. Else ask the solver, with the schedule's starts; make a schedule of whatever it answers.
    5. Recompute the bound from its duals, check the schedule from the records; keep the better.
    6. Say why every other bid lost.

    With free starts, the bound is that of step 2 or of waiting.py, since the program knows only its
    own starts.
    Requests that are kept together are planned at each location that may hold them: see colocation.
    A request that no bid could serve is unserved and costs nothing; one that found no room costs a
    penalty above ten of the dearest offers.

    Args:
        requests: any order; ids unique.
        bids: any order; ids unique.
        capacities: free room by capacity_id, from now on.
        solver: None leaves the construction as it is.
        limit_seconds: of the solver's work.
        gap: (objective - bound) / objective that is good enough.
        fixed_starts: every request starts at its earliest_start_ms, dependencies only say slack.
        running: what returns to a capacity later.
        standing: by request_id, where requests were placed before, with free starts: the plan is
            never worse than one that leaves them all there.
        surcharges: pure; what a pair costs beside its lease.
        clock: seconds, to report times and to end searches in arrays.

    Raises:
        InvalidInputError: see offers.tabulate.
        CUMarketError: the construction does not verify, which is a defect.
    """
    given = Given(
        requests=requests, bids=bids, capacities=capacities, running=running, standing=standing
    )
    ties = ties_of(requests, bids, standing)
    if ties:

        def plan_at(kept: Sequence[ResourceRequest], seconds: float) -> Plan:
            return plan(
                kept,
                bids,
                capacities,
                solver=solver if seconds > 0 else None,
                limit_seconds=seconds,
                gap=gap,
                fixed_starts=fixed_starts,
                running=running,
                standing=standing,
                surcharges=surcharges,
                clock=clock,
            )

        limit = limit_seconds if solver is not None else 0.0
        return plan_together(
            requests,
            ties,
            plan_at,
            lambda: floor_bound(given.table(surcharges)),
            limit_seconds=limit,
            gap=gap,
            clock=clock,
        )
    if fixed_starts and len(requests) * len(bids) > LARGEST_TABLE:
        from cu_market.dnm.selection.planner import plan_selection  # numpy: off the light path

        return plan_selection(
            requests,
            bids,
            capacities,
            solver=solver,
            limit_seconds=limit_seconds,
            gap=gap,
            running=running,
            surcharges=surcharges,
            clock=clock,
        )
    began = clock()
    table = given.table(surcharges)
    held = seats(table, standing, only=Hold.ALL)

    def check(schedule: Schedule) -> tuple[list[Award], list[Unserved], str]:
        awards, unserved = explain(table, schedule)
        return awards, unserved, given.wrong(awards, surcharges, fixed_starts=fixed_starts)

    first = construct_best(table, fixed_starts=fixed_starts, seated=held)
    if fixed_starts:
        first = descend(table, first)
    elif len(held) < len(standing):  # at a tie, all stays where it stands
        stays = construct_best(table, fixed_starts=False, seated=seats(table, standing))
        first = min(stays, first, key=lambda found: _rank(found, fixed_starts))
    search = _Search(schedule=first, bound=floor_bound(table), build_seconds=clock() - began)
    if solver is not None and not _is_proven(search.schedule, search.bound, gap):
        is_small = fixed_starts or len(requests) * len(bids) <= LARGEST_FREE_TABLE
        case = _Instance(
            given=given,
            table=table,
            surcharges=surcharges,
            solver=solver,
            limit_seconds=limit_seconds,
            gap=gap,
            fixed_starts=fixed_starts,
            held=held,
            clock=clock,
        )
        search = _improve(case, search) if is_small else _improve_in_arrays(case, search)
    awards, unserved, wrong = check(search.schedule)
    if wrong and search.schedule is not first:
        search = _Search(
            schedule=first,
            bound=search.bound,
            build_seconds=search.build_seconds,
            solve_seconds=search.solve_seconds,
        )
        awards, unserved, wrong = check(first)
    if wrong:
        raise CUMarketError(f"the plan does not verify: {wrong}; report it with the auction")
    return _plan_of(given, search, awards, unserved)


def _improve(case: _Instance, search: _Search) -> _Search:
    """Returns the search after the solver's answer, whatever that was."""
    table, solver = case.table, case.solver
    clock, is_fixed = case.clock, case.fixed_starts
    began = clock()
    data = assemble(table, search.schedule)
    asked = clock()
    answer = solver.solve(data, limit_seconds=case.limit_seconds, gap=case.gap)
    took = max(0.0, clock() - asked - answer.build_seconds)
    schedule, name = search.schedule, search.solver
    choice = read_choice(data, answer)
    if choice is not None:
        found = construct_best(table, fixed_starts=is_fixed, chosen=choice, seated=case.held)
        if is_fixed:
            found = descend(table, found)
        if _rank(found, is_fixed) < _rank(schedule, is_fixed):
            schedule, name = found, answer.solver or "solver"
    bound, is_independent = search.bound, True
    if is_fixed:
        bound = max(bound, lagrangian_bound(data, answer.duals))
        claimed = _claimed(answer, schedule.objective_microusd)
        if claimed > bound and not case.is_proven(schedule, bound):
            bound, is_independent = claimed, False
    else:
        bound = _bound_of_waiting(case, schedule, bound, case.limit_seconds - (clock() - asked))
    if bound > search.bound and name == CONSTRUCTION:
        name = f"{CONSTRUCTION}, bound by {answer.solver or 'solver'}"
    return _Search(
        schedule=schedule,
        bound=min(bound, schedule.objective_microusd),
        solver=name,
        is_cut=answer.is_cut and not case.is_proven(schedule, bound),
        is_bound_independent=is_independent,
        build_seconds=search.build_seconds + (asked - began) + answer.build_seconds,
        solve_seconds=took,
    )


def _improve_in_arrays(case: _Instance, search: _Search) -> _Search:
    """Returns the search after a choice at the schedule's starts in arrays: a program of so many
    pairs would take longer to build than there is."""
    from cu_market.dnm.selection.planner import choose_at  # numpy: off the light path

    began = case.clock()

    def left() -> float:
        return case.limit_seconds - (case.clock() - began)

    starts = {
        request.request_id: ready if placement is None else placement.start_ms
        for request, placement, ready in zip(
            case.table.requests,
            search.schedule.placements,
            search.schedule.ready_ms,
            strict=True,
        )
    }
    chosen, name, is_cut = choose_at(
        case.given,
        starts,
        case.surcharges,
        solver=case.solver,
        limit_seconds=left(),
        gap=case.gap,
        clock=case.clock,
    )
    schedule, found_by = search.schedule, search.solver
    found = construct_best(case.table, fixed_starts=False, chosen=chosen, seated=case.held)
    if _rank(found, False) < _rank(schedule, False):
        schedule, found_by = found, name
    bound = _bound_of_waiting(case, schedule, search.bound, left())
    return _Search(
        schedule=schedule,
        bound=min(bound, schedule.objective_microusd),
        solver=found_by,
        is_cut=is_cut and not case.is_proven(schedule, bound),
        build_seconds=search.build_seconds,
        solve_seconds=case.clock() - began,
    )


def _bound_of_waiting(case: _Instance, schedule: Schedule, bound: int, left_seconds: float) -> int:
    """Returns the larger of a bound and that of prices of waiting, where there is time for it."""
    is_done = bool(schedule.unserved_count) or case.is_proven(schedule, bound)
    if is_done or left_seconds <= 0 or not isinstance(case.solver, LinearSolver):
        return bound
    found = waiting_bound(case.table, schedule, case.solver, limit_seconds=left_seconds)
    return max(bound, found)


def _claimed(answer: SolverAnswer, objective: int) -> int:
    """The solver's own bound in whole micro-dollars, 0 if a known plan contradicts it.

    A solver's tolerance is relative: its bound is lowered by a millionth before it is rounded up.
    """
    value = answer.claimed_bound_microusd
    if value is None or not 0 < value <= objective * (1 + 1e-6) + 1:
        return 0
    lowered = value * (1 - 1e-6)
    return min(objective, -int(-lowered // 1))


def _is_proven(schedule: Schedule, bound: int, gap: float) -> bool:
    return schedule.objective_microusd - bound <= gap * schedule.objective_microusd


def _rank(schedule: Schedule, fixed_starts: bool) -> tuple[int, int]:
    """With free starts a request can always wait, so leaving one out is never an improvement."""
    return (0 if fixed_starts else schedule.unserved_count, schedule.objective_microusd)


def _plan_of(
    given: Given,
    search: _Search,
    awards: Sequence[Award],
    unserved: Sequence[Unserved],
) -> Plan:
    return Plan(
        awards=given.in_order(awards),
        unserved=given.in_order(unserved),
        objective_microusd=search.schedule.objective_microusd,
        bound_microusd=search.bound,
        is_bound_independent=search.is_bound_independent,
        solver=search.solver,
        is_cut=search.is_cut,
        build_ms=round(1000 * search.build_seconds),
        solve_ms=round(1000 * search.solve_seconds),
    )
