"""While a run goes: what waits on its rented CUs is planned anew, at today's offers.

1. read what waits on rentals, with what it asked for, and what ran and runs there;
2. ask the providers for bids;
3. where a CU that was to be rented is offered no more, its steps are for another auction;
4. plan what is left (``dnm.renting.replanned``), and say which steps move, which CUs are to be
   rented, and when each step is to start.

Steps are moved whenever the plan of what is left has them elsewhere: none of them has begun, and
what moving them costs and saves is all in the plan. A run with a budget is given no CUs that its
plan did not have: it might have to wait for the money.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from cu_market.dnm.objective import expected_ms
from cu_market.dnm.renegotiation import Place
from cu_market.dnm.renting import planned_rental, replanned
from cu_market.domain.allocation import Allocation
from cu_market.domain.auction import Auction
from cu_market.domain.bid import Bid
from cu_market.domain.open_request import OpenRequest
from cu_market.domain.rental import STANDING_RENTALS, Rental, RentalState
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import MICROUSD, format_usd
from cu_market.market.auction import Market
from cu_market.market.renting.going import Going, Waits, left_of
from cu_market.market.renting.offered import is_expired
from cu_market.market.renting.shared import is_shareable
from cu_market.ral.bids import BidRound

REPLAN = "replan"
"""Where such an auction was held, as its record says."""

_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Replanned:
    """What a look at a run's rentals has found.

    Attributes:
        gone: steps on CUs that are offered no more, not rented yet.
        planned_ms: by step that waits on a rental, its planned start.
        opens_ms: by rental_id, when each that is planned is to be opened.
        moves: by step, from which award to which.
        auction, asked, rentals: to be written with the moves.
        seen: rental_ids of those that were open.
    """

    gone: tuple[str, ...] = ()
    planned_ms: Mapping[str, int]
    opens_ms: Mapping[str, int]
    moves: Mapping[str, tuple[Allocation, Allocation]]
    auction: Auction
    asked: tuple[OpenRequest, ...]
    rentals: tuple[Rental, ...]
    seen: frozenset[str]

    def sentences(self) -> list[str]:
        """Returns each move in words."""
        return [
            f"{step} moves from {before.resource_id} to {after.resource_id}"
            for step, (before, after) in sorted(self.moves.items())
        ]


def look(market: Market, going: Going) -> Replanned | None:
    """Returns what is to become of what waits on a run's rentals; None where nothing does, or what
    does has begun meanwhile.

    Args:
        market: open; nothing is written.
        going: the run.
    """
    ledger, now = market.ledger, market.now()
    rentals = ledger.rentals(run_id=going.run_id)
    standing = {each.rental_id: each for each in rentals if each.state in STANDING_RENTALS}
    rows = {
        row.step_key: (row, asked)
        for row, asked in ledger.standing()
        if row.run_id == going.run_id
        and row.capacity_id in standing
        and not (row.step_key in going.begun or row.step_key in going.over)
    }
    if not rows:
        return None
    round_ = market.ask([asked.request for _, asked in rows.values()], now)
    if any(each.profile.provider in round_.silent for each in standing.values()):
        return None  # who does not answer now may yet have what it has offered
    bids = _offers(market, round_, standing.values())
    offered = {bid.bid_id: bid for bid in bids}
    current = {
        key: _repriced(each, offered.get(each.bid_id))
        for key, each in standing.items()
        if each.state is RentalState.OPEN or (each.bid_id in offered and not is_expired(each, now))
    }
    gone = tuple(sorted(step for step, (row, _) in rows.items() if row.capacity_id not in current))
    kept = {step: pair for step, pair in rows.items() if pair[0].capacity_id in current}
    left = left_of(ledger, going, kept, current, rentals, now)
    if any(stay.step_key in kept and stay.end_ms > left.now_ms for stay in left.stays):
        return None  # it has begun since it was read as waiting: looked at again
    places = replanned(left, bids, list(current.values())) if kept else {}
    free = _free(market, round_, bids, current.values())
    return _found(going, kept, current, rentals, places, offered, free, gone, now)


def _offers(market: Market, round_: BidRound, rentals: Collection[Rental]) -> list[Bid]:
    """Returns what may be rented now where the run's CUs are."""
    where = {rental.profile.location for rental in rentals}
    had = {rental.bid_id for rental in rentals}
    return [
        bid
        for bid in round_.bids
        if bid.rates is None
        and bid.profile.location in where
        and (not bid.profile.interruption_millis_per_hour or bid.bid_id in had)
        and is_shareable(market.providers[bid.provider].capabilities)
    ]


def _free(
    market: Market, round_: BidRound, bids: Collection[Bid], rentals: Collection[Rental]
) -> dict[str, ResourceVector]:
    """Returns what is free of each capacity that is offered, beside what the run is to rent."""
    found = {}
    for capacity_id in {bid.profile.capacity_id for bid in bids}:
        free = round_.pool.capacities[capacity_id].minus(market.ledger.held(capacity_id))
        for rental in rentals:
            if rental.state is RentalState.PLANNED and rental.capacity_id == capacity_id:
                free = free.minus(rental.size)
        found[capacity_id] = free
    return found


def _repriced(rental: Rental, bid: Bid | None) -> Rental:
    """Returns a rental that is not open yet at today's price."""
    if bid is None or rental.state is not RentalState.PLANNED:
        return rental
    return replace(rental, price_microusd_per_hour=bid.price_microusd_per_hour)


