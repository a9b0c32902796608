"""The ledger in memory, composed of the modules beside it as SqlLedger is of the SQL."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from cu_market.domain.allocation import Allocation, AllocationKey, AllocationState
from cu_market.domain.auction import Auction
from cu_market.domain.curve import UsageCurve
from cu_market.domain.lease import Refusal, RunLease
from cu_market.domain.open_request import OpenRequest
from cu_market.domain.publication import Publication
from cu_market.domain.purchase import Purchase, PurchaseState
from cu_market.domain.rental import Rental, RentalState
from cu_market.domain.request import StepIdentity
from cu_market.domain.resources import ResourceVector
from cu_market.domain.tender import Tender
from cu_market.domain.usage import Usage
from cu_market.ledger.memory import awards as award_rows
from cu_market.ledger.memory import learned as learned_rows
from cu_market.ledger.memory import leases as lease_rows
from cu_market.ledger.memory import open_requests as request_rows
from cu_market.ledger.memory import past as past_rows
from cu_market.ledger.memory import purchases as purchase_rows
from cu_market.ledger.memory import rentals as rental_rows
from cu_market.ledger.memory import retenders as retender_rows
from cu_market.ledger.memory import runs as run_rows
from cu_market.ledger.memory import tenders as tender_rows
from cu_market.ledger.memory.channels import InMemoryChannels
from cu_market.ledger.memory.schema import Tables
from cu_market.ledger.moves import check_auction, check_usage


class InMemoryLedger:
    """See interface.Ledger, whose promises these are, within one process. Safe between threads."""

    def __init__(self) -> None:
        self._turn = threading.RLock()
        self._tables = Tables()
        self.channels = InMemoryChannels(lambda: [lease.run_id for lease in self.live_runs()])

    def record_auction(
        self,
        auction: Auction,
        awards: Sequence[Allocation],
        asked: Sequence[OpenRequest] = (),
        rentals: Sequence[Rental] = (),
    ) -> None:
        """Writes an auction, its awards and its rentals together; see Ledger."""
        check_auction(auction, awards, rentals)
        with self._turn:
            award_rows.record(self._tables, auction, awards, asked, rentals)

    def supersede(
        self, auction: Auction, awards: Sequence[Allocation], asked: Sequence[OpenRequest]
    ) -> Sequence[Allocation]:
        """Writes awards in the place of those that are still AWARDED; see Ledger."""
        check_auction(auction, awards)
        with self._turn:
            return retender_rows.supersede(self._tables, auction, awards, asked)

    def standing(self) -> Sequence[tuple[Allocation, OpenRequest]]:
        """Returns what is AWARDED and what it was asked for, oldest award first."""
        with self._turn:
            return request_rows.standing(self._tables)

    def auctions(self, run_id: str | None = None, limit: int = 100) -> Sequence[Auction]:
        """Returns auctions, newest first."""
        with self._turn:
            return award_rows.find_auctions(self._tables, run_id, limit)

    def lease(
        self,
        allocation: Allocation,
        *,
        capacity: ResourceVector,
        expires_at: datetime,
        now: datetime,
    ) -> Allocation | Refusal:
        """Turns an award into a lease if its capacity has room; see Ledger."""
        with self._turn:
            return lease_rows.give(self._tables, allocation, capacity, expires_at, now)

    def accept(self, key: AllocationKey, fencing_token: int, *, now: datetime) -> Allocation:
        """LEASED becomes ACCEPTED, if the token is the row's; see Ledger."""
        with self._turn:
            return lease_rows.accept(self._tables, key, fencing_token, now)

    def grow(
        self,
        lease: Allocation,
        *,
        size: ResourceVector,
        price_microusd_per_hour: int,
        capacity: ResourceVector,
        now: datetime,
    ) -> Allocation | Refusal:
        """Makes a lease larger in place, if its capacity has room; see Ledger."""
        with self._turn:
            return lease_rows.grow(
                self._tables, lease, size, price_microusd_per_hour, capacity, now
            )

    def hold(self, keys: Iterable[AllocationKey], holder: str) -> None:
        """Writes who holds these leases."""
        with self._turn:
            lease_rows.hold(self._tables, keys, holder)

    def renew(self, run_id: str, *, expires_at: datetime) -> int:
        """Extends every lease that the run holds; returns how many."""
        with self._turn:
            return lease_rows.renew(self._tables, run_id, expires_at)

    def settle(
        self, key: AllocationKey, fencing_token: int, *, ended_at: datetime, usage: Usage | None
    ) -> Allocation:
        """Ends a lease, prices it once and keeps its usage; see Ledger."""
        check_usage(key, usage)
        with self._turn:
            return lease_rows.settle(self._tables, key, fencing_token, ended_at, usage)

    def release(self, key: AllocationKey, *, now: datetime, is_unstarted: bool = False) -> None:
        """AWARDED or LEASED becomes RELEASED, at no cost; else does nothing."""
        with self._turn:
            lease_rows.release(self._tables, key, now, is_unstarted)

    def release_awards(self, run_id: str, *, now: datetime) -> int:
        """Releases what is still AWARDED to a run; returns how many."""
        with self._turn:
            return lease_rows.release_awards(self._tables, run_id, now)

    def revoke(self, run_id: str, *, now: datetime) -> Sequence[Allocation]:
        """Revokes a run's leases, releases its awards; returns its REVOKED rows."""
        with self._turn:
            return lease_rows.revoke(self._tables, run_id, now)

    def revoke_leases(
        self, keys: Iterable[AllocationKey], *, now: datetime
    ) -> Sequence[Allocation]:
        """Revokes single leases; returns those that were held until then."""
        with self._turn:
            return tender_rows.revoke_leases(self._tables, keys, now)

    def expire(self, *, now: datetime) -> Sequence[Allocation]:
        """Ends leases past their expiry; returns the EXPIRED rows."""
        with self._turn:
            return lease_rows.expire(self._tables, now)

    def tick(self, *, now: datetime, tolerance: timedelta) -> timedelta:
        """Notes that the control plane is up; returns the gap that leases were extended by."""
        with self._turn:
            return lease_rows.tick(self._tables, now, tolerance)

    def allocation(self, key: AllocationKey) -> Allocation | None:
        """Returns one row, or None."""
        with self._turn:
            return self._tables.allocations.get(key)

    def allocations(
        self,
        *,
        run_id: str | None = None,
        states: Iterable[AllocationState] | None = None,
        limit: int | None = None,
    ) -> Sequence[Allocation]:
        """Returns rows, newest award first."""
        with self._turn:
            return award_rows.find_all(self._tables, run_id, states, limit)

    def held(self, capacity_id: str, *, run_id: str | None = None) -> ResourceVector:
        """Returns the sum of sizes that are LEASED or ACCEPTED, or stand bought ahead."""
        with self._turn:
            leased = award_rows.sum_held(self._tables, capacity_id)
            if run_id is None:
                return leased + purchase_rows.sum_standing(self._tables, capacity_id)
            return leased + purchase_rows.sum_in_the_way(self._tables, capacity_id, run_id)

    def leased_since(
        self, since: datetime, *, capacity_id: str | None = None
    ) -> Sequence[Allocation]:
        """Returns leases that are held, or ended after that moment, newest award first."""
        with self._turn:
            return tender_rows.leased_since(self._tables, since, capacity_id)

    def buy(self, purchase: Purchase, *, capacity: ResourceVector) -> Purchase | Refusal:
        """Writes a purchase if its capacity has room; see Ledger."""
        with self._turn:
            return purchase_rows.buy(self._tables, purchase, capacity)

    def advance_purchase(
        self,
        purchase_id: str,
        *,
        holder: str | None = None,
        ready_at: datetime | None = None,
        expires_at: datetime | None = None,
    ) -> Purchase | None:
        """Notes how an open purchase gets on; see Ledger."""
        with self._turn:
            return purchase_rows.advance(self._tables, purchase_id, holder, ready_at, expires_at)

    def take_purchase(self, purchase_id: str, *, run_id: str, now: datetime) -> Purchase | None:
        """An open purchase becomes TAKEN by one run; see Ledger."""
        with self._turn:
            return purchase_rows.take(self._tables, purchase_id, run_id, now)

    def let_go(
        self, purchase_id: str, *, outcome: str, now: datetime, run_id: str = ""
    ) -> Purchase | None:
        """Lets an unused purchase go; see Ledger."""
        with self._turn:
            return purchase_rows.let_go(self._tables, purchase_id, run_id, outcome, now)

    def purchases(
        self,
        *,
        states: Iterable[PurchaseState] | None = None,
        run_id: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> Sequence[Purchase]:
        """Returns purchases, newest first; see Ledger."""
        with self._turn:
            return purchase_rows.find(self._tables, states, run_id, since, limit)

    def rent(self, rental: Rental, *, capacity: ResourceVector, now: datetime) -> Rental | Refusal:
        """A PLANNED rental becomes OPEN if its provider's capacity has room; see Ledger."""
        with self._turn:
            return rental_rows.rent(self._tables, rental, capacity, now)

    def close_rentals(
        self, run_id: str, *, now: datetime, kept: Collection[str] = ()
    ) -> Sequence[Rental]:
        """Closes a run's rentals on which nothing is leased, nor is to be; see Ledger."""
        with self._turn:
            return rental_rows.close(self._tables, run_id, now, kept)

    def rentals(
        self,
        *,
        run_id: str | None = None,
        states: Iterable[RentalState] | None = None,
        since: datetime | None = None,
    ) -> Sequence[Rental]:
        """Returns rentals, the first planned first; see Ledger."""
        with self._turn:
            return rental_rows.find_all(self._tables, run_id, states, since)

    def note_tender(self, tender: Tender) -> None:
        """Writes a run's account and what it waits for."""
        with self._turn:
            tender_rows.note(self._tables, tender)

    def tenders(self) -> Sequence[Tender]:
        """Returns every run's tender, by run_id."""
        with self._turn:
            return tender_rows.find(self._tables)

    def forget_tenders(self, *, before: datetime) -> int:
        """Deletes those noted before that; returns how many."""
        with self._turn:
            return tender_rows.forget(self._tables, before)

    def history(
        self, identities: Iterable[StepIdentity], *, limit: int = 50
    ) -> Mapping[StepIdentity, Sequence[Usage]]:
        """Returns the newest attempts of each identity, newest first."""
        with self._turn:
            return past_rows.history(self._tables, identities, limit)

    def relatives(
        self, identities: Iterable[StepIdentity], *, limit: int = 60
    ) -> Mapping[StepIdentity, Sequence[Usage]]:
        """Returns the newest attempts of each step whatever their partition, newest first."""
        with self._turn:
            return past_rows.relatives(self._tables, identities, limit)

    def usages(
        self,
        *,
        run_id: str | None = None,
        code_location: str | None = None,
        limit: int | None = None,
    ) -> Sequence[Usage]:
        """Returns usage rows, newest first."""
        with self._turn:
            return past_rows.find_usages(self._tables, run_id, code_location, limit)

    def unstarted(self, *, limit: int) -> Sequence[Allocation]:
        """Returns the leases under which nothing was started, the newest first."""
        with self._turn:
            return past_rows.unstarted(self._tables, limit)

    def delivered(self, *, limit: int = 200) -> Mapping[str, Sequence[int]]:
        """Returns per resource_id the newest known delivered_millis, newest first."""
        with self._turn:
            return past_rows.delivered(self._tables, limit)

    def keep_usages(self, usages: Iterable[Usage]) -> int:
        """Writes attempts that no lease was behind; returns how many are new."""
        with self._turn:
            return learned_rows.keep_usages(self._tables, usages)

    def keep_curve(
        self, key: AllocationKey, identity: StepIdentity, curve: UsageCurve, *, ended_at: datetime
    ) -> None:
        """Writes what an attempt used over time."""
        with self._turn:
            learned_rows.keep_curve(self._tables, key, identity, curve, ended_at)

    def curves(
        self, identity: StepIdentity, *, limit: int = 20, ended_well: bool = False
    ) -> Sequence[UsageCurve]:
        """Returns the newest curves of a step, newest first: of all, or of good ends alone."""
        with self._turn:
            return learned_rows.curves(self._tables, identity, limit, ended_well)

    def publish(self, publications: Iterable[Publication]) -> None:
        """Writes forecasts over what was published before; all or none."""
        with self._turn:
            learned_rows.publish(self._tables, publications)

    def published(
        self, identities: Iterable[StepIdentity] | None = None
    ) -> Mapping[StepIdentity, Publication]:
        """Returns what is published for these steps, or everything."""
        with self._turn:
            return learned_rows.published(self._tables, identities)

    def withdraw(self, identities: Iterable[StepIdentity]) -> int:
        """Deletes what is published for these steps; returns how many rows."""
        with self._turn:
            return learned_rows.withdraw(self._tables, identities)

    def hold_run(self, run_id: str, holder: str, *, expires_at: datetime) -> None:
        """Writes or extends a run's lease."""
        with self._turn:
            run_rows.hold(self._tables, run_id, holder, expires_at)

    def end_run(self, run_id: str, *, now: datetime) -> None:
        """Notes that the run worker ended in order."""
        with self._turn:
            run_rows.end(self._tables, run_id, now)

    def run_lease(self, run_id: str) -> RunLease | None:
        """Returns a run's lease, or None."""
        with self._turn:
            return self._tables.run_leases.get(run_id)

    def live_runs(self) -> Sequence[RunLease]:
        """Returns run leases that have not ended."""
        with self._turn:
            return run_rows.find_live(self._tables)

    def close(self) -> None:
        """Does nothing: there is nothing to free."""
