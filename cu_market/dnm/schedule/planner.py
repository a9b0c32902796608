"""The joint plan: construct, bound, search, recombine, verify; the best so far at any time.

Sets
    i in I            tasks;  A  pairs (p, c) of which c waits for p
    j in J            machine types;  k in K  CUs that are had, any number

Parameters (whole milliseconds, micro-dollars, milli-cores, bytes)
    d_ij              time of i on j;  E_i, L_i  its earliest start and latest end
    load_i            what i holds while it runs;  cap_j  what a CU of j has
    bill_j(x)         price of j x max(start-up + x, minimum), in whole billing steps

Variables
    j_k               type of k
    k_i, t_i          CU and start of i;  e_i = t_i + d_i,j(k_i)  its end

Objective
    min  sum_k bill_j(k) (max_{i on k} e_i - min_{i on k} t_i)

Constraints
    precedence        e_p <= t_c                                            for each (p, c) in A
    window            E_i <= t_i,  e_i <= min(L_i, deadline)                for each i
    room              sum_{i on k: t_i <= t < e_i} load_i <= cap_j(k)       for each k, moment t

Too large to be handed to a solver whole: tasks share CUs side by side and one after another, and
how many CUs there are is open. So starts and CUs are searched; a linear and an integer program
improve them over all tasks at once (``retiming``: all starts; ``recombination``: all CUs that good
schedules had), and the bound is the time-indexed relaxation's (``relaxation``, ``certificate``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cu_market.dnm.programs.linear import LinearSolver
from cu_market.dnm.programs.solve import Clock, no_clock
from cu_market.dnm.schedule.bundle import Catalogue
from cu_market.dnm.schedule.construction import INSERTION, constructions
from cu_market.dnm.schedule.joint_plan import JointPlan, PlannedCU, PlannedStay
from cu_market.dnm.schedule.packing import Packing, empty
from cu_market.dnm.schedule.recombination import recombined
from cu_market.dnm.schedule.relaxation import bound_microusd
from cu_market.dnm.schedule.retiming import retimed
from cu_market.dnm.schedule.verify import flaws
from cu_market.dnm.schedule.workload import Workload
from cu_market.domain.problem import CUMarketError

ROUNDS_A_SECOND = 50_000
TRIALS = 6
"""Short searches, each with draws of its own: how many CUs a plan ends with is a matter of luck."""

TRIAL_SHARE = 0.08
LEGS = 2
LEG_SHARE = 0.2
"""Of the limit; what is left of it then is the solver's."""

RECOMBINED = 1500
RECOMBINATION_SHARE = 0.12
SOLVER_OVERRUN_SECONDS = 0.3
"""A solver's own limit runs over by as much: so long before the end none is asked."""

CONSTRUCTION_SHARE = 0.2
"""Of the limit; what insertion needs is taken in any case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a plan may take.

    Attributes:
        limit_seconds: of everything.
        rounds: of the search: the work limit, so that equal input gives equal plans. Left out, as
            many as a quick machine does in that time.
        gap: (cost - bound) / cost at which the search ends.
    """

    limit_seconds: float = 5.0
    rounds: int | None = None
    gap: float = 0.005

    @property
    def work_limit(self) -> int:
        """Rounds at most."""
        if self.rounds is None:
            return round(ROUNDS_A_SECOND * self.limit_seconds)
        return self.rounds