def _found(
    going: Going,
    kept: Waits,
    current: Mapping[str, Rental],
    rentals: Collection[Rental],
    places: Mapping[str, Place],
    offered: Mapping[str, Bid],
    free: Mapping[str, ResourceVector],
    gone: tuple[str, ...],
    now: datetime,
) -> Replanned:
    auction_id = uuid.uuid4().hex
    names = {rental.resource_id for rental in rentals}
    rows = {rental.rental_id: rental for rental in rentals}
    # One whose price has changed before it was opened is another one, at today's price.
    known = {
        rental.resource_id: rental
        for rental in current.values()
        if rental.price_microusd_per_hour == rows[rental.rental_id].price_microusd_per_hour
    }
    new: dict[tuple[str, str], Rental] = {}
    where: dict[str, Rental] = {}
    for step, place in sorted(places.items()):
        there, like = known.get(place.cu_id), current.get(place.machine)
        machine = place.machine if like is None else like.bid_id  # an open one's type is its own
        if machine not in offered:
            there = like  # there is no other one like it
        is_open = there is not None and there.state is RentalState.OPEN
        if there is None or not (is_open or there.bid_id == machine):
            key = (place.cu_id, machine)
            if key not in new:
                made = planned_rental(offered[machine], going.run_id, names, now)
                names.add(made.resource_id)
                new[key] = replace(made, auction_id=auction_id)
            there = new[key]
        where[step] = there
    if new and (going.has_budget or not _are_free(new.values(), free)):
        places, new, where = {}, {}, {s: current[row.capacity_id] for s, (row, _) in kept.items()}
    moves = {
        step: (row, _moved(row, asked, where[step], auction_id, now))
        for step, (row, asked) in kept.items()
        if where[step].rental_id != row.capacity_id
    }
    timed = {step: place.start_ms for step, place in places.items()}
    opens = _opens_ms(where, timed)
    return Replanned(
        gone=gone,
        planned_ms=timed,
        opens_ms=opens,
        moves=moves,
        auction=Auction(
            auction_id=auction_id,
            run_id=going.run_id,
            held_at=now,
            mode="market",
            place=REPLAN,
            report=_report(going, kept, moves, timed, now),
        ),
        asked=tuple(replace(kept[step][1], moves=kept[step][1].moves) for step in moves),
        seen=frozenset(key for key, each in current.items() if each.state is RentalState.OPEN),
        rentals=tuple(_as_planned(rental, where, timed, kept, going) for rental in new.values()),
    )


def _are_free(new: Collection[Rental], free: Mapping[str, ResourceVector]) -> bool:
    """Whether there is room for all that are to be rented."""
    wanted: dict[str, ResourceVector] = {}
    for rental in new:
        held = wanted.get(rental.capacity_id, ResourceVector())
        wanted[rental.capacity_id] = held + rental.size
    return all(size.fits_in(free[capacity_id]) for capacity_id, size in wanted.items())


def _moved(
    row: Allocation, asked: OpenRequest, rental: Rental, auction_id: str, now: datetime
) -> Allocation:
    bid = rental.bid()
    return replace(
        row,
        attempt=row.attempt + 1,
        auction_id=auction_id,
        bid_id=bid.bid_id,
        provider=bid.provider,
        resource_id=rental.resource_id,
        capacity_id=rental.rental_id,
        price_microusd_per_hour=bid.price_for(row.size),
        expected_ms=expected_ms(replace(asked.request, needs=row.size), bid),
        awarded_at=now,
        minimum_ms=0,
        valid_until=None,
    )


def _opens_ms(where: Mapping[str, Rental], timed: Mapping[str, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for step, start_ms in timed.items():
        rental = where[step]
        if rental.state is RentalState.PLANNED:
            opens = start_ms - rental.profile.startup_ms
            found[rental.rental_id] = min(opens, found.get(rental.rental_id, opens))
    return found


def _as_planned(
    rental: Rental,
    where: Mapping[str, Rental],
    timed: Mapping[str, int],
    kept: Waits,
    going: Going,
) -> Rental:
    """Returns a new rental with its times."""
    bid = rental.bid()
    own = [step for step, each in where.items() if each.rental_id == rental.rental_id]
    starts = [timed[step] for step in own]
    ends = [
        timed[step] + expected_ms(replace(kept[step][1].request, needs=kept[step][0].size), bid)
        for step in own
    ]
    opens_ms = min(starts) - rental.profile.startup_ms
    opens_at = max(rental.planned_at, going.origin + opens_ms * _MILLISECOND)
    return replace(rental, opens_at=opens_at, expected_ms=max(ends) - opens_ms)


def _report(
    going: Going,
    kept: Waits,
    moves: Mapping[str, tuple[Allocation, Allocation]],
    timed: Mapping[str, int],
    now: datetime,
) -> dict[str, Any]:
    """Returns what is told of the moved steps: as their last auction, but for the winner."""
    now_ms = going.ms(now)
    steps = []
    for step, (before, after) in sorted(moves.items()):
        told = dict(going.reports.get(step, {"step": step}))
        winner = dict(told.get("winner") or {})
        price = after.price_microusd_per_hour / MICROUSD
        winner |= {
            "provider": after.provider,
            "resource_id": after.resource_id,
            "price_per_hour": price,
            "bid_price_per_hour": price,
            "start_seconds": max(0, timed[step] - now_ms) / 1000,
            "expected_seconds": after.expected_ms / 1000,
        }
        losses = [
            loss for loss in told.get("losses", ()) if loss["resource_id"] != after.resource_id
        ]
        told |= {"losses": losses, "runner_up": losses[0] if losses else None}
        was = f"{before.resource_id} at {format_usd(before.price_microusd_per_hour)} an hour"
        steps.append({**told, "winner": winner, "binding": f"planned anew: it was on {was}"})
    jobs = {asked.job_name for _, asked in kept.values()}
    return {"job": next(iter(jobs), ""), "steps": steps, "bids": [], "notes": []}
