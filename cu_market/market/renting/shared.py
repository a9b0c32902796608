"""A run's plan on CUs that it rents whole and shares, where that costs less than one for each step.

1. What shared CUs cost at least is bounded from below (``Shareable.floor_microusd``): where that
   is no less than the plan without sharing, nothing is looked at.
2. In the locations with the cheapest cores, and for some finishes (as without sharing, sooner,
   later), the joint plan is made quickly (``dnm.renting.sharing``) and priced as a plan of the run
   (``dnm.renting.rented``). One that passes what is left of the budget, or keeps the deadline less
   often than it is to be and the plan without sharing does, does not count.
3. The cheapest, of those that keep the deadline as often as it is to be if there are any, is
   planned once more, with the solver and the time that is left.

Mapped steps whose number is not known have CUs of their own.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from cu_market.dnm.placement.placing import plan_standing
from cu_market.dnm.programs.linear import LinearSolver
from cu_market.dnm.renting import (
    Rented,
    Shareable,
    Sharing,
    finishes_ms,
    locations_of,
    rent_shared,
    share,
    shareable,
)
from cu_market.dnm.schedule import Budget
from cu_market.dnm.standing import Standing
from cu_market.domain.bid import Bid
from cu_market.domain.outline import RunOutline
from cu_market.domain.plan import Award, Plan
from cu_market.domain.problem import CUMarketError
from cu_market.domain.rental import Rental
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import format_usd
from cu_market.market.demand.requests import Demand
from cu_market.market.ends import Ends
from cu_market.market.renting.offered import reserved, until_ready, with_rentals
from cu_market.market.together.crowd import Crowd, joint_id
from cu_market.market.together.joint import Together
from cu_market.ral.bids import BidRound
from cu_market.ral.provider import Capabilities, Revocable

if TYPE_CHECKING:
    from cu_market.market.auction import Market

logger = logging.getLogger(__name__)

MOST_LOCATIONS = 3
"""Locations that are looked at: those with the cheapest cores."""

QUICK_SHARE = 0.5
"""Of the time: for the plans of all finishes; the rest is for the best one."""

QUICK_ROUNDS, ROUNDS = 2_000, 40_000
"""Of the joint plan's search."""

LEAST_SAVING = 0.01
"""Of the bill without sharing: less is not worth a CU that several steps depend on."""

