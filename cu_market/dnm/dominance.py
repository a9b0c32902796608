"""Bids that another bid makes pointless for everything that is asked, dropped before the program.

Bid a is dominated by bid b if, whatever the plan, each request that a serves could be moved to b so
as to end at the same moment, and nothing would be dearer, later, or short of room:

    for every request that a could serve, b could: at a price, a minimum, a time and a chance of
    being revoked that are no higher; in the same location, its egress no dearer, its network no
    slower; with a validity that ends no earlier, and the same trust and environment;
    and b has room: it is cut from the same capacity and takes no more of it, or its capacity holds
    everything that is asked at once; and of b, where it is sold whole, there are enough for all.

This is transitive, and of bids that dominate each other the first in canonical order stays: so what
is left does not depend on the order of arrival, and some optimal plan uses nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from cu_market.dnm.explain import told_price
from cu_market.dnm.feasibility import refusals
from cu_market.dnm.graph import analyse
from cu_market.dnm.objective import (
    Surcharges,
    delay_cost_microusd,
    expected_ms,
    money_microusd,
    winning_price,
)
from cu_market.dnm.offers import bids_in_order
from cu_market.domain.bid import Bid
from cu_market.domain.plan import Award, Loss, LossReason, Plan
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import format_usd

MOST_COMPARISONS = 100_000
"""Beyond so many of one bid with another for a kind of request nothing is looked for: the program
prices pointless bids out by itself, and comparing takes longer than it saves (half a second)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dominated:
    """A bid that was dropped.

    Attributes:
        bid: the bid.
        by: the one that stays in its place.
    """

    bid: Bid
    by: Bid


@dataclass(frozen=True, slots=True)
class _Serving:
    """What a bid would give to one kind of request, all of it the less the better."""

    price: int
    takes_ms: int
    size: ResourceVector


_Row = tuple[_Serving | None, ...]


def drop_dominated(
    requests: Sequence[ResourceRequest],
    bids: Sequence[Bid],
    capacities: Mapping[str, ResourceVector],
    *,
    kept_for: Collection[str] = (),
) -> tuple[tuple[Bid, ...], tuple[Dominated, ...]]:
    """Returns the bids that are left, in the order given, and those that were dropped.

    Args:
        requests, bids, capacities: what will be planned.
        kept_for: bid_ids that stay whatever they are: something stands there already.

    Raises:
        InvalidInputError: see offers.bids_in_order.
    """
    ordered = bids_in_order(bids, capacities)
    kinds = _kinds(requests)
    if len(kinds) * len(ordered) ** 2 > MOST_COMPARISONS:
        return tuple(bids), ()
    rows = [tuple(_serving(request, bid) for request, _ in kinds) for bid in ordered]
    quantity = sum(request.quantity for request in requests)
    roomy = _roomy(kinds, ordered, capacities)
    better: list[list[int]] = [[] for _ in ordered]
    for a, bid in enumerate(ordered):
        for b, other in enumerate(ordered):
            if (
                a != b
                and _is_as_good(other, bid)
                and _has_room(other, bid, rows[b], rows[a], quantity, roomy)
                and _serves_as_well(rows[b], rows[a])
            ):
                better[a].append(b)
    kept: list[int] = []
    dropped: dict[str, Dominated] = {}
    for a in range(len(ordered)):
        if all(a in better[b] and a < b for b in better[a]):
            kept.append(a)
    stays = set(kept)
    for a, bid in enumerate(ordered):
        if a not in stays and bid.bid_id not in kept_for:
            by = next(b for b in kept if b in better[a])
            dropped[bid.bid_id] = Dominated(bid=bid, by=ordered[by])
    left = tuple(bid for bid in bids if bid.bid_id not in dropped)
    return left, tuple(dropped.values())


def tell_dominated(
    found: Plan,
    requests: Sequence[ResourceRequest],
    dropped: Sequence[Dominated],
    surcharges: Surcharges,
) -> Plan:
    """Returns the plan with every dropped bid among the losses of each request.

    Args:
        found: planned without them.
        requests: its requests.
        dropped: the bids, and what dominates each.
        surcharges: those that the plan was priced with.
    """
    if not dropped:
        return found
    asked = {request.request_id: request for request in requests}
    slack = dict(zip(asked, analyse(requests).slack_ms, strict=True))
    ends = {award.request_id: award.start_ms + award.expected_ms for award in found.awards}
    told = []
    for award in found.awards:
        request = asked[award.request_id]
        before = [ends[name] for name in request.depends_on if name in ends]
        waited_ms = award.start_ms - max([request.earliest_start_ms, *before])
        losses = [
            _loss(request, each, award, waited_ms, slack[award.request_id], surcharges)
            for each in dropped
        ]
        told.append(replace(award, losses=_merged(award.losses, losses)))
    unserved = tuple(
        replace(
            entry,
            losses=(
                *entry.losses,
                *(_refusal(asked[entry.request_id], each, surcharges) for each in dropped),
            ),
        )
        for entry in found.unserved
    )
    return replace(found, awards=tuple(told), unserved=unserved)


def _kinds(requests: Sequence[ResourceRequest]) -> list[tuple[ResourceRequest, int]]:
    """Returns one request of each kind that bids could tell apart, and how many are asked of it.

    Deadlines are no part of it: a bid that is quicker is in time wherever the other is.
    """
    kinds: dict[tuple[object, ...], ResourceRequest] = {}
    counts: dict[tuple[object, ...], int] = defaultdict(int)
    for request in requests:
        key = (
            request.needs,
            request.gpu_type,
            request.quantity,
            request.providers,
            request.locations,
            None if request.kept is None else request.kept.location,
            request.interruptible,
            request.max_price_microusd_per_hour,
            request.duration_ms,
            request.scaling,
            request.timestamp,
        )
        kinds.setdefault(key, replace(request, latest_finish_ms=None))
        counts[key] += request.quantity
    return [(request, counts[key]) for key, request in kinds.items()]


