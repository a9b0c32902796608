"""What binds an award, and what a little more time or money would change: by exact differences.

A linear program's duals say what an infinitesimal change of the whole would bring; a person asks
about one step. With all others in their places, each other bid of a step is one alternative of
known money, delay and end, so the answers are differences of micro-dollars and milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cu_market.dnm.objective import delay_cost_microusd, expected_ms, money_microusd
from cu_market.dnm.offers import Offer, OfferTable
from cu_market.dnm.placement.construction import Placement
from cu_market.domain.plan import LossReason
from cu_market.domain.units import format_usd

FOR_TIME = frozenset({LossReason.TOO_LATE, LossReason.NO_RETRY})
"""Reasons that more time would lift."""

FOR_COMPANY = frozenset({LossReason.KEPT_ELSEWHERE})
"""Reasons that would be lifted if nothing had to stay together."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One other bid of a served request.

    Attributes:
        offer: the pair.
        cost: money and delay there, at the winner's start.
        reason, detail: why it lost.
        wins_at: the price an hour at which it would have won, or None.
    """

    offer: Offer
    cost: int
    reason: LossReason
    detail: str
    wins_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What is said of an award.

    Attributes:
        binding: what keeps the request from something better.
        more_time: what it would save if it might end later; empty where nothing.
        more_money: how much sooner it would end for how much more; empty where it would not.
    """

    binding: str
    more_time: str = ""
    more_money: str = ""


def sensitivity(table: OfferTable, winner: Placement, others: Sequence[Judged]) -> Sensitivity:
    """Returns what binds a request's award.

    Args:
        table: the auction's input.
        winner: where the request is placed.
        others: its other feasible bids.
    """
    cheaper = [other for other in others if other.cost < winner.cost_microusd]
    late = [
        _Refused(other.cost, other.offer.expected_ms, other.offer.bid)
        for other in cheaper
        if other.reason in FOR_TIME
    ]
    late += _refused_for(FOR_TIME, table, winner)
    best = min(late, default=None)
    away = min(_refused_for(FOR_COMPANY, table, winner), default=None)
    return Sensitivity(
        binding=_binding(table, winner, cheaper, best, away),
        more_time=_more_time(table, winner, best),
        more_money=_more_money(table, winner, others),
    )


@dataclass(frozen=True, slots=True, order=True)
class _Refused:
    """A cheaper bid that would end too late, or is away from what must be together."""

    cost: int
    expected_ms: int
    bid: int


def _refused_for(
    causes: frozenset[LossReason], table: OfferTable, winner: Placement
) -> list[_Refused]:
    """Returns cheaper bids that could serve the request if it was not for these reasons; their
    surcharges, which are not known of refused bids, left out."""
    i = winner.offer.request
    request, found = table.requests[i], []
    for b, bid in enumerate(table.bids):
        reasons = table.refused.get((i, b), ())
        if reasons and all(reason in causes for reason, _ in reasons):
            expected = expected_ms(request, bid)
            delay = delay_cost_microusd(
                request, taken_ms=expected, slack_ms=table.graph.slack_ms[i]
            )
            cost = money_microusd(request, bid) + delay
            if cost < winner.cost_microusd:
                found.append(_Refused(cost, expected, b))
    return found


def _binding(
    table: OfferTable,
    winner: Placement,
    cheaper: Sequence[Judged],
    late: _Refused | None,
    away: _Refused | None,
) -> str:
    waited_ms = winner.start_ms - winner.ready_ms
    if waited_ms > 0:
        room = table.bids[winner.offer.bid].profile.capacity_id
        return f"room on {room}: it could start {waited_ms / 1000:.1f} s earlier"
    roomless = [other for other in cheaper if other.reason not in FOR_TIME]
    best = min(roomless, key=lambda other: other.cost, default=None)
    if away is not None and all(away.cost < other.cost for other in (late, best) if other):
        saves = format_usd(winner.cost_microusd - away.cost)
        cu_id = table.bids[away.bid].profile.cu_id
        return f"what it is kept together with: alone it would save {saves} on {cu_id}"
    if late is not None and (best is None or late.cost <= best.cost):
        saves = format_usd(winner.cost_microusd - late.cost)
        return f"time: without it {table.bids[late.bid].profile.cu_id} would save {saves}"
    if best is not None:
        saves = format_usd(winner.cost_microusd - best.cost)
        cu_id = table.bids[best.offer.bid].profile.cu_id
        return f"room: with it {cu_id} would save {saves} ({best.detail})"
    if winner.start_ms > table.requests[winner.offer.request].earliest_start_ms:
        return "what it depends on: it starts as they end, on its cheapest bid"
    return "nothing: it starts at once, on its cheapest bid"


def _more_time(table: OfferTable, winner: Placement, late: _Refused | None) -> str:
    if late is None:
        return ""
    later = (late.expected_ms - winner.offer.expected_ms) / 1000
    saves = format_usd(winner.cost_microusd - late.cost)
    cu_id = table.bids[late.bid].profile.cu_id
    return f"ending {later:.1f} s later, on {cu_id}, would save {saves}"


def _more_money(table: OfferTable, winner: Placement, others: Sequence[Judged]) -> str:
    sooner = [
        other
        for other in others
        if other.reason is LossReason.DEARER
        and other.offer.expected_ms < winner.offer.expected_ms
        and other.offer.money_microusd > winner.offer.money_microusd
    ]
    if not sooner:
        return ""

    def price_of_a_second(other: Judged) -> float:
        gained = winner.offer.expected_ms - other.offer.expected_ms
        return (other.offer.money_microusd - winner.offer.money_microusd) / gained

    best = min(sooner, key=price_of_a_second)
    gained = (winner.offer.expected_ms - best.offer.expected_ms) / 1000
    more = format_usd(best.offer.money_microusd - winner.offer.money_microusd)
    cu_id = table.bids[best.offer.bid].profile.cu_id
    return f"{more} more would end it {gained:.1f} s sooner, on {cu_id}"