NAMED = 4
"""Rentals that a note names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """What a run's plan was made of, and beside what.

    Attributes:
        market, outline, demand, bids, crowd: as they were.
        others, standing: what was planned with the run, each by itself, and where the plan has it.
        walked: when the run ends by a plan; None where half of all cases are enough.
        is_hurried: it is late: it may end no later than without sharing.
        is_needed: without sharing it does not end in time: any sharing with which it does counts.
    """

    market: Market
    outline: RunOutline
    demand: Demand
    bids: BidRound
    crowd: Crowd
    others: Sequence[ResourceRequest] = ()
    standing: Mapping[str, Standing]
    walked: Callable[[Together], Ends] | None = None
    is_hurried: bool = False
    is_needed: bool = False


def with_shared(found: Together, beside: Beside) -> Together:
    """Returns the run's plan, on shared CUs where that is better."""
    settings, clock = beside.market.settings, time.monotonic
    if found.plan.unserved or not settings.shares_cus:
        return found
    look = _Look(found=found, beside=beside)
    tries = [(of, finish) for of in look.candidates() for finish in look.finishes(of)]
    began, limit = clock(), settings.solve_seconds
    quick = Budget(limit_seconds=QUICK_SHARE * limit / max(1, len(tries)), rounds=QUICK_ROUNDS)
    best: _Try | None = None
    for of, finish in tries:
        if clock() - began > QUICK_SHARE * limit:
            break
        sharing = share(of, finish, solver=None, budget=quick, clock=clock)
        each = look.priced(of, finish, sharing)
        best = each if each is not None and (best is None or each.rank < best.rank) else best
    if best is None or not look.is_worth(best):
        return found
    solver = beside.market.solver
    sharing = share(
        best.of,
        best.finish_ms,
        solver=solver if isinstance(solver, LinearSolver) else None,
        budget=Budget(limit_seconds=max(0.05, limit - (clock() - began)), rounds=ROUNDS),
        clock=clock,
    )
    again = look.priced(best.of, best.finish_ms, sharing)
    best = again if again is not None and again.rank <= best.rank else best
    return look.taken(best)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Try:
    """A sharing that counts, what the run's plan costs with it, and whether its deadline is then
    kept as often as it is to be."""

    of: Shareable
    finish_ms: int
    sharing: Sharing
    cost: int
    is_kept: bool

    @property
    def rank(self) -> tuple[bool, int]:
        """Less is better."""
        return (not self.is_kept, self.cost)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """A plan without sharing, and what could be made of it."""

    found: Together
    beside: Beside

    @property
    def cost(self) -> int:
        """What the run's plan costs, delays and expected losses counted."""
        return sum(award.cost_microusd for award in self.found.plan.awards)

    @property
    def is_short(self) -> bool:
        """Whether without sharing the deadline is kept less often than it is to be."""
        ends = self.found.ends
        return self.beside.is_needed or (ends is not None and not ends.is_kept)

    def is_worth(self, best: _Try) -> bool:
        """Whether a sharing is taken: it costs less, or only with it is the deadline kept."""
        return (self.is_short and best.is_kept) or self.cost - best.cost >= self.least_microusd

    @property
    def least_microusd(self) -> float:
        """What sharing is to save at least."""
        return max(1.0, LEAST_SAVING * self.found.plan.money_microusd)

    def candidates(self) -> list[Shareable]:
        """Returns what could share CUs, location by location, and cost less."""
        beside, awards = self.beside, self.found.plan.awards
        units = self._free_units()
        looked_at = locations_of(beside.bids.bids, units)[:MOST_LOCATIONS]
        found = []
        for location, with_spot in product(looked_at, (False, True)):
            of = shareable(
                beside.demand.requests,
                beside.bids.bids,
                units,
                self.found.plan,
                location,
                with_spot=with_spot,
            )
            if of is None:
                continue
            steps = {task.task_id for task in of.tasks}
            present = sum(each.cost_microusd for each in awards if each.request_id in steps)
            alone = Counter(each.bid_id for each in awards if each.request_id not in steps)
            of = replace(of, units={b: max(0, n - alone[b]) for b, n in of.units.items()})
            if of.floor_microusd + self.least_microusd <= present or self.is_short:
                found.append(of)
        return found

    def _free_units(self) -> dict[str, int]:
        """Returns how many are free of each bid that is sold whole and that steps may share."""
        bids, providers = self.beside.bids, self.beside.market.providers
        free = self.beside.crowd.free(bids.pool.capacities)
        units = {
            bid.bid_id: min(bid.quantity, bid.profile.size.copies_in(free[bid.profile.capacity_id]))
            for bid in bids.bids
            if bid.rates is None
            and is_shareable(providers[bid.provider].capabilities)
            and not self._is_taken_back(bid)
        }
        return {bid_id: count for bid_id, count in units.items() if count}

    def _is_taken_back(self, bid: Bid) -> bool:
        """Whether the market itself takes a CU back for others: step by step, so not as a whole."""
        is_spot = bid.profile.interruption_millis_per_hour > 0
        return is_spot and isinstance(self.beside.market.providers[bid.provider], Revocable)

    def finishes(self, of: Shareable) -> tuple[int, ...]:
        """Returns the finishes to plan for."""
        ends = [award.start_ms + award.expected_ms for award in self.found.plan.awards]
        latest = [request.latest_finish_ms for request in self.beside.demand.requests]
        known = [each for each in latest if each is not None]
        limit = max(known) if known and len(known) == len(latest) else None
        return finishes_ms(of, max(ends), max(ends) if self.beside.is_hurried else limit)

    def priced(self, of: Shareable, finish_ms: int, sharing: Sharing | None) -> _Try | None:
        """Returns what the run's plan costs on a sharing's CUs; None where that does not count."""
        if sharing is None or not self._has_room(sharing):
            return None
        try:
            rented = None if sharing is None else self._rented(sharing, are_explained=False)
        except CUMarketError as error:  # a transfer leaves no time for a retry
            logger.info("not to be shared so", extra={"action": "share", "reason": str(error)})
            rented = None
        if sharing is None or rented is None:
            return None
        together = self._together(rented, sharing)
        left, plan = self.beside.demand.left_microusd, together.plan
        if left is not None and plan.money_microusd > max(left, self.found.plan.money_microusd):
            return None
        ends = self._ends(together)
        if ends is not None and not (ends.is_kept or self._is_no_later(ends)):
            return None
        cost = rented.rest_microusd + sum(award.cost_microusd for award in plan.awards)
        return _Try(
            of=of,
            finish_ms=finish_ms,
            sharing=sharing,
            cost=cost,
            is_kept=ends is None or ends.is_kept,
        )

    def _has_room(self, sharing: Sharing) -> bool:
        """Whether all of a sharing's CUs are free together: several types may be cut from one."""
        bids = self.beside.bids
        free = self.beside.crowd.free(bids.pool.capacities)
        sold = {bid.bid_id: bid.profile for bid in bids.bids}
        wanted: dict[str, ResourceVector] = {}
        for cu in sharing.cus:
            profile = sold[cu.machine]
            held = wanted.get(profile.capacity_id, ResourceVector())
            wanted[profile.capacity_id] = held + profile.size
        return all(size.fits_in(free[name]) for name, size in wanted.items())

    def taken(self, best: _Try) -> Together:
        """Returns the run's plan on a sharing's CUs, explained and told."""
        rented = self._rented(best.sharing, are_explained=True)
        if rented is None:
            return self.found
        together = self._together(rented, best.sharing)
        ends = None if self.beside.walked is None else self.beside.walked(together)
        why = (
            "with a CU for each step it would not end in time"
            if self.beside.is_needed
            else "the deadline is kept as often as it is to be, with a CU for each step it is not"
            if self.is_short and best.is_kept
            else f"that costs {format_usd(best.cost)}, a CU for each step {format_usd(self.cost)}, "
            "delays counted"
        )
        notes = (*together.plan.notes, _note(rented.rentals, together.plan, why))
        return replace(together, plan=replace(together.plan, notes=notes), ends=ends)

    def _ends(self, together: Together) -> Ends | None:
        """Returns when the run ends; None where medians are enough: by them it is in time."""
        if self.beside.walked is None or self.beside.is_needed:
            return None  # nobody is refused whom medians would serve
        return self.beside.walked(together)

    def _is_no_later(self, ends: Ends) -> bool:
        before = self.found.ends
        return (
            before is not None and not before.is_kept and ends.confident_ms <= before.confident_ms
        )

    def _rented(self, sharing: Sharing, *, are_explained: bool) -> Rented | None:
        beside = self.beside
        now = beside.demand.requests[0].timestamp
        had = beside.market.ledger.rentals(run_id=beside.outline.run_id)
        until_ms = {stay.task_id: stay.end_ms for cu in sharing.cus for stay in cu.stays}
        return rent_shared(
            sharing,
            beside.bids.bids,
            lambda rentals, choice, starts: self._chosen(
                rentals, choice, starts, until_ms, are_explained=are_explained
            ),
            run_id=beside.outline.run_id,
            taken={rental.resource_id for rental in had},
            now=now,
        )

    def _chosen(
        self,
        rentals: Sequence[Rental],
        choice: Mapping[str, str],
        starts: Mapping[str, int],
        until_ms: Mapping[str, int],
        *,
        are_explained: bool,
    ) -> Plan:
        """Returns the plan of all with these rentals: what shares there, all else in its place."""
        beside = self.beside
        now = rentals[0].planned_at
        bids = with_rentals(beside.bids, rentals)
        crowd = until_ready(beside.crowd, rentals, now)
        ends = dict.fromkeys((rental.rental_id for rental in rentals), 0)
        for name, rental_id in choice.items():
            ends[rental_id] = max(ends[rental_id], until_ms[name])
        crowd = reserved(crowd, [(rental, ends[rental.rental_id]) for rental in rentals])
        pinned = dict(beside.standing)
        for award in self.found.plan.awards:
            pinned[award.request_id] = Standing(
                bid_id=choice.get(award.request_id, award.bid_id),
                start_ms=starts.get(award.request_id, award.start_ms),
            )
        used = {place.bid_id for place in pinned.values()}
        offered = [bid for bid in bids.bids if are_explained or bid.bid_id in used]
        return plan_standing(
            (*beside.demand.requests, *beside.others),
            offered,
            crowd.free(bids.pool.capacities),
            pinned,
            running=crowd.running,
        )

    def _together(self, rented: Rented, sharing: Sharing) -> Together:
        """Returns what was planned together, the run's awards those of the plan with rentals."""
        found, run_id = self.found, self.beside.outline.run_id
        names = {award.request_id for award in found.plan.awards}
        own = tuple(
            replace(award, binding=award.binding.replace(f"{run_id}/", ""))  # of its own CUs
            for award in rented.plan.awards
            if award.request_id in names
        )
        cost = rented.rest_microusd + sum(award.cost_microusd for award in own)
        objective = found.plan.objective_microusd - self.cost + cost
        plan = replace(
            found.plan,
            awards=own,
            objective_microusd=objective,
            bound_microusd=max(0, objective - (sharing.cost_microusd - sharing.bound_microusd)),
            rest_microusd=rented.rest_microusd,
            solver=f"{found.plan.solver}; CUs to share by the joint plan",
            is_cut=found.plan.is_cut or sharing.is_cut,
        )
        return replace(
            found, plan=plan, whole=_whole(found, run_id, own), rentals=rented.rentals, ends=None
        )


def is_shareable(capabilities: Capabilities) -> bool:
    """Whether each of a provider's CUs has a worker of its own that takes any steps at once."""
    return not (capabilities.exclusive or capabilities.one_worker or capabilities.tags)


def _whole(found: Together, run_id: str, own: Sequence[Award]) -> Plan | None:
    """Returns the plan of all that was planned with, with the run's own awards in it."""
    if found.whole is None:
        return None
    ours = {joint_id(run_id, award.request_id): award for award in own}
    awards = tuple(
        replace(ours[award.request_id], request_id=award.request_id)
        if award.request_id in ours
        else award
        for award in found.whole.awards
    )
    return replace(found.whole, awards=awards)


def _note(rentals: Sequence[Rental], plan: Plan, why: str) -> str:
    """Returns what is rented and why, in a sentence."""
    counts = {
        rental.resource_id: sum(a.capacity_id == rental.rental_id for a in plan.awards)
        for rental in rentals
    }
    named = [
        f"{name} ({count} step{'s' if count > 1 else ''})"
        for name, count in sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:NAMED]
    ]
    more = f" and {len(counts) - NAMED} more" if len(counts) > NAMED else ""
    return f"rented whole and shared: {', '.join(named)}{more}; {why}"
