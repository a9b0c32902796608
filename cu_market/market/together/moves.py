"""What a joint plan moves of other runs, and whether it is worth the disruption.

It is where this run and those that move cost so much less together, delays counted, as
``dnm.renegotiation.worth`` asks of any move, or where this run is served in time only so. A step
that moves in time gives way to those steps of this run that go first on its capacity.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from cu_market.dnm.renegotiation import weigh
from cu_market.domain.bid import Bid
from cu_market.domain.plan import Award, Plan
from cu_market.domain.request import ResourceRequest
from cu_market.domain.units import format_usd
from cu_market.market.accounts.spending import award_microusd, expected_microusd
from cu_market.market.together.crowd import StandingStep, joint_id

LATER_MS = 1000
"""A start that moves by less is the same start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JointMove:
    """One step of another run that goes elsewhere, or later.

    Attributes:
        step: as it stood.
        stays: its place in the plan in which nobody moves.
        award: its new place; ids as its own run has them.
        gives_way_to: step keys of the auction's run that go first on its capacity.
    """

    step: StandingStep
    stays: Award
    award: Award
    gives_way_to: tuple[str, ...] = ()

    @property
    def is_elsewhere(self) -> bool:
        """Whether the CU changes; else only the time does."""
        return self.award.resource_id != self.step.award.resource_id

    def sentence(self) -> str:
        """Returns the move in words."""
        step, old, new = self.award.request_id, self.step.award, self.award
        if self.is_elsewhere:
            price = format_usd(new.price_microusd_per_hour)
            return f"{step} moves from {old.resource_id} to {new.resource_id} at {price} an hour"
        first, later = self.gives_way_to, (new.start_ms - self.stays.start_ms) / 1000
        names = ", ".join(first[:3]) + (f" and {len(first) - 3} more" if len(first) > 3 else "")
        return f"{step} stays on {old.resource_id} and starts {later:.1f} s later, after {names}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Moves that are worth it.

    Attributes:
        moves: of other runs' steps.
        stays_microusd, moved_microusd: cost of this run and of those that move, before and after.
    """

    moves: tuple[JointMove, ...]
    stays_microusd: int
    moved_microusd: int


def judge(
    run_id: str,
    own: Sequence[ResourceRequest],
    movable: Sequence[StandingStep],
    beside: Plan,
    joint: Plan,
) -> Judged | None:
    """Returns the moves of a joint plan, or None where they are not worth it or there are none.

    Args:
        run_id, own: the auction's run, and its requests as they are called among several runs.
        movable: steps of other runs that may be moved.
        beside: the plan in which nobody moves.
        joint: the plan of all anew.
    """
    moves = _moves(movable, beside, joint, own)
    concerned = {run_id, *(move.step.award.run_id for move in moves)}
    every = [*own, *(step.request for step in movable)]
    stays, moved = (_cost(plan, every, concerned) for plan in (beside, joint))
    worth = weigh(
        present_microusd=stays, moved_microusd=moved, stays_ms=0, moved_ms=0, latest_ms=None
    )
    mine = {request.request_id for request in own}
    before, after = (
        sum(each.request_id in mine for each in plan.unserved) for plan in (beside, joint)
    )
    if not moves or after > before or not (worth.is_worth_it or after < before):
        return None
    return Judged(moves=tuple(moves), stays_microusd=stays, moved_microusd=moved)


def beyond_budget(
    moves: Sequence[JointMove], spare_microusd: Mapping[str, int], bids: Sequence[Bid]
) -> frozenset[str]:
    """Returns the runs that these moves would take over their own budgets: all of a run's moves
    together cost more than its awards as they stand, by more than what it has to spare.

    Args:
        moves: of other runs' steps.
        spare_microusd: by run_id, of runs that have a budget.
        bids: that the moves are to.
    """
    minimum_ms = {bid.bid_id: bid.minimum_ms for bid in bids}
    more: dict[str, int] = defaultdict(int)
    for move in moves:
        costs = award_microusd(move.award, minimum_ms[move.award.bid_id])
        more[move.step.award.run_id] += costs - expected_microusd(move.step.award)
    return frozenset(run_id for run_id, by in more.items() if by > spare_microusd.get(run_id, by))


def _moves(
    movable: Sequence[StandingStep], beside: Plan, joint: Plan, own: Sequence[ResourceRequest]
) -> list[JointMove]:
    """Returns what the joint plan moves: to another CU, or later behind steps of the run."""
    before = {award.request_id: award for award in beside.awards}
    after = {award.request_id: award for award in joint.awards}
    found = []
    for step in movable:
        key, name = step.request.request_id, step.award.step_key
        stays, award = before.get(key), after.get(key)
        if stays is None or award is None:
            continue
        ahead = tuple(
            request.request_id.removeprefix(joint_id(request.run_id, ""))
            for request in own
            if (first := after.get(request.request_id)) is not None
            and first.capacity_id == award.capacity_id
            and first.start_ms < award.start_ms
        )
        if award.resource_id != step.award.resource_id:
            ahead = ()
        elif award.start_ms <= stays.start_ms + LATER_MS or not ahead:
            continue
        found.append(
            JointMove(
                step=step,
                stays=stays,
                award=replace(award, request_id=name),
                gives_way_to=ahead,
            )
        )
    return found


def _cost(plan: Plan, requests: Sequence[ResourceRequest], runs: set[str]) -> int:
    """Returns what a plan costs these runs, delays included."""
    mine = {request.request_id for request in requests if request.run_id in runs}
    return sum(award.cost_microusd for award in plan.awards if award.request_id in mine)
