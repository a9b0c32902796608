"""A run's plan on CUs that it rents: each step leases its size there, and the bills add up.

Every CU of a sharing becomes a capacity of its own, which is the run's from its start-up on, and a
bid of that capacity at the CU's price by share. Then the plan is that of any choice of bids, made,
priced, explained and checked as all plans are (``placement.placing``); what the shares leave of the
CUs' bills is added to what it costs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cu_market.dnm.offers import RunningLease
from cu_market.dnm.renting.sharing import Sharing
from cu_market.domain.bid import Bid
from cu_market.domain.plan import Award, Plan
from cu_market.domain.rental import Rental, rented_name
from cu_market.domain.units import lease_cost_microusd

_MILLISECOND = timedelta(milliseconds=1)

Choose = Callable[[Sequence[Rental], Mapping[str, str], Mapping[str, int]], Plan]
"""Returns the plan of the run's steps, and of all that is planned with it, with these rentals:
bid_id and start of each step that shares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rented:
    """A plan with rentals.

    Attributes:
        plan: of all that was planned; what it costs includes what the shares leave of the bills.
        rentals: as they are to be written.
        rest_microusd: what the shares leave of the bills, in all.
    """

    plan: Plan
    rentals: tuple[Rental, ...]
    rest_microusd: int


def rent_shared(
    sharing: Sharing,
    bids: Sequence[Bid],
    choose: Choose,
    *,
    run_id: str,
    taken: Collection[str],
    now: datetime,
) -> Rented | None:
    """Returns the plan on a sharing's CUs; None where it does not serve all.

    Args:
        sharing: which CUs, and what runs on them.
        bids: the auction's.
        choose: plans with rentals.
        run_id: whose CUs they are.
        taken: names of CUs that the run has rented before.
        now: the auction's time.
    """
    offered = {bid.bid_id: bid for bid in bids}
    rentals: list[Rental] = []
    choice: dict[str, str] = {}
    starts: dict[str, int] = {}
    names = set(taken)
    for cu in sharing.cus:
        rental = planned_rental(offered[cu.machine], run_id, names, now)
        names.add(rental.resource_id)
        rentals.append(rental)
        for stay in cu.stays:
            choice[stay.task_id], starts[stay.task_id] = rental.rental_id, stay.start_ms
    plan = choose(rentals, choice, starts)
    if plan.unserved:
        return None
    timed = [_timed(rental, plan.awards, now) for rental in rentals]
    rest = sum(left for _, left in timed)
    return Rented(
        plan=replace(plan, objective_microusd=plan.objective_microusd + rest),
        rentals=tuple(rental for rental, _ in timed),
        rest_microusd=rest,
    )


def blocked_until_ready(rentals: Sequence[Rental], now: datetime) -> list[RunningLease]:
    """Returns what makes each rental's room free once its CU has started."""
    return [
        RunningLease(
            capacity_id=rental.rental_id, size=rental.size, until_ms=max(1, rental.ready_ms(now))
        )
        for rental in rentals
    ]


def planned_rental(bid: Bid, run_id: str, taken: Collection[str], now: datetime) -> Rental:
    """Returns a rental of a bid's CU, to be opened at once.

    Args:
        bid: sold whole.
        run_id: whose it will be.
        taken: names of CUs that the run has rented before.
        now: aware UTC.
    """
    number = 1
    while rented_name(bid.profile.cu_id, number) in taken:
        number += 1
    name = rented_name(bid.profile.cu_id, number)
    rental_id = f"{run_id}/{name}"
    return Rental(
        rental_id=rental_id,
        run_id=run_id,
        auction_id="",
        bid_id=bid.bid_id,
        profile=replace(
            bid.profile,
            cu_id=name,
            capacity_id=rental_id,
            performance_millis=bid.performance_millis,
        ),
        capacity_id=bid.profile.capacity_id,
        price_microusd_per_hour=bid.price_microusd_per_hour,
        minimum_ms=bid.minimum_ms,
        expected_ms=0,
        planned_at=now,
        opens_at=now,
        valid_until=bid.valid_until,
    )


def _timed(rental: Rental, awards: Sequence[Award], now: datetime) -> tuple[Rental, int]:
    """Returns a rental with its times, and what its shares leave of its bill."""
    own = [award for award in awards if award.capacity_id == rental.rental_id]
    if not own:
        return rental, 0
    opens_ms = max(0, min(award.start_ms for award in own) - rental.profile.startup_ms)
    ends_ms = max(award.start_ms + award.expected_ms for award in own)
    timed = replace(rental, expected_ms=ends_ms - opens_ms, opens_at=now + opens_ms * _MILLISECOND)
    paid = sum(award.money_microusd - award.egress_microusd for award in own)
    billed_ms = max(timed.expected_ms, rental.minimum_ms)
    return timed, max(0, lease_cost_microusd(rental.price_microusd_per_hour, billed_ms) - paid)