def plan_workload(
    workload: Workload,
    *,
    solver: LinearSolver | None,
    budget: Budget | None = None,
    clock: Clock = no_clock,
) -> JointPlan:
    """Returns the cheapest schedule that was found, verified, with a proven bound.

    1. Leave out tasks that no type holds or that cannot end in time even with every CU at once.
    2. Construct: insertion, one machine of each type, pools; take the cheapest.
    3. Prove a lower bound from the time-indexed relaxation's duals.
    4. Search large neighbourhoods until the rounds, the clock or the gap end it; on the way, choose
       anew among all the CUs of good schedules by an integer program.
    5. Check the schedule from the records; a schedule that fails gives way to the constructed one.

    Args:
        workload: tasks, machines, deadline.
        solver: for 3 and 4's program; None leaves the bound weak and the choice to the search.
        budget: limits.
        clock: seconds; without one only the rounds end the search.

    Raises:
        CUMarketError: the construction does not verify, which is a defect.
    """
    from cu_market.dnm.schedule.search import warm  # numba: off the light path

    limits = budget or Budget()
    warm()
    began = clock()

    is_late = _over(clock, began, CONSTRUCTION_SHARE * limits.limit_seconds)
    served, made = _construct(_canonical(workload), is_late)
    starts = [packing for _, packing in made]
    first = starts[0]
    catalogue = first.catalogue
    kept = {task.task_id for task in served.tasks}
    unplaced = tuple(t.task_id for t in workload.tasks if t.task_id not in kept)
    constructed = clock()
    bound = 0
    if served.tasks:
        left = max(0.1, 0.4 * limits.limit_seconds)
        bound = bound_microusd(catalogue, first.windows, solver, limit_seconds=left)
    bounded = clock()
    best, rounds, is_cut = first, 0, False
    if served.tasks and not _is_proven(first, bound, limits.gap):
        best, rounds, is_cut = _improve(starts, limits, solver, clock, began)
        best = min([best, *starts], key=lambda packing: packing.bill)
    ended = clock()
    plan = replace(
        _as_plan(served, best),
        unplaced=unplaced,
        found_by=next((name for name, packing in made if packing is best), "search"),
        rounds=rounds,
        is_cut=is_cut,
        construction_ms=round(1000 * (constructed - began)),
        bound_ms=round(1000 * (bounded - constructed)),
        search_ms=round(1000 * (ended - bounded)),
    )
    return _verified(workload, plan, replace(_as_plan(served, first), unplaced=unplaced), bound)


def _verified(workload: Workload, plan: JointPlan, first: JointPlan, bound: int) -> JointPlan:
    wrong: tuple[object, ...] = ()
    for candidate in (plan, first):
        stated = replace(candidate, bound_microusd=min(bound, candidate.cost_microusd))
        wrong = flaws(workload, stated)
        if not wrong:
            return stated
    told = "; ".join(map(str, wrong))
    raise CUMarketError(f"the joint plan does not verify: {told}; report it with the workload")


