"""CUs bought ahead, in memory: bought under a capacity, taken by one run, used or let go once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from cu_market.domain.lease import Refusal
from cu_market.domain.purchase import OPEN, STANDING, Purchase, PurchaseState
from cu_market.domain.resources import ResourceVector
from cu_market.ledger.memory.awards import sum_held
from cu_market.ledger.memory.schema import Tables
from cu_market.ledger.moves import (
    check_aware,
    let_go_purchase,
    refusal,
    taken_purchase,
    used_purchase,
)


def buy(tables: Tables, purchase: Purchase, capacity: ResourceVector) -> Purchase | Refusal:
    """Returns the purchase, whoever made it, or why there is no room; see Ledger.buy."""
    check_aware("buy: started_at", purchase.started_at)
    row = tables.purchases.get(purchase.purchase_id)
    if row is not None:
        return row
    held = sum_held(tables, purchase.capacity_id)
    held += sum_standing(tables, purchase.capacity_id)
    refused = refusal(purchase.capacity_id, purchase.size, held, capacity)
    if refused is not None:
        return refused
    tables.purchases[purchase.purchase_id] = purchase
    return purchase


def sum_standing(tables: Tables, capacity_id: str) -> ResourceVector:
    """Returns the sum of sizes of purchases that stand."""
    return _sum(_standing(tables, capacity_id))


def sum_in_the_way(tables: Tables, capacity_id: str, run_id: str) -> ResourceVector:
    """Returns the sum of sizes that other runs have taken: all others give way."""
    standing = _standing(tables, capacity_id)
    return _sum(each for each in standing if each.state not in OPEN and each.run_id != run_id)


def sum_beside(tables: Tables, capacity_id: str, run_id: str, holder: str) -> ResourceVector:
    """Returns the sum of sizes that stand, but for what this run has taken with that worker."""
    standing = _standing(tables, capacity_id)
    return _sum(each for each in standing if not _is_own(each, run_id, holder))


def use(tables: Tables, capacity_id: str, run_id: str, holder: str, now: datetime) -> None:
    """Marks as used what this run has taken with that worker: its lease has the room now."""
    for each in _standing(tables, capacity_id):
        if _is_own(each, run_id, holder):
            tables.purchases[each.purchase_id] = used_purchase(each, now)


def _standing(tables: Tables, capacity_id: str) -> list[Purchase]:
    return [
        each
        for each in tables.purchases.values()
        if each.state in STANDING and each.capacity_id == capacity_id
    ]


def _is_own(purchase: Purchase, run_id: str, holder: str) -> bool:
    is_taken = purchase.state is PurchaseState.TAKEN
    return is_taken and (purchase.run_id, purchase.holder) == (run_id, holder)


def _sum(purchases: Iterable[Purchase]) -> ResourceVector:
    return sum((each.size for each in purchases), ResourceVector())


def advance(
    tables: Tables,
    purchase_id: str,
    holder: str | None,
    ready_at: datetime | None,
    expires_at: datetime | None,
) -> Purchase | None:
    """Notes how an open purchase gets on; see Ledger.advance_purchase."""
    row = tables.purchases.get(purchase_id)
    if row is None or row.state not in OPEN:
        return None
    row = replace(
        row,
        holder=row.holder if holder is None else holder,
        expires_at=expires_at or row.expires_at,
        ready_at=ready_at or row.ready_at,
        state=PurchaseState.READY if ready_at else row.state,
    )
    tables.purchases[purchase_id] = row
    return row


def take(tables: Tables, purchase_id: str, run_id: str, now: datetime) -> Purchase | None:
    """Returns the purchase as the run's own, or None where it has gone."""
    taken = taken_purchase(tables.purchases.get(purchase_id), run_id, now)
    if taken is not None:
        tables.purchases[purchase_id] = taken
    return taken


def let_go(
    tables: Tables, purchase_id: str, run_id: str, outcome: str, now: datetime
) -> Purchase | None:
    """Returns the purchase that was let go now, or None where it was not to be."""
    row = let_go_purchase(tables.purchases.get(purchase_id), run_id, outcome, now)
    if row is not None:
        tables.purchases[purchase_id] = row
    return row


def find(
    tables: Tables,
    states: Iterable[PurchaseState] | None,
    run_id: str | None,
    since: datetime | None,
    limit: int | None,
) -> list[Purchase]:
    """Returns purchases, newest first; with since, those that stand or ended after it."""
    wanted = frozenset(PurchaseState if states is None else states)
    found = [
        each
        for each in tables.purchases.values()
        if each.state in wanted
        and run_id in (None, each.run_id)
        and (since is None or each.ended_at is None or each.ended_at > since)
    ]
    found.sort(key=lambda each: (each.started_at, each.purchase_id), reverse=True)
    return found if limit is None else found[: max(0, limit)]
