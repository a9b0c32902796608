"""A resumed run's awards: of earlier auctions for what has ended or runs on, new for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cu_market.deo.executor.resume import Inheritance
from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.auction import Auction
from cu_market.domain.outline import RunOutline
from cu_market.market.auction import Market
from cu_market.market.demand.requests import part_of
from cu_market.market.unserved import NoRoomYetError


def awards_after(
    market: Market, outline: RunOutline, inherited: Inheritance
) -> tuple[Mapping[str, Allocation], Auction, bool]:
    """Returns an award for every step, the auction that reports on them, and whether one was held.

    Where steps run on, nobody waits for room: what has none keeps the terms that it had.

    Raises:
        InvalidInputError, MarketUnavailableError: as Market.clear.
    """
    earlier = _terms_of_before(market, outline)
    auctions = market.ledger.auctions(outline.run_id)
    wanted = [
        step.step_key
        for step in outline.steps
        if step.step_key not in inherited.settled_steps or step.step_key not in earlier
    ]
    if not wanted and auctions:
        return earlier, _with_reports(auctions[0], auctions[1:]), False
    try:
        cleared = market.clear(
            part_of(outline, wanted) if auctions else outline,
            place="executor",
            attempts={key: attempt + 1 for key, attempt in inherited.attempts.items()},
        )
    except NoRoomYetError:
        has_terms = bool(auctions) and all(step.step_key in earlier for step in outline.steps)
        if not inherited.adopted or not has_terms:
            raise
        return earlier, _with_reports(auctions[0], auctions[1:]), False
    return {**earlier, **cleared.allocations}, _with_reports(cleared.auction, auctions), True


def _terms_of_before(market: Market, outline: RunOutline) -> dict[str, Allocation]:
    """Returns the latest terms of each step of the outline, as an award of its next attempt."""
    rows = market.ledger.allocations(run_id=outline.run_id)
    names = {step.step_key for step in outline.steps}
    latest: dict[str, Allocation] = {}
    for row in sorted(rows, key=lambda row: row.attempt):
        if row.step_key in names and row.provider in market.providers:
            latest[row.step_key] = replace(
                row, attempt=row.attempt + 1, state=AllocationState.AWARDED, fencing_token=0
            )
    return latest


def _with_reports(auction: Auction, earlier: Any) -> Auction:
    """Returns the auction with a report on every step: its own, else the newest earlier one's."""
    steps: dict[str, Mapping[str, Any]] = {}
    for each in reversed([auction, *earlier]):
        steps |= {step["step"]: step for step in each.report.get("steps", ())}
    return replace(auction, report={**auction.report, "steps": list(steps.values())})
