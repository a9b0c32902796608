"""A run's rentals as what they are to its auctions: offers of its own, and room."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from cu_market.dnm.renting import blocked_until_ready
from cu_market.domain.profile import ResourcePool
from cu_market.domain.rental import Rental
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
