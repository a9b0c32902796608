"""Checks a plan's awards in exact integers, from the records alone.

Shares nothing with what made the plan but the records' own arithmetic and the definition of cost:
a mistake in the program, its rows, its bound or a solver cannot hide here.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cu_market.dnm.feasibility import latest_end_ms, refusals
from cu_market.dnm.graph import analyse
from cu_market.dnm.objective import (
    Surcharge,
    Surcharges,
    delay_cost_microusd,
    expected_ms,
    money_microusd,
    no_surcharge,
)
from cu_market.dnm.offers import RunningLease
from cu_market.domain.bid import Bid
from cu_market.domain.plan import Award
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import lease_cost_microusd


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One thing wrong with a plan.

    Attributes:
        where: request, bid or capacity.
        what: what is wrong, with its figures.
    """

    where: str
    what: str


def violations(
    requests: Sequence[ResourceRequest],
    bids: Sequence[Bid],
    capacities: Mapping[str, ResourceVector],
    awards: Sequence[Award],
    *,
    running: Sequence[RunningLease] = (),
    fixed_starts: bool = False,
    surcharges: Surcharges = no_surcharge,
) -> tuple[Violation, ...]:
    """Returns everything wrong with the awards; empty if they can be committed.

    Checked: known request and bid, each request at most once, the pair's feasibility, its size,
    price, time, money and cost, its start after what it waits for, its deadline and, where it may
    be revoked, the time for a retry before it; what is paid, where that is not what was bid; one
    location for what is kept together; every capacity and every bid's units at every moment.
    """
    known = {request.request_id: request for request in requests}
    offered = {bid.bid_id: bid for bid in bids}
    found: list[Violation] = []
    seen: set[str] = set()
    usable: list[Award] = []
    for award in awards:
        if award.request_id not in known or award.bid_id not in offered:
            found.append(Violation(where=award.request_id, what=f"no bid {award.bid_id!r} for it"))
        elif award.request_id in seen:
            found.append(Violation(where=award.request_id, what="served twice"))
        else:
            usable.append(award)
        seen.add(award.request_id)
    ready, slack = _ready_and_slack(requests, usable, fixed_starts=fixed_starts)
    after = _after(requests)
    for award in usable:
        request, bid = known[award.request_id], offered[award.bid_id]
        found += _pair_violations(
            request,
            bid,
            award,
            ready[request.request_id],
            slack[request.request_id],
            after[request.request_id],
            surcharges,
        )
        if fixed_starts and award.start_ms != request.earliest_start_ms:
            found.append(Violation(where=award.request_id, what="does not start when it must"))
    found += _together_violations(known, offered, usable)
    found += _capacity_violations(known, offered, capacities, usable, running)
    return tuple(found)


def _ready_and_slack(
    requests: Sequence[ResourceRequest], awards: Sequence[Award], *, fixed_starts: bool
) -> tuple[dict[str, int], dict[str, int]]:
    """When each request could start under these awards, and its slack at reference speed."""
    graph = analyse(requests)
    by_id = {award.request_id: award for award in awards}
    ready: dict[str, int] = {}
    end: dict[str, int] = {}
    for i in graph.order:
        request = requests[i]
        before = [] if fixed_starts else [end[name] for name in request.depends_on]
        ready[request.request_id] = max([request.earliest_start_ms, *before])
        award = by_id.get(request.request_id)
        end[request.request_id] = (
            ready[request.request_id] + request.duration_ms
            if award is None
            else award.start_ms + award.expected_ms
        )
    return ready, {r.request_id: graph.slack_ms[i] for i, r in enumerate(requests)}


def _after(requests: Sequence[ResourceRequest]) -> dict[str, int]:
    """How long what waits for each request takes until the run's end, at reference speed."""
    children: dict[str, list[ResourceRequest]] = defaultdict(list)
    for request in requests:
        for parent in request.depends_on:
            children[parent].append(request)
    after: dict[str, int] = {}
    for i in reversed(analyse(requests).order):
        name = requests[i].request_id
        after[name] = max((c.duration_ms + after[c.request_id] for c in children[name]), default=0)
    return after


