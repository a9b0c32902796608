"""What else is asked of the pools now: leases that go on, and steps of other runs that wait.

Read once an auction, from the ledger. A lease returns its room when what it was expected to take is
over, or, where it overruns, when forecasts of its kind say so; so a plan knows when there will be
room. A step that is awarded and not leased stands where it was awarded, with what it asked for.

What was bought ahead is not looked at: it gives way to leases as long as nobody has taken it, and
who has is seen by its awards.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from cu_market.dnm.offers import RunningLease
from cu_market.dnm.renegotiation import MAX_MOVES, UNTOLD, left_ms
from cu_market.domain.allocation import HOLDING, Allocation
from cu_market.domain.inputs import InputData
from cu_market.domain.open_request import OpenRequest
from cu_market.domain.rental import Rental, RentalState, is_share
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.ledger.interface import Ledger
from cu_market.market.accounts.spending import left_microusd
from cu_market.market.companions import Companions

STARTING = timedelta(seconds=120)
"""A run whose worker has not shown itself is believed to be starting for so long."""

SOON_MS = 1000
"""A lease is never taken to end sooner: its end is not known that well."""

TEMPLATE = "[?]"
"""In the key of a step that stands for all that will be mapped: how many is not known."""

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingStep:
    """A step of another run that waits with its award.

    Attributes:
        award: the ledger's row.
        asked: what it answers.
        request: the same as of now, its id and its parents' ids unique among all runs.
    """

    award: Allocation
    asked: OpenRequest
    request: ResourceRequest

    def may_move(self, account: str, priority: int) -> bool:
        """Whether an auction of that account, for a run of that priority, may move it: one
        account's runs are planned for the account, others' are left to them and to the weights
        (decision 0007). A run of less priority moves nobody."""
        is_known = TEMPLATE not in self.award.step_key
        is_ours = self.asked.account == account and self.request.run_priority <= priority
        return is_known and is_ours and self.asked.moves < MAX_MOVES

    def lets_pass(self, account: str, priority: int) -> bool:
        """Whether a run of that account and priority goes first when both ask for a lease."""
        return self.asked.account == account and self.request.run_priority < priority


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """Everything that the pools are asked for beside an auction's own run.

    Attributes:
        held: by capacity_id, what is leased or rented now.
        running: the same one by one, each with its expected end.
        steps: of other runs, the longest waiting first.
        apart: how many more wait: of runs that have CUs of their own, which plan for themselves.
        queued: what runs will ask for that are not launched yet; ids as those of steps.
        spare_microusd: by run_id of the steps' runs that have a budget: what their awards may cost
            more than they are expected to now.
    """

    held: Mapping[str, ResourceVector] = field(default_factory=dict)
    running: tuple[RunningLease, ...] = ()
    steps: tuple[StandingStep, ...] = ()
    apart: int = 0
    queued: tuple[OpenRequest, ...] = ()
    spare_microusd: Mapping[str, int] = field(default_factory=dict)

    @property
    def requests(self) -> tuple[ResourceRequest, ...]:
        """What waits, awarded or queued."""
        queued = (each.request for each in self.queued)
        return (*(step.request for step in self.steps), *queued)

    def free(self, totals: Mapping[str, ResourceVector]) -> dict[str, ResourceVector]:
        """Returns what is free now of these capacities."""
        nothing = ResourceVector()
        return {name: size.minus(self.held.get(name, nothing)) for name, size in totals.items()}


NOBODY = Crowd()


def joint_id(run_id: str, step_key: str) -> str:
    """Returns a request's id among those of several runs."""
    return f"{run_id}/{step_key}"


def joint_request(request: ResourceRequest, run_id: str) -> ResourceRequest:
    """Returns a run's request as it is called among several runs."""
    return replace(
        request,
        request_id=joint_id(run_id, request.request_id),
        run_id=run_id,
        depends_on=tuple(joint_id(run_id, parent) for parent in request.depends_on),
        inputs=joint_inputs(request, run_id),
    )


def joint_inputs(request: ResourceRequest, run_id: str) -> tuple[InputData, ...]:
    """Returns what a run's request reads, its sources as they are called among several runs."""
    return tuple(replace(data, source=joint_id(run_id, data.source)) for data in request.inputs)


def read_crowd(ledger: Ledger, run_id: str, now: datetime) -> Crowd:
    """Returns what is asked of the pools beside a run.

    Args:
        ledger: where leases and awards are.
        run_id: the run; its own leases hold room too, its own awards are its own matter.
        now: the auction's time.
    """
    leases = ledger.allocations(states=HOLDING)
    held: dict[str, ResourceVector] = defaultdict(ResourceVector)
    for lease in leases:
        held[lease.capacity_id] += lease.size
    waiting = [(a, r) for a, r in ledger.standing() if a.run_id != run_id]
    alive = _alive(ledger, [award for award, _ in waiting], now) if waiting else frozenset()
    waiting = [(award, asked) for award, asked in waiting if award.run_id in alive]
    renting = {award.run_id for award, _ in waiting if is_share(award)}
    together = [(award, asked) for award, asked in waiting if award.run_id not in renting]
    rentals = ledger.rentals(states=[RentalState.OPEN])
    for rental in rentals:
        held[rental.capacity_id] += rental.size
    running = tuple(
        RunningLease(
            capacity_id=lease.capacity_id, size=lease.size, until_ms=expected_left_ms(lease, now)
        )
        for lease in leases
    )
    ends = {
        (lease.run_id, lease.step_key): each.until_ms
        for lease, each in zip(leases, running, strict=True)
    }
    rented = tuple(
        RunningLease(
            capacity_id=rental.capacity_id, size=rental.size, until_ms=rented_ms(rental, now)
        )
        for rental in rentals
    )
    return Crowd(
        held=held,
        running=(*running, *rented),
        steps=_where_kept(ledger, _steps(together, ends, now)),
        apart=len(waiting) - len(together),
        spare_microusd=spare_microusd(ledger, [asked for _, asked in together], now),
    )


