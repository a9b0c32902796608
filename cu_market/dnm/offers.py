"""Every feasible pair of a request and a bid, and the rooms that they would take from.

Requests and bids are put into a canonical order here, before anything is numbered or named, so that
nothing after this module can depend on the order in which they arrived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cu_market.dnm.feasibility import Refusals, latest_end_ms, refusals
from cu_market.dnm.graph import Graph, analyse
from cu_market.dnm.objective import (
    Surcharge,
    Surcharges,
    delay_cost_microusd,
    expected_ms,
    money_microusd,
    no_surcharge,
)
from cu_market.domain.bid import Bid
from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector

UNITS = "units"
"""The dimension of a room that counts the units of a bid sold whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningLease:
    """What is taken now and becomes free later, on top of the free capacity.

    Attributes:
        capacity_id: where it returns to.
        size: how much.
        until_ms: when, milliseconds after the auction's time.
    """

    capacity_id: str
    size: ResourceVector
    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """One amount that is limited at every moment.

    Attributes:
        owner: capacity_id, or ``bid <bid_id>`` for the units of a bid sold whole.
        dimension: ``cpu_millis``, ``memory_bytes``, ``gpu_count`` or ``units``.
        limit: what there is when everything that runs now has ended.
        running: (until_ms, amount) of what runs now.
    """

    owner: str
    dimension: str
    limit: int
    running: tuple[tuple[int, int], ...] = ()

    def limit_at(self, at_ms: int) -> int:
        """Returns what there is at that moment."""
        return self.limit - sum(amount for until, amount in self.running if at_ms < until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A feasible pair.

    Attributes:
        request, bid: indices into the table.
        size: what one lease takes.
        price_microusd_per_hour: of one lease.
        expected_ms: time there, start-up included.
        money_microusd: expected bill.
        surcharge: what it costs beside its lease: in money_microusd, in expected_ms, and what an
            interruption is expected to cost.
        latest_end_ms: when it must have ended, or None.
        floor_microusd: its cost if it need not wait: its cost is never below.
        takes: (room index, amount) of all its leases together.
    """

    request: int
    bid: int
    size: ResourceVector
    price_microusd_per_hour: int
    expected_ms: int
    money_microusd: int
    surcharge: Surcharge
    latest_end_ms: int | None
    floor_microusd: int
    takes: tuple[tuple[int, int], ...]

    @property
    def fixed_microusd(self) -> int:
        """What it costs however long it waits."""
        return self.money_microusd + self.surcharge.loss_microusd


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferTable:
    """The whole input of a selection in canonical order.

    Attributes:
        requests: by request_id.
        bids: by content, then bid_id.
        graph: of the requests.
        offers: per request, in the bids' order.
        refused: reasons of each infeasible (request, bid).
        rooms: limited amounts.
        penalty_microusd: cost of leaving a request unserved that some bid could serve; more than
            ten of the dearest offers, so that it is only done where room is missing. A request
            that no bid could serve costs nothing: it would be the same constant in every plan.
    """

    requests: tuple[ResourceRequest, ...]
    bids: tuple[Bid, ...]
    graph: Graph
    offers: tuple[tuple[Offer, ...], ...]
    refused: Mapping[tuple[int, int], Refusals]
    rooms: tuple[Room, ...]
    penalty_microusd: int

    def cost(self, offer: Offer, waited_ms: int) -> int:
        """Returns money, expected loss and delay cost in micro-dollars after waiting that long."""
        return offer.fixed_microusd + delay_cost_microusd(
            self.requests[offer.request],
            taken_ms=waited_ms + offer.expected_ms,
            slack_ms=self.graph.slack_ms[offer.request],
        )

    def penalty(self, request: int) -> int:
        """Returns what leaving the request unserved costs, in micro-dollars."""
        return self.penalty_microusd if self.offers[request] else 0


def tabulate(
    requests: Sequence[ResourceRequest],
    bids: Sequence[Bid],
    capacities: Mapping[str, ResourceVector],
    *,
    running: Sequence[RunningLease] = (),
    surcharges: Surcharges = no_surcharge,
) -> OfferTable:
    """Returns the feasible pairs in canonical order.

    Raises:
        InvalidInputError: see graph.analyse; two bids with one id; an elastic bid whose capacity
            is not given (nothing would bound it).
    """
    ordered = tuple(sorted(requests, key=lambda request: request.request_id))
    offered = tuple(sorted(bids, key=_content))
    problems = _bid_problems(offered, capacities)
    try:
        graph = analyse(ordered)
    except InvalidInputError as error:
        raise InvalidInputError([*error.problems, *problems]) from error
    if problems:
        raise InvalidInputError(problems)
    rooms, index = rooms_of(offered, capacities, running)
    refused: dict[tuple[int, int], Refusals] = {}
    offers: list[tuple[Offer, ...]] = []
    for i, request in enumerate(ordered):
        row: list[Offer] = []
        for b, bid in enumerate(offered):
            surcharge = surcharges(request, bid)
            taken_ms = expected_ms(request, bid, surcharge)
            after_ms = graph.tail_ms[i] - request.duration_ms
            reasons = refusals(request, bid, expected_ms=taken_ms, after_ms=after_ms)
            if reasons:
                refused[i, b] = reasons
                continue
            size = bid.size_for(request.needs)
            money = money_microusd(request, bid, surcharge)
            row.append(
                Offer(
                    request=i,
                    bid=b,
                    size=size,
                    price_microusd_per_hour=bid.price_for(request.needs),
                    expected_ms=taken_ms,
                    money_microusd=money,
                    surcharge=surcharge,
                    latest_end_ms=latest_end_ms(
                        request, bid, expected_ms=taken_ms, after_ms=after_ms
                    ),
                    floor_microusd=money
                    + surcharge.loss_microusd
                    + delay_cost_microusd(request, taken_ms=taken_ms, slack_ms=graph.slack_ms[i]),
                    takes=takes_of(bid, size, request.quantity, index),
                )
            )
        offers.append(tuple(row))
    dearest = max((offer.floor_microusd for row in offers for offer in row), default=0)
    return OfferTable(
        requests=ordered,
        bids=offered,
        graph=graph,
        offers=tuple(offers),
        refused=refused,
        rooms=rooms,
        penalty_microusd=10 * dearest + 1,
    )


def bids_in_order(bids: Sequence[Bid], capacities: Mapping[str, ResourceVector]) -> tuple[Bid, ...]:
    """Returns the bids in canonical order.

    Raises:
        InvalidInputError: as tabulate.
    """
    offered = tuple(sorted(bids, key=_content))
    problems = _bid_problems(offered, capacities)
    if problems:
        raise InvalidInputError(problems)
    return offered


def _content(bid: Bid) -> tuple[object, ...]:
    """What a bid says, and its id only last: equal bids may be numbered as they arrived."""
    profile, rates = bid.profile, bid.rates
    return (
        bid.price_microusd_per_hour,
        bid.provider,
        profile.cu_id,
        profile.location,
        profile.capacity_id,
        profile.cpu_millis,
        profile.memory_bytes,
        profile.gpu_type or "",
        profile.gpu_count,
        profile.startup_ms,
        profile.interruption_millis_per_hour,
        bid.performance_millis,
        bid.quantity,
        (rates.core_microusd_per_hour, rates.gb_microusd_per_hour, rates.gpu_microusd_per_hour)
        if rates
        else (),
        bid.valid_until.isoformat() if bid.valid_until else "",
        bid.bid_id,
    )


def _bid_problems(bids: Sequence[Bid], capacities: Mapping[str, ResourceVector]) -> list[Problem]:
    problems: list[Problem] = []
    seen: set[str] = set()
    for bid in bids:
        if bid.bid_id in seen:
            problems.append(
                Problem(
                    where="Bid.bid_id",
                    value=bid.bid_id,
                    what="two bids with one id",
                    remedy="give each bid of an auction its own id",
                )
            )
        seen.add(bid.bid_id)
        if bid.rates is not None and bid.profile.capacity_id not in capacities:
            problems.append(
                Problem(
                    where=f"Bid {bid.bid_id!r}.profile.capacity_id",
                    value=bid.profile.capacity_id,
                    what="an elastic bid, and no capacity of that name bounds it",
                    remedy=f"give its capacity; known are {sorted(capacities)}",
                )
            )
    return problems


def rooms_of(
    bids: Sequence[Bid],
    capacities: Mapping[str, ResourceVector],
    running: Sequence[RunningLease],
) -> tuple[tuple[Room, ...], dict[tuple[str, str], int]]:
    """Returns every limited amount and the index of each (owner, dimension)."""
    rooms: list[Room] = []
    for name in sorted(capacities):
        later = sorted(
            (lease for lease in running if lease.capacity_id == name and lease.until_ms > 0),
            key=lambda lease: (lease.until_ms, lease.size.items()),
        )
        for dimension, amount in capacities[name].items():
            taken = tuple((lease.until_ms, getattr(lease.size, dimension)) for lease in later)
            limit = amount + sum(held for _, held in taken)
            rooms.append(Room(owner=name, dimension=dimension, limit=limit, running=taken))
    rooms += [
        Room(owner=f"bid {bid.bid_id}", dimension=UNITS, limit=bid.quantity)
        for bid in bids
        if bid.rates is None
    ]
    return tuple(rooms), {(room.owner, room.dimension): k for k, room in enumerate(rooms)}


def takes_of(
    bid: Bid, size: ResourceVector, quantity: int, index: Mapping[tuple[str, str], int]
) -> tuple[tuple[int, int], ...]:
    """Returns (room index, amount) of that many leases of a size, by the index of rooms_of."""
    taken: list[tuple[int, int]] = []
    if (bid.profile.capacity_id, "cpu_millis") in index:
        taken += [
            (index[bid.profile.capacity_id, dimension], amount * quantity)
            for dimension, amount in size.items()
            if amount
        ]
    if bid.rates is None:
        taken.append((index[f"bid {bid.bid_id}", UNITS], quantity))
    return tuple(taken)
