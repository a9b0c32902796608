"""A run's rentals as what they are to its auctions: offers of its own, and room."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from cu_market.dnm.offers import RunningLease
from cu_market.dnm.renting import blocked_until_ready
from cu_market.domain.profile import ResourcePool
from cu_market.domain.rental import Rental, RentalState
from cu_market.domain.resources import ResourceVector
from cu_market.market.together.crowd import Crowd
from cu_market.ral.bids import BidRound

NOTHING = ResourceVector()


def with_rentals(bids: BidRound, rentals: Sequence[Rental]) -> BidRound:
    """Returns a round with rentals among its bids, their CUs among its capacities."""
    if not rentals:
        return bids
    pool = ResourcePool(
        profiles=bids.pool.profiles,
        capacities={**bids.pool.capacities, **{each.rental_id: each.size for each in rentals}},
    )
    offers = (*bids.bids, *(rental.bid() for rental in rentals))
    return replace(bids, bids=offers, pool=pool, rentals=(*bids.rentals, *rentals))


def with_own_rentals(
    rentals: Sequence[Rental],
    bids: BidRound,
    crowd: Crowd,
    now: datetime,
    excluded: Collection[str] = (),
) -> tuple[BidRound, Crowd]:
    """Returns a round and a crowd with the CUs that a run has rented, and those that it is to rent
    and that are still offered.

    Args:
        rentals: of the run, standing.
        bids, crowd: without them.
        now: the auction's time.
        excluded: names of those that did not deliver.
    """
    offered = {bid.bid_id for bid in bids.bids}
    known = [
        rental
        for rental in rentals
        if rental.resource_id not in excluded
        and (rental.state is RentalState.OPEN or rental.bid_id in offered)
        and not is_expired(rental, now)
    ]
    to_come = [
        (rental, rental.left_ms(now)) for rental in known if rental.state is RentalState.PLANNED
    ]
    return with_rentals(bids, known), reserved(until_ready(crowd, known, now), to_come)


def is_expired(rental: Rental, now: datetime) -> bool:
    """Whether a rental can be opened no more since its offer has ended."""
    until = rental.valid_until
    return rental.state is RentalState.PLANNED and until is not None and until <= now


def reserved(crowd: Crowd, rentals: Sequence[tuple[Rental, int]]) -> Crowd:
    """Returns a crowd that keeps the room of CUs which are to be rented free for them.

    Until their end: what is opened later has its room from now on, so that it is there then.

    Args:
        crowd: without them.
        rentals: each with the milliseconds until its planned end.
    """
    held = dict(crowd.held)
    for rental, _ in rentals:
        held[rental.capacity_id] = held.get(rental.capacity_id, ResourceVector()) + rental.size
    later = (
        RunningLease(capacity_id=each.capacity_id, size=each.size, until_ms=max(1, until_ms))
        for each, until_ms in rentals
    )
    return replace(crowd, held=held, running=(*crowd.running, *later))


def until_ready(crowd: Crowd, rentals: Sequence[Rental], now: datetime) -> Crowd:
    """Returns a crowd that keeps steps off rentals whose CUs have not started yet; one on which
    something is leased has, whatever was foreseen."""
    starting = [
        each
        for each in rentals
        if each.ready_ms(now) > 0 and crowd.held.get(each.rental_id, NOTHING) == NOTHING
    ]
    held = {each.rental_id: each.size for each in starting}
    return replace(
        crowd,
        held={**crowd.held, **held},
        running=(*crowd.running, *blocked_until_ready(starting, now)),
    )
