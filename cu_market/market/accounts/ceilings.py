"""What accounts have spent in 24 hours, on leases, rentals and CUs bought ahead; what ceilings
leave."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta

from cu_market.domain.allocation import Allocation
from cu_market.domain.purchase import Purchase
from cu_market.domain.rental import Rental
from cu_market.ledger.interface import Ledger
from cu_market.market.accounts.spending import (
    DEFAULT_ACCOUNT,
    committed_microusd,
    standing_microusd,
)
from cu_market.market.settings import MarketSettings

WINDOW = timedelta(days=1)

NO_RUNS: Mapping[str, str] = {}


def spent_by_account(
    ledger: Ledger, now: datetime, *, account_of: Mapping[str, str] = NO_RUNS
) -> dict[str, int]:
    """Returns what accounts have spent in 24 hours, micro-dollars: leases and rentals, those that
    go on at their expected time at least, and CUs bought ahead, those that stand until now.

    Args:
        ledger: where both are.
        now: the end of the 24 hours.
        account_of: account by run_id of runs that may not have said it yet; those that have not
            are the default account's.
    """
    known = {tender.run_id: tender.account for tender in ledger.tenders()} | dict(account_of)
    leases: dict[str, list[Allocation]] = defaultdict(list)
    for lease in ledger.leased_since(now - WINDOW):
        leases[known.get(lease.run_id, DEFAULT_ACCOUNT)].append(lease)
    bought: dict[str, list[Purchase]] = defaultdict(list)
    for purchase in ledger.purchases(since=now - WINDOW):
        bought[purchase.account].append(purchase)
    rented: dict[str, list[Rental]] = defaultdict(list)
    for rental in ledger.rentals(since=now - WINDOW):
        rented[known.get(rental.run_id, DEFAULT_ACCOUNT)].append(rental)
    return {
        account: committed_microusd(leases[account], now, rented[account])
        + standing_microusd(bought[account], now)
        for account in {*leases, *bought, *rented}
    }


def left_by_account(ledger: Ledger, settings: MarketSettings, now: datetime) -> dict[str, int]:
    """Returns what each account that has a ceiling may still spend, below zero where it is passed;
    accounts without one are left out."""
    ceilings = {
        name: terms.ceiling_microusd_per_day
        for name, terms in settings.account_terms().items()
        if terms.ceiling_microusd_per_day is not None
    }
    spent = spent_by_account(ledger, now) if ceilings else {}
    return {name: ceiling - spent.get(name, 0) for name, ceiling in ceilings.items()}