def _improve(
    starts: Sequence[Packing],
    limits: Budget,
    solver: LinearSolver | None,
    clock: Clock,
    began: float,
) -> tuple[Packing, int, bool]:
    """Returns the best schedule, the rounds done and whether the clock ended them.

    Some short searches from each start, with few tasks taken off at once and with many; then the
    best one goes on in legs. After each all starts are moved in time at once, and after the legs
    CUs are chosen anew among all that were seen.
    """
    from cu_market.dnm.schedule.search import WIDEST, Pool, search  # numba: off the light path

    pool, best, rounds, is_cut = Pool(), starts[0], 0, False
    trials = [(starts[k // 2 % len(starts)], WIDEST << k % 2) for k in range(TRIALS)]
    rest = (1 - TRIAL_SHARE * TRIALS) / LEGS
    for number in range(TRIALS + LEGS):
        is_trial = number < TRIALS
        start, widest = trials[number] if is_trial else (best, WIDEST)
        share = TRIAL_SHARE if is_trial else rest
        legs = max(0, number + 1 - TRIALS)
        upto = TRIAL_SHARE * min(number + 1, TRIALS) + LEG_SHARE * legs
        outcome = search(
            start,
            rounds=max(1, round(limits.work_limit * share)),
            is_over=_over(clock, began, upto * limits.limit_seconds),
            seed=number + 1,
            widest=widest,
            pool=pool,
        )
        rounds += outcome.rounds
        is_cut |= outcome.is_cut
        found = outcome.best
        left = limits.limit_seconds - (clock() - began) - SOLVER_OVERRUN_SECONDS
        if solver is not None and left > 0:
            found = retimed(found, solver, limit_seconds=left) or found
            left = limits.limit_seconds - (clock() - began) - SOLVER_OVERRUN_SECONDS
            if not is_trial and left > 0:
                some = list(pool.bundles.values())[-RECOMBINED:]
                share_left = min(left, RECOMBINATION_SHARE * limits.limit_seconds)
                found = recombined(found, some, solver, limit_seconds=share_left) or found
        if found.cost < best.cost:
            best = found
    return best, rounds, is_cut


def _over(clock: Clock, began: float, seconds: float) -> Callable[[], bool]:
    return lambda: clock() - began > seconds


def _construct(
    workload: Workload, is_over: Callable[[], bool]
) -> tuple[Workload, list[tuple[str, Packing]]]:
    """Returns what can be served and the starts of the search: (name, schedule), best first.

    The best list schedule goes along even where insertion is cheaper: it has fewer, fuller CUs, and
    the search ended up to 10 % lower from there.
    """
    served = _without(workload, _hopeless(workload))
    while True:
        made = list(constructions(Catalogue(served), is_over))
        whole = [entry for entry in made if min(entry[1].where, default=0) >= 0]
        if whole:
            whole.sort(key=lambda entry: entry[1].bill)
            inserted = [entry for entry in whole if entry[0] == INSERTION][:1]
            listed = [entry for entry in whole if entry[0] != INSERTION][:1]
            return served, sorted([*inserted, *listed], key=lambda entry: entry[1].bill)
        served = _without(served, {i for i, key in enumerate(made[0][1].where) if key < 0})


def _canonical(workload: Workload) -> Workload:
    """Returns the workload with tasks by id, so that the order of arrival changes nothing."""
    tasks = tuple(sorted(workload.tasks, key=lambda task: task.task_id))
    return Workload(tasks=tasks, machines=workload.machines, deadline_ms=workload.deadline_ms)


def _hopeless(workload: Workload) -> set[int]:
    """Tasks that no type holds, or that could not end in time with every CU at once."""
    packing = empty(Catalogue(workload))
    masks, room = packing.catalogue.masks, packing.windows
    return {
        i
        for i in range(len(workload.tasks))
        if not masks[i] or room.earliest[i] + packing.shortest[i] > room.latest[i]
    }


def _without(workload: Workload, gone: set[int]) -> Workload:
    """Returns the workload without these tasks and whatever waits for them."""
    lost = set(gone)
    for i in workload.order:
        if any(p in lost for p in workload.parents[i]):
            lost.add(i)
    if not lost:
        return workload
    tasks = tuple(task for i, task in enumerate(workload.tasks) if i not in lost)
    return Workload(tasks=tasks, machines=workload.machines, deadline_ms=workload.deadline_ms)


def _is_proven(packing: Packing, bound: int, gap: float) -> bool:
    cost = sum(cu.cost_microusd for cu in _as_plan(packing.catalogue.workload, packing).cus)
    return cost - bound <= gap * cost


def _as_plan(workload: Workload, packing: Packing) -> JointPlan:
    cus = []
    counts: dict[str, int] = {}
    for bundle in sorted(packing.bundles.values(), key=lambda b: (b.first_ms, b.stays)):
        machine = packing.catalogue.machines[bundle.machine]
        counts[machine.name] = counts.get(machine.name, 0) + 1
        span = bundle.last_ms - bundle.first_ms
        stays = tuple(
            PlannedStay(
                task_id=workload.tasks[stay.task].task_id,
                start_ms=stay.start_ms,
                end_ms=stay.end_ms,
            )
            for stay in bundle.stays
        )
        cus.append(
            PlannedCU(
                cu_id=f"{machine.name}#{counts[machine.name]}",
                machine=machine.name,
                stays=stays,
                billed_ms=machine.billed_ms(span),
                cost_microusd=machine.cost_microusd(span),
            )
        )
    total = sum(cu.cost_microusd for cu in cus)
    return JointPlan(cus=tuple(cus), cost_microusd=total, bound_microusd=0)
