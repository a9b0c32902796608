"""An auction's rounds: where what was won is withdrawn before the commit, the rest is asked again.

One round:

1. plan at the bids that stand;
2. ask the winners' providers, in parallel, whether what they offered is still there;
3. if a bid has expired or its CU or room is gone, that bid is out, and the next round begins.

All steps are planned anew, not the gap alone: nothing is committed yet, and what fills the gap may
be better used elsewhere. Each round removes a bid, and there are at most MAX_ROUNDS.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from cu_market.domain.bid import Bid
from cu_market.domain.plan import Award, Plan
from cu_market.domain.profile import ResourcePool
from cu_market.domain.rental import offered_name
from cu_market.domain.resources import ResourceVector
from cu_market.market.demand.requests import Demand
from cu_market.market.together.joint import Together
from cu_market.market.unserved import (
    OUT_OF_TIME,
    MarketUnavailableError,
    NoRoomYetError,
    named,
    no_room_left,
    refuse_unserved,
)
from cu_market.ral.bids import BidRound, ask_pools
from cu_market.ral.provider import Provider

MAX_ROUNDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """What rounds are held with.

    Attributes:
        providers: by name.
        solve: plans a demand at the bids of a round, with what waits beside it.
        now: the clock.
        deadline_seconds: for the providers to say what is still there; the word of one that has
            not said it by then stands: its lease is checked again in any case.
        is_wanted: asked before each round but the first.
    """

    providers: Mapping[str, Provider]
    solve: Callable[[Demand, BidRound], Together]
    now: Callable[[], datetime]
    deadline_seconds: float
    is_wanted: Callable[[], bool]

    def hold(self, demand: Demand, bids: BidRound) -> tuple[Together, BidRound]:
        """Returns a plan whose winners stand, and whoever it moves, each withdrawal in its notes,
        and the bids that are left.

        Raises:
            InvalidInputError, NoRoomYetError, MarketUnavailableError: see refuse_unserved; or
                nobody fills what was withdrawn, or MAX_ROUNDS were not enough.
        """
        told: list[str] = []
        for number in range(1, MAX_ROUNDS + 1):
            if told and not self.is_wanted():
                raise MarketUnavailableError(
                    f"{'; '.join(told)}; the caller waits no longer", OUT_OF_TIME
                )
            found = self.solve(demand, bids)
            outcome = found.plan
            if told and outcome.unserved:
                raise no_room_left(outcome, demand, bids, self.providers, told)
            refuse_unserved(outcome, demand, bids, self.providers)
            awards = (*_claims(outcome, bids, found), *(move.award for move in found.moves))
            gone = self.withdrawn(awards, bids)
            if not gone:
                told_in = replace(outcome, notes=(*told, *outcome.notes))
                return replace(found, plan=told_in), bids
            told.append(f"round {number}: {_sentence(awards, gone)}")
            left_over = tuple(bid for bid in bids.bids if bid.bid_id not in gone)
            bids = replace(bids, bids=left_over)
        raise NoRoomYetError(
            f"no plan stood after {MAX_ROUNDS} rounds: {'; '.join(told)}",
            "ask again; where it stays so, see with `cu-market pool` what those providers offer",
        )

    def withdrawn(self, awards: Sequence[Award], bids: BidRound) -> dict[str, str]:
        """Returns why winning bids no longer stand, by bid_id."""
        offered = {bid.bid_id: bid for bid in bids.bids}
        won = {offered[award.bid_id].profile.cu_id for award in awards}
        listed = {profile.cu_id for profile in bids.pool.profiles if profile.cu_id in won}
        pools = ask_pools(
            [self.providers[name] for name in sorted({award.provider for award in awards})],
            cu_ids=won,
            capacity_ids={award.capacity_id for award in awards},
            deadline_seconds=self.deadline_seconds,
        )
        now = self.now()
        gone: dict[str, str] = {}
        for award in awards:
            bid = offered[award.bid_id]
            reason = _expired(bid, now)
            if not reason and award.provider in pools:
                reason = _missing(award, bid, listed, pools[award.provider])
            if reason:
                gone.setdefault(award.bid_id, reason)
        return gone


def _claims(outcome: Plan, bids: BidRound, found: Together) -> list[Award]:
    """Returns what the run's awards claim of the providers: a share of a CU that is to be rented
    claims all of it, one of a CU that the run has rented nothing more."""
    rented = {rental.rental_id for rental in bids.rentals}
    wanted = {rental.rental_id: rental for rental in found.rentals}
    claims = []
    for award in outcome.awards:
        rental = wanted.get(award.capacity_id)
        if rental is not None:
            award = replace(
                award,
                bid_id=rental.bid_id,
                capacity_id=rental.capacity_id,
                resource_id=offered_name(rental.resource_id),
                size=rental.size,
            )
        if award.capacity_id not in rented:
            claims.append(award)
    return claims


def _expired(bid: Bid, now: datetime) -> str:
    if bid.valid_until is None or bid.valid_until >= now:
        return ""
    return f"offered until {bid.valid_until.isoformat(timespec='seconds')}"


def _missing(award: Award, bid: Bid, listed: Collection[str], after: ResourcePool) -> str:
    """Returns what of an award's CU and room is there no more; empty where all of it is."""
    still = {profile.cu_id for profile in after.profiles}
    if bid.profile.cu_id in listed and bid.profile.cu_id not in still:
        return "no longer in its provider's pool"
    room = after.capacities.get(award.capacity_id, ResourceVector())
    short = award.size.exceeds(room)
    return f"its room has become too small for {award.request_id}: {short[0]}" if short else ""


def _sentence(awards: Sequence[Award], gone: Mapping[str, str]) -> str:
    parts = []
    for bid_id, reason in gone.items():
        own = [award for award in awards if award.bid_id == bid_id]
        steps = named([award.request_id for award in own])
        parts.append(f"{own[0].resource_id} was withdrawn ({reason}), which had won {steps}")
    return "; ".join(parts)
