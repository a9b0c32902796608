"""One plan for a run and for what other runs still wait for.

1. Others as they stand: each step on the CU that it was awarded, as early as there is room.
2. The run beside them: they keep place and time, it takes what is left, with what its account has
   in Dagster's queue.
3. All anew, in one program that starts from 2, so that it is never dearer. Steps that an auction of
   this run may not move (another account's, or moved often enough) keep place and time in it too.
   Runs that it would take over their own budgets keep their CUs, and where that is not enough
   their starts too: then 3 is done once more.
4. Taken is 3 where it is worth the disruption (``moves``), else 2. Up to here all is constructed,
   guesses of places each within their own short limit; now the solver is asked once, to better what
   is taken.

What waits of less urgent runs of the account is left out: it lets this run go first where leases
are taken. The clock may cut 3, never 1 and 2: the run's own plan always stands.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from cu_market.dnm.planner import LARGEST_TABLE
from cu_market.dnm.standing import Hold, Standing
from cu_market.domain.bid import Bid
from cu_market.domain.open_request import OpenRequest
from cu_market.domain.plan import Plan
from cu_market.domain.rental import Rental
from cu_market.domain.request import ResourceRequest
from cu_market.market.ends import Ends
from cu_market.market.together.crowd import (
    Crowd,
    StandingStep,
    joint_id,
    joint_request,
    without_deadlines,
)
from cu_market.market.together.moves import JointMove, beyond_budget, judge


class Solve(Protocol):
    """Plans requests at the auction's bids, beside all that is leased now."""

    def __call__(
        self,
        requests: Sequence[ResourceRequest],
        *,
        standing: Mapping[str, Standing],
        limit_seconds: float,
    ) -> Plan:
        """Returns the plan; without a solver where its limit is 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """What was planned together.

    Attributes:
        plan: the run's own; objective and bound are those of the whole program.
        moves: of other runs' steps.
        steps: of other runs that were planned with.
        queued: what runs in the queue will ask for, planned with and awarded nothing.
        left_out: how many more there were: too many for one program, served by nobody now, of runs
            that let this one go first, or that have CUs of their own.
        stays_microusd, moved_microusd: cost of this run and of those that move, where nobody moves
            and as planned anew; equal where that was not looked at.
        is_cut: there was no time to ask the solver.
        whole: the plan of all that was planned with; None where there was nothing.
        is_late: with what is leased and stands, the run cannot end by its deadline.
        held: runs that stay on their CUs since a move would have taken them over their budgets.
        ends: when the run ends; None where it has no deadline, or one planned by medians.
        rentals: CUs that the run's plan rents whole.
    """

    plan: Plan
    moves: tuple[JointMove, ...] = ()
    steps: tuple[StandingStep, ...] = ()
    queued: tuple[OpenRequest, ...] = ()
    left_out: int = 0
    stays_microusd: int = 0
    moved_microusd: int = 0
    is_cut: bool = False
    is_late: bool = False
    held: frozenset[str] = frozenset()
    whole: Plan | None = None
    ends: Ends | None = None
    rentals: tuple[Rental, ...] = ()


def plan_together(
    run_id: str,
    account: str,
    requests: Sequence[ResourceRequest],
    bids: Sequence[Bid],
    crowd: Crowd,
    solve: Solve,
    *,
    limit_seconds: float,
    clock: Callable[[], float],
    may_move: bool = True,
) -> Together:
    """Returns the run's plan beside, and together with, what others wait for.

    Args:
        run_id, account: the auction's run, and who pays.
        requests: of its steps.
        bids: the auction's.
        crowd: what else is asked of the pools.
        solve: plans at these bids.
        limit_seconds: for all of it.
        clock: seconds.
        may_move: whether others' steps may be moved; else they are planned around.
    """
    began = clock()
    # Between accounts the weights decide: nothing is kept free for another's queue.
    priority = max((request.run_priority for request in requests), default=0)
    queued = [
        each
        for each in crowd.queued
        if each.account == account and each.request.run_priority >= priority
    ]
    waiting = [step for step in crowd.steps if not step.lets_pass(account, priority)]
    near = _in_reach(waiting, len(requests) + len(queued), len(bids))
    others, starts = _as_they_stand(near, bids, solve)
    if not others and not queued:
        outcome = solve(requests, standing={}, limit_seconds=limit_seconds)
        return Together(plan=outcome, left_out=len(crowd.steps) + crowd.apart)
    own = [joint_request(request, run_id) for request in requests]
    every = [*own, *(step.request for step in others), *(each.request for each in queued)]
    still = {key: replace(place, hold=Hold.ALL) for key, place in starts.items()}
    beside = solve(every, standing=still, limit_seconds=0)
    found = Together(
        plan=_own_plan(beside, run_id, requests),
        steps=tuple(others),
        queued=tuple(queued),
        left_out=len(crowd.steps) - len(others) + crowd.apart,
        whole=beside,
    )
    offered = {bid.profile.cu_id for bid in bids}
    movable = [
        step
        for step in others
        if may_move and step.may_move(account, priority) and step.award.resource_id in offered
    ]

    holds: dict[str, Hold] = {}

    def anew(before: Plan, seconds: float) -> Together | None:
        """Returns what planning all anew, from a plan on, brings where that is worth it; None also
        where it takes runs over their budgets: those are held firmer from then on."""
        free = [step for step in movable if holds.get(step.award.run_id) is not Hold.ALL]
        loose = {**still, **_places(before, without=still.keys() - _ids(free))}
        for step in free:
            hold = holds.get(step.award.run_id, Hold.NOTHING)
            loose[step.request.request_id] = replace(loose[step.request.request_id], hold=hold)
        joint = solve(every, standing=loose, limit_seconds=seconds)
        judged = judge(run_id, own, free, beside, joint)
        if judged is None:
            return None
        beyond = beyond_budget(judged.moves, crowd.spare_microusd, bids)
        holds.update({run: Hold.ALL if run in holds else Hold.BID for run in beyond})
        if beyond:
            return None
        return replace(
            found,
            plan=_own_plan(joint, run_id, requests),
            moves=judged.moves,
            stays_microusd=judged.stays_microusd,
            moved_microusd=judged.moved_microusd,
            whole=joint,
            held=frozenset(holds),
        )

    def left() -> float:
        return max(0.0, limit_seconds - (clock() - began))

    taken, looked_at = None, None
    while movable and taken is None and looked_at != holds and left():
        looked_at = dict(holds)
        taken = anew(beside, 0)
    found = replace(found, held=frozenset(holds))
    if not left():
        return replace(taken or found, is_cut=True)
    if taken is not None and taken.whole is not None:
        return anew(taken.whole, left()) or taken
    better = solve(
        every, standing={**still, **_places(beside, without=still.keys())}, limit_seconds=left()
    )
    return replace(found, plan=_own_plan(better, run_id, requests), whole=better)


def _ids(steps: Sequence[StandingStep]) -> set[str]:
    return {step.request.request_id for step in steps}


def _places(of: Plan, *, without: Collection[str]) -> dict[str, Standing]:
    """Returns where a plan has requests, as places that they may leave."""
    return {
        award.request_id: Standing(bid_id=award.bid_id, start_ms=award.start_ms)
        for award in of.awards
        if award.request_id not in without
    }


def _in_reach(steps: Sequence[StandingStep], own: int, bids: int) -> list[StandingStep]:
    """Returns the steps of as many runs as one program takes, those that wait longest first."""
    by_run: dict[str, list[StandingStep]] = {}
    for step in steps:
        by_run.setdefault(step.award.run_id, []).append(step)
    room = LARGEST_TABLE // max(1, bids) - own
    taken: list[StandingStep] = []
    for run in by_run.values():
        if len(taken) + len(run) <= room:
            taken += run
    return taken


def _as_they_stand(
    steps: Sequence[StandingStep], bids: Sequence[Bid], solve: Solve
) -> tuple[list[StandingStep], dict[str, Standing]]:
    """Returns the steps that can be planned with, and where each stands.

    A run that is late as it stands loses its deadline: nothing could be planned by it any more. One
    with a step that nobody bids for now is left out.
    """
    offered = {bid.profile.cu_id: bid.bid_id for bid in bids}

    def planned(of: Sequence[StandingStep]) -> Plan:
        places = {
            step.request.request_id: Standing(bid_id=offered[step.award.resource_id], hold=Hold.BID)
            for step in of
            if step.award.resource_id in offered
        }
        return solve([step.request for step in of], standing=places, limit_seconds=0)

    found = list(steps)
    outcome = planned(found) if found else None
    if outcome is not None and outcome.unserved:
        found = without_deadlines(found, _runs(found, outcome))
        outcome = planned(found)
    if outcome is not None and outcome.unserved:
        away = _runs(found, outcome)
        found = [step for step in found if step.award.run_id not in away]
        outcome = planned(found) if found else None
    awards = () if outcome is None else outcome.awards
    return found, {
        award.request_id: Standing(bid_id=award.bid_id, start_ms=award.start_ms) for award in awards
    }


def _runs(steps: Sequence[StandingStep], outcome: Plan) -> frozenset[str]:
    unserved = {each.request_id for each in outcome.unserved}
    return frozenset(s.award.run_id for s in steps if s.request.request_id in unserved)


def _own_plan(whole: Plan, run_id: str, requests: Sequence[ResourceRequest]) -> Plan:
    """Returns the plan of the run's own steps, under their own names."""
    names = {joint_id(run_id, request.request_id): request.request_id for request in requests}
    return replace(
        whole,
        awards=tuple(
            replace(award, request_id=names[award.request_id])
            for award in whole.awards
            if award.request_id in names
        ),
        unserved=tuple(
            replace(each, request_id=names[each.request_id])
            for each in whole.unserved
            if each.request_id in names
        ),
    )
