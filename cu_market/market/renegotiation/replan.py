"""Whether and how the steps of a run that have not started are moved: pure rules.

A re-plan is taken only where it is worth the disruption:

1. a step whose CU is no longer offered must move;
2. others move when together they save enough, or when the run would end after its deadline and
   would end sooner moved (``cu_market.dnm.renegotiation.worth``), both in as many cases as the
   deadline is to be kept in;
3. each step is moved of free will at most MAX_MOVES times;
4. steps that are kept together go to another location all or not at all: where one must, all of
   them must; where one may not, or has begun meanwhile, none goes.

So it cannot loop: a step makes at most MAX_MOVES free moves, and a forced one only when its CU has
gone, which withdraws that CU for the run for a while; both are finite in any finite time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from cu_market.dnm.handover import last, walk
from cu_market.dnm.objective import expected_ms, money_microusd
from cu_market.dnm.placement.placing import places_of
from cu_market.dnm.renegotiation.worth import MAX_MOVES, SAVING_MICROUSD, weigh
from cu_market.dnm.surcharges import Priced
from cu_market.domain.allocation import Allocation
from cu_market.domain.bid import Bid
from cu_market.domain.plan import Award, Plan
from cu_market.domain.request import ResourceRequest, StepIdentity
from cu_market.domain.spec import RunSpec
from cu_market.domain.units import format_usd
from cu_market.market.accounts.spending import award_microusd, expected_microusd
from cu_market.market.draws import MEDIAN_PERMILLE, Cases, quantile

NOWHERE: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Where a run stands.

    Attributes:
        elapsed_ms: since its auction: so much of its deadline has passed.
        earliest_ms: by step key, when what runs now lets it start, in milliseconds from now.
        running_ms: for how long attempts of each step have been running.
    """

    elapsed_ms: int = 0
    earliest_ms: Mapping[str, int]
    running_ms: Mapping[StepIdentity, Sequence[float]] = field(default_factory=dict)