def _serving(request: ResourceRequest, bid: Bid) -> _Serving | None:
    takes_ms = expected_ms(request, bid)
    if refusals(request, bid, expected_ms=takes_ms):
        return None
    return _Serving(bid.price_for(request.needs), takes_ms, bid.size_for(request.needs))


def _is_as_good(better: Bid, worse: Bid) -> bool:
    """Whether what holds for all requests alike is no worse."""
    b, a = better.profile, worse.profile
    is_as_near = (
        b.location == a.location
        and b.egress_microusd_per_gb <= a.egress_microusd_per_gb
        and (
            b.network_bandwidth_mbps == a.network_bandwidth_mbps
            or b.network_bandwidth_mbps > a.network_bandwidth_mbps > 0
        )
    )
    lasts = better.valid_until is None or (
        worse.valid_until is not None and better.valid_until >= worse.valid_until
    )
    return (
        is_as_near
        and lasts
        and better.minimum_ms <= worse.minimum_ms
        and b.interruption_millis_per_hour <= a.interruption_millis_per_hour
        and (b.trust_tier, b.environment_fingerprint) == (a.trust_tier, a.environment_fingerprint)
    )


def _serves_as_well(better: _Row, worse: _Row) -> bool:
    return all(
        a is None or (b is not None and b.price <= a.price and b.takes_ms <= a.takes_ms)
        for b, a in zip(better, worse, strict=True)
    )


def _has_room(
    better: Bid, worse: Bid, own: _Row, others: _Row, quantity: int, roomy: frozenset[str]
) -> bool:
    if better.rates is None and better.quantity < quantity:
        return False
    if better.profile.capacity_id in roomy:
        return True
    return better.profile.capacity_id == worse.profile.capacity_id and all(
        a is None or (b is not None and b.size.fits_in(a.size))
        for b, a in zip(own, others, strict=True)
    )


def _roomy(
    kinds: Sequence[tuple[ResourceRequest, int]],
    bids: Sequence[Bid],
    capacities: Mapping[str, ResourceVector],
) -> frozenset[str]:
    """Returns the capacities that hold all requests at once, whichever of their bids serve them."""
    names = {bid.profile.capacity_id for bid in bids}
    found = set()
    for name in sorted(names):
        if name not in capacities:
            found.add(name)  # bids sold whole, bounded by their quantity alone
            continue
        own = [bid for bid in bids if bid.profile.capacity_id == name]
        total = ResourceVector()
        for request, count in kinds:
            largest = ResourceVector()
            for bid in own:
                largest = largest.largest(bid.size_for(request.needs))
            total += largest.times(count)
        if total.fits_in(capacities[name]):
            found.add(name)
    return frozenset(found)


def _loss(
    request: ResourceRequest,
    dropped: Dominated,
    award: Award,
    waited_ms: int,
    slack_ms: int,
    surcharges: Surcharges,
) -> Loss:
    """Returns why a dropped bid lost a request that another one won: what it would have cost, as
    for any other loser."""
    bid = dropped.bid
    surcharge = surcharges(request, bid)
    takes_ms = expected_ms(request, bid, surcharge)
    if refusals(request, bid, expected_ms=takes_ms):
        return _refusal(request, dropped, surcharges)
    delay = delay_cost_microusd(request, taken_ms=waited_ms + takes_ms, slack_ms=slack_ms)
    cost = money_microusd(request, bid, surcharge) + surcharge.loss_microusd + delay
    more = cost - award.cost_microusd
    detail, wins_at = f"{format_usd(cost)} in all", None
    if more > 0:
        wins_at = winning_price(
            bid.price_for(request.needs),
            more,
            billed_ms=max(takes_ms, bid.minimum_ms),
            quantity=request.quantity,
        )
        detail = f"{format_usd(more)} dearer: {detail}{told_price(wins_at)}"
    told = _told(dropped, f"{detail}; {_by(dropped)}", cost)
    return replace(told, wins_at_microusd_per_hour=wins_at)


def _refusal(request: ResourceRequest, dropped: Dominated, surcharges: Surcharges) -> Loss:
    """Returns why a dropped bid does not serve a request that it might not serve in any case."""
    takes_ms = expected_ms(request, dropped.bid, surcharges(request, dropped.bid))
    reasons = refusals(request, dropped.bid, expected_ms=takes_ms)
    if not reasons:
        return _told(dropped, _by(dropped), None)
    detail = "; ".join(said for _, said in reasons)
    return replace(_told(dropped, detail, None), reason=reasons[0][0])


def _by(dropped: Dominated) -> str:
    return f"{dropped.by.profile.cu_id} is as good in everything, and no dearer"


def _told(dropped: Dominated, detail: str, cost: int | None) -> Loss:
    return Loss(
        bid_id=dropped.bid.bid_id,
        provider=dropped.bid.provider,
        resource_id=dropped.bid.profile.cu_id,
        reason=LossReason.DOMINATED,
        detail=detail,
        cost_microusd=cost,
    )


def _merged(losses: Sequence[Loss], more: Sequence[Loss]) -> tuple[Loss, ...]:
    """Returns all losses: those with a cost by it, then the others."""
    every = [*losses, *more]
    feasible = [loss for loss in every if loss.cost_microusd is not None]
    feasible.sort(key=lambda loss: loss.cost_microusd or 0)
    return (*feasible, *(loss for loss in every if loss.cost_microusd is None))
