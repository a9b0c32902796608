"""One run's standing with the accounts: asked before each lease, told what the run waits for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from cu_market.domain.allocation import HOLDING, Allocation
from cu_market.domain.lease import Refusal
from cu_market.domain.rental import as_offered
from cu_market.domain.resources import ResourceVector
from cu_market.domain.tender import Tender
from cu_market.domain.units import format_usd
from cu_market.market.accounts.ceilings import spent_by_account
from cu_market.market.accounts.spending import (
    DEFAULT_ACCOUNT,
    committed_microusd,
    expected_microusd,
    goes_first,
    left_microusd,
    rivals,
    used_core_ms,
)
from cu_market.market.auction import Market
from cu_market.market.settings import OnBudget
from cu_market.ral.provider import Revocable

NOTE_SECONDS = 1.0
"""How often a run that waits says so again."""


@dataclass(slots=True, kw_only=True)
class Purse:
    """What a run may still take and spend.

    Attributes:
        market: open.
        run_id: the run.
        account: whose it is.
        priority: of the run, among those of its account; larger first.
        budget_microusd: what the run may cost, or None.
    """

    market: Market
    run_id: str
    account: str = DEFAULT_ACCOUNT
    priority: int = 0
    budget_microusd: int | None = None
    _noted: Tender | None = field(default=None)
    _noted_at: float = field(default=float("-inf"))

    def objection(
        self, award: Allocation, capacity: ResourceVector, ahead: Sequence[Allocation] = ()
    ) -> Refusal | None:
        """Returns why the run may not take the award now although there is room, or None.

        Args:
            award: what would be leased.
            capacity: the total of the award's capacity.
            ahead: what this run leases before it in the same turn.
        """
        return self.over_limit(award, ahead) or self._is_others_turn(award, capacity)

    def over_limit(self, award: Allocation, ahead: Sequence[Allocation] = ()) -> Refusal | None:
        """Returns why the award would pass the run's budget or its account's ceiling, or None."""
        return self.over_budget(award, ahead) or self._over_ceiling(award, ahead)

    def over_budget(self, award: Allocation, ahead: Sequence[Allocation] = ()) -> Refusal | None:
        """Returns why the award would pass the run's budget, or None."""
        if self.budget_microusd is None:
            return None
        now = self.market.now()
        ledger = self.market.ledger
        rows, rentals = ledger.allocations(run_id=self.run_id), ledger.rentals(run_id=self.run_id)
        spent = committed_microusd(rows, now, rentals)
        remedy = "raise the run tag cu/budget_usd and "
        if self.market.settings.on_budget is OnBudget.FAIL:
            remedy += "re-execute the run from its failure"
        else:
            remedy += "it goes on"
        what = "cu/budget_usd of this run is"
        return _beyond(award, ahead, spent, self.budget_microusd, what, remedy)

    def spare_microusd(self) -> int | None:
        """Returns what the run's awards may cost more than they are expected to now, before they
        pass its budget; None where it has none."""
        if self.budget_microusd is None:
            return None
        ledger, now = self.market.ledger, self.market.now()
        rows, rentals = ledger.allocations(run_id=self.run_id), ledger.rentals(run_id=self.run_id)
        return left_microusd(rows, self.budget_microusd, (), now, rentals=rentals)

    def take_back(self, award: Allocation, refusal: Refusal) -> list[Allocation]:
        """Revokes spot leases for a step that is not spot; returns them, the newest first.

        None are where they would not be enough. Whoever holds one learns it from the ledger.
        """
        provider = self.market.providers[award.provider]
        if not isinstance(provider, Revocable) or provider.is_revocable(as_offered(award)):
            return []
        ledger, free = self.market.ledger, refusal.free
        victims: list[Allocation] = []
        for lease in ledger.allocations(states=HOLDING):
            if award.size.fits_in(free):
                break
            is_there = lease.capacity_id == award.capacity_id
            if is_there and provider.is_revocable(as_offered(lease)):
                victims.append(lease)
                free = free + lease.size
        if not award.size.fits_in(free) or not victims:
            return []
        return list(ledger.revoke_leases([v.key for v in victims], now=self.market.now()))

    def note_waiting(self, award: Allocation | None) -> None:
        """Tells the ledger what the run waits for, or that it waits no more."""
        tender = self._tender(award)
        known, now = self._noted, time.monotonic()
        is_new = known is None or replace(known, noted_at=tender.noted_at) != tender
        if is_new or (award is not None and now - self._noted_at > NOTE_SECONDS):
            self.market.ledger.note_tender(tender)
            self._noted, self._noted_at = tender, now

    def _tender(self, award: Allocation | None) -> Tender:
        return Tender(
            run_id=self.run_id,
            account=self.account,
            capacity_id="" if award is None else award.capacity_id,
            size=ResourceVector() if award is None else award.size,
            priority=self.priority,
            noted_at=self.market.now(),
        )

    def _over_ceiling(self, award: Allocation, ahead: Sequence[Allocation]) -> Refusal | None:
        terms = self.market.settings.account_terms().get(self.account)
        if terms is None or terms.ceiling_microusd_per_day is None:
            return None
        own = {self.run_id: self.account}
        spent = spent_by_account(self.market.ledger, self.market.now(), account_of=own)
        what = f"the ceiling of account {self.account!r} for 24 hours is"
        so_far = spent.get(self.account, 0)
        remedy = (
            "it goes on as earlier costs pass out of those hours; a higher "
            f"accounts.{self.account}.ceiling_usd_per_day lets later runs spend more"
        )
        return _beyond(award, ahead, so_far, terms.ceiling_microusd_per_day, what, remedy)

    def _is_others_turn(self, award: Allocation, total: ResourceVector) -> Refusal | None:
        market, now = self.market, self.market.now()
        tenders = market.ledger.tenders()
        own = self._tender(award)
        if not rivals(own, tenders, now):
            return None
        since = now - timedelta(seconds=market.settings.fair_share_seconds)
        account_of = {tender.run_id: tender.account for tender in tenders}
        account_of[self.run_id] = self.account
        whole = (
            rental.whole()
            for rental in market.ledger.rentals(since=since)
            if rental.capacity_id == award.capacity_id
        )
        leased = market.ledger.leased_since(since, capacity_id=award.capacity_id)
        used = used_core_ms(
            [*leased, *whole],
            account_of,
            since=since,
            now=now,
        )
        free = total.minus(market.ledger.held(award.capacity_id, run_id=self.run_id))
        terms = market.settings.account_terms()
        first = goes_first(own, tenders, used, terms, free=free, total=total, now=now)
        if first is None:
            return None
        if first.account == self.account:
            reason = (
                f"run {first.run_id[:8]} goes first on {award.capacity_id}: its priority is "
                f"{first.priority}, this run's {self.priority}"
            )
        else:
            reason = (
                f"account {first.account!r} goes first on {award.capacity_id}: for its weight it "
                f"has used less than {self.account!r} lately"
            )
        return Refusal(capacity_id=award.capacity_id, short_of=(), free=free, reason=reason)


def _beyond(
    award: Allocation,
    ahead: Sequence[Allocation],
    spent: int,
    limit: int,
    what: str,
    remedy: str,
) -> Refusal | None:
    spent += sum(expected_microusd(other) for other in ahead)
    costs = expected_microusd(award)
    if spent + costs <= limit:
        return None
    egress = ""
    if award.egress_microusd:
        egress = f", {format_usd(award.egress_microusd)} of it to bring what it reads"
    reason = (
        f"{what} {format_usd(limit)}: {format_usd(spent)} is spent or promised, and "
        f"{'this step' if award.step_key else award.resource_id} is expected to cost "
        f"{format_usd(costs)}{egress}; {remedy}"
    )
    return Refusal(
        capacity_id=award.capacity_id,
        short_of=(),
        free=ResourceVector(),
        reason=reason,
        is_for_money=True,
    )