def left_of_deadline(run: RunSpec, elapsed_ms: int) -> int | None:
    """Returns what is left of a run's deadline, 0 where it has passed, or None.

    By the run's tags: of a run that is late in any case, requests are planned without one.
    """
    return None if run.deadline_ms is None else max(0, run.deadline_ms - elapsed_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One step's new award and why.

    Attributes:
        award: the new one.
        before: the old one.
        present_microusd: what the old CU would cost at today's price, or None where it is gone.
        moved_microusd: what the new one would, both with egress and expected loss.
        is_forced: the old CU is no longer offered, or not for what it is kept together with.
        goes_with: the step that must move and takes it along; empty where it moves for itself.
    """

    award: Award
    before: Allocation
    present_microusd: int | None
    moved_microusd: int
    is_forced: bool
    goes_with: str = ""

    @property
    def is_elsewhere(self) -> bool:
        """Whether the CU changes; else only its price does."""
        return self.award.resource_id != self.before.resource_id

    def sentence(self) -> str:
        """Returns the move in words."""
        old, new = self.before, self.award
        price = f"at {format_usd(new.price_microusd_per_hour)} an hour"
        if not self.is_elsewhere:
            was = format_usd(old.price_microusd_per_hour)
            return f"{new.request_id} stays on {new.resource_id}, now {price} (was {was})"
        if self.goes_with:
            why = f"it stays with {self.goes_with}, which must move"
        elif self.is_forced:
            why = f"{old.resource_id} is no longer offered"
        else:
            present = format_usd(self.present_microusd or 0)
            why = f"expected {format_usd(self.moved_microusd)} instead of {present}"
        return f"{new.request_id} moves from {old.resource_id} to {new.resource_id} {price}: {why}"


def choose_moves(
    plan: Plan,
    requests: Sequence[ResourceRequest],
    bids: Sequence[Bid],
    current: Mapping[str, Allocation],
    *,
    moves_made: Mapping[str, int],
    latest_finish_ms: int | None,
    confidence_permille: int = MEDIAN_PERMILLE,
    is_repriced: bool = True,
    spare_microusd: int | None = None,
    least_microusd: int = SAVING_MICROUSD,
    located: Mapping[str, str] = NOWHERE,
) -> tuple[list[Move], str]:
    """Returns the moves to make, and the verdict in words; no move where it is not worth it.

    Args:
        plan: of the steps that have not started, at today's bids.
        requests: what was planned.
        bids: today's.
        current: the awards that stand, by step key.
        moves_made: free moves of each step so far.
        latest_finish_ms: what is left of the deadline, or None.
        confidence_permille: in how many of a thousand cases it is to be kept; half: by medians.
        is_repriced: whether what stays pays today's price; where it pays a second price, that
            stands, since it follows from others' bids of then.
        spare_microusd: what the run's awards may cost more than they are expected to now, before
            they pass its budget; None: it has none.
        least_microusd: what moves of free will save together at least.
        located: by step key, where its award's CU is; as today's bids say where it is left out.
    """
    offered = {bid.profile.cu_id: bid for bid in bids}
    by_id = {bid.bid_id: bid for bid in bids}
    at_present = Priced(
        places={
            step: offered[award.resource_id].profile.place
            for step, award in current.items()
            if award.resource_id in offered
        }
    )
    as_planned = Priced(places=places_of(plan, bids))
    candidates = []
    for request in requests:
        award, before = plan.award_for(request.request_id), current.get(request.request_id)
        if award is None or before is None:
            continue
        bid = offered.get(before.resource_id)
        present = None if bid is None else _weighed_microusd(request, bid, at_present)
        candidates.append(
            Move(
                award=award,
                before=before,
                present_microusd=present,
                moved_microusd=_weighed_microusd(request, by_id[award.bid_id], as_planned),
                is_forced=bid is None,
            )
        )
    candidates = _as_groups(requests, candidates, by_id, offered, located, moves_made)
    forced = [move for move in candidates if move.is_forced]
    free = [
        move
        for move in candidates
        if not move.is_forced and moves_made.get(move.award.request_id, 0) < MAX_MOVES
    ]
    elsewhere = [move for move in free if move.is_elsewhere]
    present_sum = sum(move.present_microusd or 0 for move in elsewhere)
    moved_sum = sum(move.moved_microusd for move in elsewhere)
    saved = present_sum - moved_sum
    sure = MEDIAN_PERMILLE if latest_finish_ms is None else confidence_permille
    now_ms, then_ms = _finishes(requests, candidates, offered, at_present, sure)
    worth = weigh(
        present_microusd=present_sum,
        moved_microusd=moved_sum,
        stays_ms=now_ms,
        moved_ms=then_ms,
        latest_ms=latest_finish_ms,
        least_microusd=least_microusd,
    )
    repriced = [
        move
        for move in candidates
        if is_repriced
        and not move.is_elsewhere
        and not move.is_forced
        and move.award.price_microusd_per_hour != move.before.price_microusd_per_hour
    ]
    beyond = _beyond_budget(elsewhere, [*forced, *repriced], by_id, spare_microusd)
    if beyond:
        elsewhere = []
    moves = [*forced, *(elsewhere if worth.is_worth_it else ())]
    if not moves:
        why = beyond if beyond and worth.is_worth_it else "what it would save is not worth it"
        return repriced, f"nothing moves: {why}"
    verdicts = []
    if forced:
        verdicts.append(f"{len(forced)} must move")
    if worth.is_saving and elsewhere:
        verdicts.append(f"{format_usd(saved)} of {format_usd(present_sum)} are saved")
    if beyond and worth.is_worth_it:
        verdicts.append(f"the others stay: {beyond}")
    elif worth.is_sooner and latest_finish_ms is not None:
        left, stays, moved = (ms / 1000 for ms in (latest_finish_ms, now_ms, then_ms))
        share = "" if sure <= MEDIAN_PERMILLE else f", in {sure / 10:g} % of cases"
        verdicts.append(
            f"{left:.1f} s are left: {stays:.1f} s as it stands, {moved:.1f} s moved{share}"
        )
    return [*moves, *repriced], "; ".join(verdicts)


def _as_groups(
    requests: Sequence[ResourceRequest],
    candidates: Sequence[Move],
    bids: Mapping[str, Bid],
    offered: Mapping[str, Bid],
    located: Mapping[str, str],
    moves_made: Mapping[str, int],
) -> list[Move]:
    """Returns the candidates in which whoever is kept together leaves its location with all others
    that wait, or is left out.

    Args:
        requests: what was planned.
        candidates: one of each that waits still.
        bids: by bid_id.
        offered: today's bids, by cu_id.
        located, moves_made: as choose_moves.
    """
    names = {request.request_id: request.together for request in requests}
    leaving: dict[str, list[Move]] = defaultdict(list)
    for move in candidates:
        name = names[move.award.request_id]
        bid = offered.get(move.before.resource_id)
        here = "" if bid is None else bid.profile.location
        here = located.get(move.award.request_id, here)
        if name and here != bids[move.award.bid_id].profile.location:
            leaving[name].append(move)
    waiting = {move.award.request_id for move in candidates}
    taken = {move.award.request_id: move for move in candidates}
    for name, moves in leaving.items():
        begun = [step for step, own in names.items() if own == name and step not in waiting]
        first = next((move.award.request_id for move in moves if move.is_forced), "")
        for move in moves:
            step = move.award.request_id
            if begun or (not first and _is_tired(moves, moves_made)):
                del taken[step]
            elif first and not move.is_forced:
                taken[step] = replace(move, is_forced=True, goes_with=first)
    return list(taken.values())


def _is_tired(moves: Sequence[Move], moves_made: Mapping[str, int]) -> bool:
    return any(moves_made.get(move.award.request_id, 0) >= MAX_MOVES for move in moves)


def _beyond_budget(
    free: Sequence[Move],
    others: Sequence[Move],
    bids: Mapping[str, Bid],
    spare_microusd: int | None,
) -> str:
    """Returns why moves of free will would take the run over its budget; empty where they do not.

    What they cost less is never refused. What must be moved, and what stays at another price, takes
    of the spare first: it is no choice, and the lease's own look at the budget comes after it.

    Args:
        free: moves of free will.
        others: what is written in any case.
        bids: by bid_id.
        spare_microusd: see choose_moves.
    """
    if spare_microusd is None:
        return ""
    left = max(0, spare_microusd - _more_microusd(others, bids))
    more = _more_microusd(free, bids)
    if more <= left:
        return ""
    return f"it would cost {format_usd(more)} more, and {format_usd(left)} of the budget is left"


def _more_microusd(moves: Sequence[Move], bids: Mapping[str, Bid]) -> int:
    """Returns by how much leases are expected to cost more after these moves than before."""
    after = sum(award_microusd(move.award, bids[move.award.bid_id].minimum_ms) for move in moves)
    return after - sum(expected_microusd(move.before) for move in moves)


def _weighed_microusd(request: ResourceRequest, bid: Bid, priced: Priced) -> int:
    """Returns what a step would cost on a bid as bid: whatever the market pays, both sides of a
    move are weighed alike."""
    surcharge = priced(request, bid)
    return money_microusd(request, bid, surcharge) + surcharge.loss_microusd


def _finishes(
    requests: Sequence[ResourceRequest],
    candidates: Sequence[Move],
    offered: Mapping[str, Bid],
    at_present: Priced,
    permille: int,
) -> tuple[int, int]:
    """Returns the critical path's end where the steps stand, and where they would be moved to: in
    so many of a thousand cases, or at medians."""
    old: dict[str, int] = {}
    new: dict[str, int] = {}
    by_step = {request.request_id: request for request in requests}
    for move in candidates:
        key = move.award.request_id
        bid = offered.get(move.before.resource_id)
        old[key] = (
            move.award.expected_ms
            if bid is None
            else expected_ms(by_step[key], bid, at_present(by_step[key], bid))
        )
        new[key] = move.award.expected_ms
    if permille <= MEDIAN_PERMILLE:
        return _longest(requests, old), _longest(requests, new)
    cases = Cases(requests)
    return _longest_in(cases, requests, old, permille), _longest_in(cases, requests, new, permille)


def _longest_in(
    cases: Cases, requests: Sequence[ResourceRequest], takes: Mapping[str, int], permille: int
) -> int:
    """Returns by when as many cases as that have their latest end; as _longest."""
    names = {request.request_id for request in requests}
    ends = walk(
        (
            (each.request_id, [p for p in each.depends_on if p in names], each.earliest_start_ms)
            for each in requests
        ),
        {
            each.request_id: cases.takes_ms(
                each.request_id, takes.get(each.request_id, each.duration_ms)
            )
            for each in requests
        },
    )
    return quantile(last(list(ends.values()), cases=cases.count), permille)


def _longest(requests: Sequence[ResourceRequest], takes: Mapping[str, int]) -> int:
    """Returns the latest end when every step starts as its parents end (topological order)."""
    ends: dict[str, int] = {}
    for request in requests:
        start = max([request.earliest_start_ms, *(ends.get(p, 0) for p in request.depends_on)])
        ends[request.request_id] = start + takes.get(request.request_id, request.duration_ms)
    return max(ends.values(), default=0)
