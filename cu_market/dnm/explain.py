"""Why every bid that did not win a request did not, the runner-up first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cu_market.dnm.feasibility import Refusals, late_detail, no_retry_detail
from cu_market.dnm.objective import winning_price
from cu_market.dnm.offers import Offer, OfferTable
from cu_market.dnm.placement.construction import Placement, Schedule, has_room, occupied, occupy
from cu_market.dnm.placement.timeline import Timeline
from cu_market.dnm.sensitivity import Judged, sensitivity
from cu_market.domain.bid import Bid
from cu_market.domain.plan import Award, Loss, LossReason, Unserved
from cu_market.domain.units import format_usd


def explain(table: OfferTable, schedule: Schedule) -> tuple[list[Award], list[Unserved]]:
    """Returns the awards and the unserved requests, both in the table's order.

    A loser is judged at the winner's start, with everything else of the plan in its place.
    """
    timelines = occupied(table)
    for placement in schedule.placements:
        if placement is not None:
            occupy(timelines, placement)
    awards: list[Award] = []
    unserved: list[Unserved] = []
    for i, placement in enumerate(schedule.placements):
        if placement is None:
            others = _judged(table, i, schedule.ready_ms[i], None, timelines)
            losses = _losses(table, i, others)
            unserved.append(Unserved(request_id=table.requests[i].request_id, losses=losses))
            continue
        occupy(timelines, placement, sign=-1)
        others = _judged(table, i, placement.start_ms, placement, timelines)
        occupy(timelines, placement)
        awards.append(_award(table, placement, others))
    return awards, unserved


def _award(table: OfferTable, placement: Placement, others: Sequence[Judged]) -> Award:
    offer = placement.offer
    told = sensitivity(table, placement, others)
    bid = table.bids[offer.bid]
    return Award(
        request_id=table.requests[offer.request].request_id,
        bid_id=bid.bid_id,
        provider=bid.provider,
        resource_id=bid.profile.cu_id,
        capacity_id=bid.profile.capacity_id,
        size=offer.size,
        price_microusd_per_hour=offer.price_microusd_per_hour,
        start_ms=placement.start_ms,
        expected_ms=offer.expected_ms,
        money_microusd=offer.money_microusd,
        cost_microusd=placement.cost_microusd,
        loss_microusd=offer.surcharge.loss_microusd,
        egress_microusd=offer.surcharge.microusd,
        transfer_ms=offer.surcharge.extra_ms,
        losses=_losses(table, offer.request, others),
        binding=told.binding,
        more_time=told.more_time,
        more_money=told.more_money,
    )


def _judged(
    table: OfferTable,
    request: int,
    start_ms: int,
    winner: Placement | None,
    timelines: list[Timeline],
) -> list[Judged]:
    """Every other feasible bid of a request, by its cost."""
    ready_ms = start_ms if winner is None else winner.ready_ms
    found: list[Judged] = []
    for offer in table.offers[request]:
        if winner is not None and offer.bid == winner.offer.bid:
            continue
        cost = table.cost(offer, start_ms - ready_ms)
        reason, detail = _verdict(table, offer, start_ms, cost, winner, timelines)
        wins_at = None
        if winner is not None and reason is LossReason.DEARER:
            wins_at = _wins_at(table, offer, cost - winner.cost_microusd)
        found.append(Judged(offer, cost, reason, detail + told_price(wins_at), wins_at))
    return sorted(found, key=lambda other: (other.cost, other.offer.bid))


def _losses(table: OfferTable, request: int, others: Sequence[Judged]) -> tuple[Loss, ...]:
    """One loss a bid: feasible ones by cost, then the infeasible ones in canonical order."""
    feasible = [
        replace(
            _loss(table.bids[o.offer.bid], o.reason, o.detail, o.cost),
            wins_at_microusd_per_hour=o.wins_at,
        )
        for o in others
    ]
    infeasible = [
        _infeasible(table.bids[b], table.refused[request, b])
        for b in range(len(table.bids))
        if (request, b) in table.refused
    ]
    return (*feasible, *infeasible)


def _verdict(
    table: OfferTable,
    offer: Offer,
    start_ms: int,
    cost: int,
    winner: Placement | None,
    timelines: list[Timeline],
) -> tuple[LossReason, str]:
    end_ms = start_ms + offer.expected_ms
    latest = table.requests[offer.request].latest_finish_ms
    if latest is not None and end_ms > latest:
        return LossReason.TOO_LATE, late_detail(latest, end_ms)
    if offer.latest_end_ms is not None and end_ms > offer.latest_end_ms:
        return LossReason.NO_RETRY, no_retry_detail(offer.latest_end_ms, end_ms)
    if not has_room(offer, start_ms, timelines):
        return LossReason.CAPACITY, _room_detail(table, offer, start_ms, timelines)
    if winner is None:
        return LossReason.CAPACITY, "room only if other requests gave way"
    more = cost - winner.cost_microusd
    if more > 0:
        return LossReason.DEARER, f"{format_usd(more)} dearer: {format_usd(cost)} in all"
    if more == 0:
        return LossReason.DEARER, "costs the same; the winner is first in order or ends earlier"
    if offer.expected_ms > winner.offer.expected_ms:
        later = (offer.expected_ms - winner.offer.expected_ms) / 1000
        return (
            LossReason.TOO_LATE,
            f"{format_usd(-more)} cheaper but ends {later:g} s later, and others wait for it",
        )
    return LossReason.CAPACITY, "cheaper here, but dearer for the plan as a whole"


def told_price(price: int | None) -> str:
    """Returns the price at which a loser would have won in words; empty where there is none."""
    return "" if price is None else f"; would have won at {format_usd(price)}/h"


def _wins_at(table: OfferTable, offer: Offer, more: int) -> int | None:
    """Returns the price an hour at which a loser would have won; None where it costs no more."""
    if more <= 0:
        return None
    return winning_price(
        offer.price_microusd_per_hour,
        more,
        billed_ms=max(offer.expected_ms, table.bids[offer.bid].minimum_ms),
        quantity=table.requests[offer.request].quantity,
    )


def _room_detail(
    table: OfferTable, offer: Offer, start_ms: int, timelines: Sequence[Timeline]
) -> str:
    """Names the first room that is too full, and by how much at the lease's start or later."""
    for room, amount in offer.takes:
        timeline = timelines[room]
        clear = timeline.conflict_end(start_ms, start_ms + offer.expected_ms, amount)
        if clear != start_ms:
            what = table.rooms[room]
            until = "for good" if clear is None else f"until {clear / 1000:g} s"
            return (
                f"{what.owner}: {what.dimension} asks {amount} of {what.limit}, "
                f"taken by others {until}"
            )
    return "no room"


def _infeasible(bid: Bid, reasons: Refusals) -> Loss:
    return _loss(bid, reasons[0][0], "; ".join(detail for _, detail in reasons), None)


def _loss(bid: Bid, reason: LossReason, detail: str, cost: int | None) -> Loss:
    return Loss(
        bid_id=bid.bid_id,
        provider=bid.provider,
        resource_id=bid.profile.cu_id,
        reason=reason,
        detail=detail,
        cost_microusd=cost,
    )