def expected_left_ms(lease: Allocation, now: datetime) -> int:
    """Returns in how many milliseconds a lease is expected to end."""
    ran_ms = 0 if lease.leased_at is None else (now - lease.leased_at) / _MILLISECOND
    return max(SOON_MS, round(left_ms(lease.expected_ms, ran_ms, UNTOLD)))


def rented_ms(rental: Rental, now: datetime) -> int:
    """Returns in how many milliseconds an open rental is expected to be closed."""
    had_ms = 0 if rental.opened_at is None else (now - rental.opened_at) / _MILLISECOND
    return max(SOON_MS, round(left_ms(rental.expected_ms, had_ms, UNTOLD)))


def without_deadlines(steps: Sequence[StandingStep], runs: frozenset[str]) -> list[StandingStep]:
    """Returns the steps, those of these runs without a deadline: they are late whatever is done."""
    return [
        replace(step, request=replace(step.request, latest_finish_ms=None))
        if step.award.run_id in runs
        else step
        for step in steps
    ]


def _alive(ledger: Ledger, awards: Sequence[Allocation], now: datetime) -> frozenset[str]:
    """Returns the runs among these whose worker lives, or may still be starting."""
    newest: dict[str, datetime] = {}
    for award in awards:
        newest[award.run_id] = max(award.awarded_at, newest.get(award.run_id, award.awarded_at))
    alive = {run.run_id for run in ledger.live_runs() if run.expires_at > now}
    for run_id in newest.keys() - alive:
        if now - newest[run_id] < STARTING and ledger.run_lease(run_id) is None:
            alive.add(run_id)
    return frozenset(alive)


def spare_microusd(ledger: Ledger, asked: Sequence[OpenRequest], now: datetime) -> dict[str, int]:
    """Returns Crowd.spare_microusd of the runs that asked, as the ledger stands."""
    budgets = {
        each.run_id: each.budget_microusd for each in asked if each.budget_microusd is not None
    }
    return {
        run_id: left_microusd(
            ledger.allocations(run_id=run_id),
            budget,
            (),
            now,
            rentals=ledger.rentals(run_id=run_id),
        )
        for run_id, budget in budgets.items()
    }


def _steps(
    waiting: Sequence[tuple[Allocation, OpenRequest]],
    ends: Mapping[tuple[str, str], int],
    now: datetime,
) -> tuple[StandingStep, ...]:
    there = {(award.run_id, award.step_key) for award, _ in waiting}
    return tuple(
        StandingStep(award=award, asked=asked, request=_as_of_now(award, asked, there, ends, now))
        for award, asked in waiting
    )


def _where_kept(ledger: Ledger, steps: tuple[StandingStep, ...]) -> tuple[StandingStep, ...]:
    """Returns the steps, those that are kept together with where others of them have begun: a run
    of which none has may be moved as a whole."""
    runs = {step.award.run_id for step in steps if step.request.together}
    companions = {run_id: Companions(ledger, run_id) for run_id in runs}
    return tuple(
        replace(
            step,
            request=replace(
                step.request,
                kept=companions[step.award.run_id].begun(step.request.together),
            ),
        )
        if step.request.together
        else step
        for step in steps
    )


def _as_of_now(
    award: Allocation,
    asked: OpenRequest,
    there: set[tuple[str, str]],
    ends: Mapping[tuple[str, str], int],
    now: datetime,
) -> ResourceRequest:
    """Returns a request with its times counted from now on and its parents as they are: those that
    run let it start at their expected end, those that have ended do not matter any more."""
    request, run_id = asked.request, award.run_id
    passed_ms = max(0, (now - request.timestamp) // _MILLISECOND)
    latest = request.latest_finish_ms
    parents = [(run_id, parent) for parent in request.depends_on]
    return replace(
        request,
        request_id=joint_id(run_id, award.step_key),
        run_id=run_id,
        timestamp=now,
        depends_on=tuple(joint_id(*parent) for parent in parents if parent in there),
        inputs=joint_inputs(request, run_id),
        earliest_start_ms=max(
            [
                0,
                request.earliest_start_ms - passed_ms,
                *(ends[parent] for parent in parents if parent in ends),
            ]
        ),
        latest_finish_ms=None if latest is None else max(1, latest - passed_ms),
    )
