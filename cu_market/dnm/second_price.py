"""What each winning provider is paid where the rule is the second price.

For a plan of cost C, and C_-j the cost of the best plan without provider j's bids, j is paid what
it bid and the harm that its presence spares the others:

    payment_j = money of its awards + max(0, C_-j - C)

(Vickrey 1961, Clarke 1971, Groves 1973.) Where plans are optimal, no provider gains by bidding
anything but its cost, since its own price enters its payment only through the choice. The harm is
shared out over its awards by their money and becomes part of their price an hour, rounded down.

A step's max price is its reserve: it is never paid more an hour, and where nobody else serves it,
it counts in C_-j as served at that price. A provider without whom a step that names no max price
would not be served has no second price: it is paid as bid. So is one whose absence was not planned
to the end, and whoever is left when time is up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cu_market.domain.bid import Bid
from cu_market.domain.plan import Award, Plan
from cu_market.domain.request import ResourceRequest
from cu_market.domain.units import MS_PER_HOUR, format_usd, lease_cost_microusd


@dataclass(frozen=True, slots=True, kw_only=True)
class _Harm:
    """What a provider's absence would cost, or why that cannot be said."""

    microusd: int = 0
    problem: str = ""


def at_second_prices(
    found: Plan,
    requests: Sequence[ResourceRequest],
    bids: Sequence[Bid],
    *,
    solve: Callable[[Sequence[Bid]], Plan],
    has_time: Callable[[], bool],
) -> Plan:
    """Returns the plan with its awards at second prices, and notes of who is paid as bid and why.

    Args:
        found: the plan, its awards priced as bid.
        requests: what was planned.
        bids: all that stood, also those that the plan dropped.
        solve: the plan for other bids; called once for each winning provider.
        has_time: asked before each call; once it says no, the remaining providers are paid as bid.
    """
    asked = {request.request_id: request for request in requests}
    offered = {bid.bid_id: bid for bid in bids}
    paid: dict[str, Award] = {}
    notes: list[str] = []
    late: list[str] = []
    for provider in sorted({award.provider for award in found.awards}):
        own = [award for award in found.awards if award.provider == provider]
        if late or not has_time():
            late.append(provider)
            continue
        others = [bid for bid in bids if bid.provider != provider]
        harm = _harm(found, solve(others), asked)
        if harm.problem:
            notes.append(f"second price: {provider} is paid as bid: {harm.problem}")
            continue
        awards = _shared(own, harm.microusd, asked, offered)
        paid.update({award.request_id: award for award in awards})
        notes.append(_paid_note(provider, own, awards, asked))
    if late:
        notes.append(f"second price: time is up; paid as bid: {', '.join(late)}")
    return replace(
        found,
        awards=tuple(paid.get(award.request_id, award) for award in found.awards),
        notes=(*found.notes, *notes),
    )


def _harm(found: Plan, other: Plan, asked: Mapping[str, ResourceRequest]) -> _Harm:
    """Returns how much more the plan without the provider costs.

    A plan that the clock cut may cost more than it need: nobody is paid for that.
    """
    if other.is_cut:
        return _Harm(problem="the plan without it was cut by the clock")
    total = sum(award.cost_microusd for award in other.awards)
    for entry in other.unserved:
        award, request = found.award_for(entry.request_id), asked[entry.request_id]
        if award is None:
            continue  # in neither plan
        reserve = request.max_price_microusd_per_hour
        if reserve is None:
            return _Harm(problem=f"without it nobody serves {entry.request_id}")
        more_an_hour = reserve - award.price_microusd_per_hour
        more = lease_cost_microusd(more_an_hour, award.expected_ms) * request.quantity
        total += award.cost_microusd + more
    served = {award.request_id for award in other.awards}
    served |= {entry.request_id for entry in other.unserved}
    costs = [award.cost_microusd for award in found.awards if award.request_id in served]
    return _Harm(microusd=max(0, total - sum(costs)))


def _shared(
    own: Sequence[Award],
    harm: int,
    asked: Mapping[str, ResourceRequest],
    offered: Mapping[str, Bid],
) -> list[Award]:
    """Returns a provider's awards with the harm shared out by their money, by time where free."""
    weights = [award.money_microusd - award.egress_microusd for award in own]
    if not any(weights):
        weights = [award.expected_ms for award in own]
    paid = []
    for award, weight in zip(own, weights, strict=True):
        request, bid = asked[award.request_id], offered[award.bid_id]
        billed_ms = max(award.expected_ms, bid.minimum_ms)
        held_ms = billed_ms * request.quantity
        more = harm * weight * MS_PER_HOUR // (sum(weights) * held_ms)
        price = award.price_microusd_per_hour + more
        if request.max_price_microusd_per_hour is not None:
            price = min(price, request.max_price_microusd_per_hour)
        lease = lease_cost_microusd(price, billed_ms) * request.quantity
        paid.append(
            replace(
                award,
                price_microusd_per_hour=price,
                bid_price_microusd_per_hour=award.price_microusd_per_hour,
                money_microusd=lease + award.egress_microusd,
            )
        )
    return paid


def _paid_note(
    provider: str,
    own: Sequence[Award],
    paid: Sequence[Award],
    asked: Mapping[str, ResourceRequest],
) -> str:
    bid, gets = (sum(award.money_microusd for award in awards) for awards in (own, paid))
    capped = [
        award.request_id
        for award in paid
        if award.price_microusd_per_hour == asked[award.request_id].max_price_microusd_per_hour
        and award.price_microusd_per_hour != award.bid_price_microusd_per_hour
    ]
    said = f"; its max price binds {', '.join(capped)}" if capped else ""
    return f"second price: {provider} bid {format_usd(bid)} and is paid {format_usd(gets)}{said}"
