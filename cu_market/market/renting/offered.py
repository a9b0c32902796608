"""A run's rentals as what they are to its auctions: offers of its own, and room."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from cu_market.dnm.renting import blocked_until_ready
from cu_market.domain.profile import ResourcePool
from cu_market.domain.rental import Rental, RentalState
from cu_market.domain.resources import ResourceVector
from cu_market.market.together.crowd import Crowd
from cu_market.ral.bids import BidRound


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
    ]
    return with_rentals(bids, known), until_ready(crowd, known, now)


def until_ready(crowd: Crowd, rentals: Sequence[Rental], now: datetime) -> Crowd:
    """Returns a crowd that keeps steps off rentals whose CUs have not started yet."""
    starting = [rental for rental in rentals if rental.ready_ms(now) > 0]
    if not starting:
        return crowd
    nothing = ResourceVector()
    held = {
        each.rental_id: crowd.held.get(each.rental_id, nothing) + each.size for each in starting
    }
    return replace(
        crowd,
        held={**crowd.held, **held},
        running=(*crowd.running, *blocked_until_ready(starting, now)),
    )