def _pair_violations(
    request: ResourceRequest,
    bid: Bid,
    award: Award,
    ready_ms: int,
    slack_ms: int,
    after_ms: int,
    surcharges: Surcharges,
) -> list[Violation]:
    where = f"{request.request_id} on {bid.bid_id}"
    surcharge = surcharges(request, bid)
    takes_ms = expected_ms(request, bid, surcharge)
    money = money_microusd(request, bid, surcharge)
    taken_ms = award.start_ms + takes_ms - ready_ms
    delay = delay_cost_microusd(request, taken_ms=taken_ms, slack_ms=slack_ms)
    found = [
        Violation(where=where, what=f"{reason}: {detail}")
        for reason, detail in refusals(request, bid, expected_ms=takes_ms, after_ms=after_ms)
    ]
    for name, said, true in (
        ("size", award.size, bid.size_for(request.needs)),
        ("bid price", _bid_price(award), bid.price_for(request.needs)),
        ("time", award.expected_ms, takes_ms),
        ("money", award.money_microusd, _paid(request, bid, award, money, surcharge)),
        ("egress", award.egress_microusd, surcharge.microusd),
        ("transfer", award.transfer_ms, surcharge.extra_ms),
        ("loss", award.loss_microusd, surcharge.loss_microusd),
        ("cost", award.cost_microusd, money + surcharge.loss_microusd + delay),
        ("provider", award.provider, bid.provider),
        ("CU", award.resource_id, bid.profile.cu_id),
        ("capacity", award.capacity_id, bid.profile.capacity_id),
    ):
        if said != true:
            found.append(Violation(where=where, what=f"{name} is {true}, not {said}"))
    found += _payment_violations(where, request, award)
    if award.start_ms < ready_ms:
        found.append(
            Violation(where=where, what=f"starts at {award.start_ms} ms, ready at {ready_ms} ms")
        )
    latest = latest_end_ms(request, bid, expected_ms=takes_ms, after_ms=after_ms)
    if latest is not None and award.start_ms + takes_ms > latest:
        found.append(Violation(where=where, what=f"ends after {latest} ms"))
    return found


def _bid_price(award: Award) -> int:
    said = award.bid_price_microusd_per_hour
    return award.price_microusd_per_hour if said is None else said


def _paid(
    request: ResourceRequest, bid: Bid, award: Award, as_bid: int, surcharge: Surcharge
) -> int:
    """The expected bill at the price that is paid."""
    if award.bid_price_microusd_per_hour is None:
        return as_bid
    billed_ms = max(bid.minimum_ms, expected_ms(request, bid, surcharge))
    lease = lease_cost_microusd(award.price_microusd_per_hour, billed_ms)
    return lease * request.quantity + surcharge.microusd


def _payment_violations(where: str, request: ResourceRequest, award: Award) -> list[Violation]:
    """A price that is paid is at least what was bid, and at most the request's max price."""
    paid, limit = award.price_microusd_per_hour, request.max_price_microusd_per_hour
    found = []
    if paid < _bid_price(award):
        found.append(Violation(where=where, what=f"paid {paid}, bid {_bid_price(award)}"))
    if limit is not None and paid > limit:
        found.append(Violation(where=where, what=f"paid {paid}, at most {limit} is asked"))
    return found


def _together_violations(
    requests: Mapping[str, ResourceRequest], bids: Mapping[str, Bid], awards: Sequence[Award]
) -> list[Violation]:
    """What one run says belongs together is in one location."""
    places: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for award in awards:
        request = requests[award.request_id]
        if request.together:
            location = bids[award.bid_id].profile.location
            places[request.run_id, request.together][request.request_id] = location
    return [
        Violation(
            where=", ".join(sorted(located)),
            what=f"together {name!r}, and in {', '.join(sorted(set(located.values())))}",
        )
        for (_, name), located in sorted(places.items())
        if len(set(located.values())) > 1
    ]


def _capacity_violations(
    requests: Mapping[str, ResourceRequest],
    bids: Mapping[str, Bid],
    capacities: Mapping[str, ResourceVector],
    awards: Sequence[Award],
    running: Sequence[RunningLease],
) -> list[Violation]:
    """Sums what is held at every moment where something starts or ends."""
    changes: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    limits: dict[tuple[str, str], int] = {}
    for name, vector in capacities.items():
        for dimension, amount in vector.items():
            limits[name, dimension] = amount
    for lease in running:  # what runs now is not in the free amounts until it ends
        for dimension, amount in lease.size.items():
            if (lease.capacity_id, dimension) in limits:
                changes[lease.capacity_id, dimension].append((max(0, lease.until_ms), -amount))
    for award in awards:
        count, bid = requests[award.request_id].quantity, bids[award.bid_id]
        begin, end = award.start_ms, award.start_ms + award.expected_ms
        held = [
            ((award.capacity_id, dimension), amount * count)
            for dimension, amount in award.size.items()
            if award.capacity_id in capacities
        ]
        if bid.rates is None:
            limits[f"bid {bid.bid_id}", "units"] = bid.quantity
            held.append(((f"bid {bid.bid_id}", "units"), count))
        for key, amount in held:
            changes[key] += [(begin, amount), (end, -amount)]
    found: list[Violation] = []
    for key in sorted(changes):
        held_now = 0
        for moment, amount in sorted(changes[key]):  # at one moment, what ends goes first
            held_now += amount
            if held_now > limits[key]:
                what = f"{key[1]}: {held_now} held at {moment} ms, {limits[key]} there"
                found.append(Violation(where=key[0], what=what))
                break
    return found
