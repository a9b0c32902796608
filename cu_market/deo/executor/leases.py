"""A run's leases: room and money looked at, taken, extended, given back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from cu_market.deo.executor.capacities import Capacities
from cu_market.deo.executor.renting import Renting
from cu_market.domain.allocation import HOLDING, Allocation, AllocationState
from cu_market.domain.lease import Refusal
from cu_market.domain.resources import ResourceVector
from cu_market.domain.tags import parse_run_tags
from cu_market.ledger.errors import LeaseLostError
from cu_market.market.accounts.purse import Purse
from cu_market.market.ahead.standing import give_back, give_way
from cu_market.market.auction import Market
from cu_market.market.renegotiation.growth import larger_offer
from cu_market.market.settings import OnBudget, Pricing


class Leases:
    """What one run holds of the market's capacity.

    Args:
        market: open.
        run_id: the run.
        purse: what it may spend.

    Attributes:
        renting: the CUs that it rents whole.
    """

    def __init__(self, market: Market, run_id: str, purse: Purse) -> None:
        self._market = market
        self._run_id = run_id
        self.purse = purse
        self._capacities = Capacities(market)
        self.renting = Renting(market, run_id, purse, self._capacities)

    def shortage(self, award: Allocation, ahead: Sequence[Allocation] = ()) -> Refusal | None:
        """Returns what the capacity is short of now, or None when the lease would fit.

        A look only: the lease itself is checked again inside the committing transaction.

        Args:
            award: what would be leased.
            ahead: what will be leased before it.
        """
        capacity = self.renting.room(award)
        held = self._market.ledger.held(award.capacity_id, run_id=self._run_id)
        for other in ahead:
            if other.capacity_id == award.capacity_id:
                held = held + other.size
        short = (held + award.size).exceeds(capacity)
        if not short and self.renting.is_open(award):
            return None  # it is paid for
        if not short:
            unpaid = [other for other in ahead if not self.renting.is_open(other)]
            return self.purse.objection(award, capacity, unpaid)
        return Refusal(capacity_id=award.capacity_id, short_of=short, free=capacity.minus(held))

    def has_ended(self, award: Allocation) -> bool:
        """Whether the offer that was awarded has ended, or its CU is rented no more: its lease
        would be refused."""
        if self.renting.is_over(award):
            return True
        return award.valid_until is not None and award.valid_until <= self._market.now()

    def take(self, award: Allocation, holder: str) -> Allocation | Refusal:
        """Takes the lease, or says what the pool is short of."""
        capacity = self.renting.room(award)
        if not self.renting.is_open(award):
            objection = self.purse.objection(award, capacity)
            if objection is not None:
                return objection
        outcome = self._lease(replace(award, holder=holder), capacity)
        is_short = isinstance(outcome, Refusal) and outcome.short_of
        if is_short and give_way(self._market, award, capacity):
            return self._lease(replace(award, holder=holder), capacity)
        return outcome

    def _lease(self, award: Allocation, capacity: ResourceVector) -> Allocation | Refusal:
        now = self._market.now()
        return self._market.ledger.lease(
            award,
            capacity=capacity,
            expires_at=now + timedelta(seconds=self._market.settings.lease_seconds),
            now=now,
        )

    def grow(
        self,
        lease: Allocation,
        wanted_bytes: int,
        *,
        least_bytes: int,
        most_microusd_per_hour: int | None,
    ) -> Allocation | Refusal | None:
        """Makes a lease larger, to what there is room for where that is less than wanted.

        Returns:
            the lease; what it is short of, room or money; None where it is not sold at that size,
            or not at that price.

        Raises:
            LeaseLostError: it has ended.
        """
        wanted = min(wanted_bytes, self._largest(lease))
        if wanted < min(least_bytes, wanted_bytes):
            return None
        outcome = self._grow_to(lease, wanted, most_microusd_per_hour)
        room = least_bytes
        if isinstance(outcome, Refusal) and not outcome.is_for_money:
            room = outcome.free.memory_bytes
        is_less = not isinstance(outcome, Allocation) and least_bytes <= room < wanted
        return self._grow_to(lease, room, most_microusd_per_hour) if is_less else outcome

    def _largest(self, lease: Allocation) -> int:
        """Returns the most memory that the lease's CU is sold with, 0 where it is sold no more."""
        profiles = self._market.providers[lease.provider].pool().profiles
        sizes = (p.memory_bytes for p in profiles if p.cu_id == lease.resource_id)
        return max(sizes, default=0)

    def _grow_to(
        self, lease: Allocation, memory_bytes: int, most_microusd_per_hour: int | None
    ) -> Allocation | Refusal | None:
        offer = larger_offer(self._market, lease, memory_bytes)
        if offer is None:
            return None
        size, price = offer
        if self._market.settings.pricing is Pricing.SECOND_PRICE:
            price = max(price, lease.price_microusd_per_hour)  # the offer says what is bid
        if most_microusd_per_hour is not None and price > most_microusd_per_hour:
            return None
        added = replace(
            lease,
            price_microusd_per_hour=max(0, price - lease.price_microusd_per_hour),
            egress_microusd=0,  # its step's inputs are there
        )
        over = self.purse.over_limit(added)
        if over is not None:
            return over
        capacity = self._capacities.of(lease)
        added = replace(lease, size=size.minus(lease.size))
        outcome: Allocation | Refusal | None = None
        while outcome is None:
            outcome = self._market.ledger.grow(
                lease,
                size=size,
                price_microusd_per_hour=price,
                capacity=capacity,
                now=self._market.now(),
            )
            if isinstance(outcome, Refusal) and give_way(self._market, added, capacity):
                outcome = None  # as often as there is something that gives way
        return outcome

    def revoked_tokens(self) -> set[int]:
        """Returns the fencing tokens of the run's leases that were taken back."""
        rows = self._market.ledger.allocations(
            run_id=self._run_id, states=[AllocationState.REVOKED]
        )
        return {row.fencing_token for row in rows}

    def read_tags(self, tags: Mapping[str, str]) -> None:
        """Takes the budget and the priority that the run's tags say now; tags that cannot be read
        change nothing."""
        said, problems = parse_run_tags(tags)
        if not problems:
            self.purse.budget_microusd = said.budget_microusd
            self.purse.priority = said.priority or 0

    def fails_for_budget(self, award: Allocation) -> bool:
        """Whether the step is to fail since its run's budget would be passed."""
        if self._market.settings.on_budget is not OnBudget.FAIL or self.renting.is_open(award):
            return False
        return self.purse.over_budget(self.renting.bought(award)) is not None

    def accept(self, lease: Allocation) -> None:
        """Notes that the step's process runs; one that was taken back meanwhile is ended soon.

        Raises:
            LeaseLostError: the lease has been lost in any other way.
        """
        try:
            self._market.ledger.accept(lease.key, lease.fencing_token, now=self._market.now())
        except LeaseLostError:
            if lease.fencing_token not in self.revoked_tokens():
                raise

    def renew(self) -> None:
        """Extends every lease of the run."""
        now = self._market.now()
        expires_at = now + timedelta(seconds=self._market.settings.lease_seconds)
        self._market.ledger.renew(self._run_id, expires_at=expires_at)

    def settle_all(self, spared: Collection[int] = ()) -> None:
        """Ends what is left of the run's leases and awards: billed to now, nothing learned.

        Args:
            spared: fencing tokens of leases that another run worker will take over.
        """
        run_id, now = self._run_id, self._market.now()
        ledger = self._market.ledger
        held = ledger.allocations(run_id=run_id, states=HOLDING)
        ledger.revoke_leases(
            [lease.key for lease in held if lease.fencing_token not in spared], now=now
        )
        for lease in ledger.allocations(run_id=run_id, states=[AllocationState.REVOKED]):
            try:
                ledger.settle(lease.key, lease.fencing_token, ended_at=now, usage=None)
            except LeaseLostError:
                continue  # the reaper was quicker
        ledger.release_awards(run_id, now=now)
        ledger.close_rentals(run_id, now=now)
        give_back(self._market, run_id, now)

    def release(self, lease: Allocation, *, is_unstarted: bool = False) -> None:
        """Ends a lease under which nothing started, at no cost.

        Args:
            lease: held.
            is_unstarted: since its CU did not start what it was to start; else the run wanted it
                no more, which says nothing of the CU.
        """
        self._market.ledger.release(lease.key, now=self._market.now(), is_unstarted=is_unstarted)
