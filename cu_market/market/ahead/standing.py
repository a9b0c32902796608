"""What becomes of purchases that stand: they give way to leases, and go with whoever has ended."""

from __future__ import annotations

import logging
from datetime import datetime

from cu_market.domain.allocation import Allocation
from cu_market.domain.purchase import OPEN, Purchase, PurchaseState
from cu_market.domain.resources import ResourceVector
from cu_market.market.auction import Market

logger = logging.getLogger(__name__)


def give_way(market: Market, wanted: Allocation, capacity: ResourceVector) -> bool:
    """Lets open purchases go until a lease that was refused has room; whether any was.

    What nobody has taken must never be in the way of a step that is there. Where even all of them
    together would not make the room, none is let go.

    Args:
        market: open.
        wanted: what was refused.
        capacity: the total of its capacity.
    """
    ledger, now = market.ledger, market.now()
    room = capacity.minus(ledger.held(wanted.capacity_id, run_id=wanted.run_id))
    if not wanted.size.fits_in(room):
        return False
    in_the_way = [
        each for each in ledger.purchases(states=OPEN) if each.capacity_id == wanted.capacity_id
    ]
    has_gone = False
    for each in sorted(in_the_way, key=lambda each: each.expected_at, reverse=True):
        if wanted.size.fits_in(capacity.minus(ledger.held(wanted.capacity_id))):
            break
        why = f"gave way to step {wanted.step_key} of run {wanted.run_id}"
        has_gone = let_go(market, each, why, now) or has_gone
    return has_gone


def let_go(market: Market, purchase: Purchase, why: str, now: datetime) -> bool:
    """Ends an open purchase and its worker; whether it was open still."""
    if market.ledger.let_go(purchase.purchase_id, outcome=why, now=now) is None:
        return False
    end_worker(market, purchase)
    return True


def give_back(market: Market, run_id: str, now: datetime) -> None:
    """Ends what a run has taken and never leased anything on."""
    for each in market.ledger.purchases(run_id=run_id, states=[PurchaseState.TAKEN]):
        why = "its run ended before a step was leased on it"
        gone = market.ledger.let_go(each.purchase_id, outcome=why, now=now, run_id=run_id)
        if gone is not None:
            end_worker(market, each)


def end_worker(market: Market, purchase: Purchase) -> None:
    """Has a purchase's worker ended; where its provider is away, it ends itself later."""
    provider = market.providers.get(purchase.provider)
    if provider is None or not purchase.holder or not provider.capabilities.reap:
        return
    try:
        provider.reap([purchase.holder])
    except OSError:
        logger.exception(
            "not ended now: it ends itself", extra={"action": "ahead", "worker": purchase.holder}
        )
