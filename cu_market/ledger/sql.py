"""The ledger on SQLite or PostgreSQL. Each method is one transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType

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
from cu_market.ledger import awards as award_sql
from cu_market.ledger import learned as learned_sql
from cu_market.ledger import leases as lease_sql
from cu_market.ledger import open_requests as request_sql
from cu_market.ledger import past as past_sql
from cu_market.ledger import purchases as purchase_sql
from cu_market.ledger import rentals as rental_sql
from cu_market.ledger import retenders as retender_sql
from cu_market.ledger import runs as run_sql
from cu_market.ledger import tenders as tender_sql
from cu_market.ledger.channel_sql import SqlChannels
from cu_market.ledger.database import Database
from cu_market.ledger.location import parse_url, shown
from cu_market.ledger.migrate import bring_up_to_date
from cu_market.ledger.moves import check_auction, check_usage


def open_ledger(url: str) -> SqlLedger:
    """Returns the ledger at a URL (see location.ledger_url), its tables brought up to date.

    Raises:
        InvalidInputError: the URL names no database that can keep a ledger.
        LedgerError: it cannot be opened (missing, read-only, from a newer version).
    """
    database = Database(parse_url(url))
    try:
        bring_up_to_date(database)
    except BaseException:
        database.close()
        raise
    return SqlLedger(database)


class SqlLedger:
    """See interface.Ledger, whose promises these are.

    Safe to share between threads. After a fork, parent and child may both go on using it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.channels = SqlChannels(database)

    def __repr__(self) -> str:
        return f"SqlLedger({shown(self._database.url)})"

    def __enter__(self) -> SqlLedger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def record_auction(
        self,
        auction: Auction,
        awards: Sequence[Allocation],
        asked: Sequence[OpenRequest] = (),
        rentals: Sequence[Rental] = (),
    ) -> None:
        """Writes an auction, its awards and its rentals together; see Ledger."""
        check_auction(auction, awards, rentals)
        self._database.write(
            lambda connection: award_sql.record(connection, auction, awards, asked, rentals),
            f"run {auction.run_id}",
        )

    def supersede(
        self, auction: Auction, awards: Sequence[Allocation], asked: Sequence[OpenRequest]
    ) -> Sequence[Allocation]:
        """Writes awards in the place of those that are still AWARDED; see Ledger."""
        check_auction(auction, awards)
        return self._database.write(
            lambda connection: retender_sql.supersede(connection, auction, awards, asked),
            f"run {auction.run_id}",
        )

    def standing(self) -> Sequence[tuple[Allocation, OpenRequest]]:
        """Returns what is AWARDED and what it was asked for, oldest award first."""
        return self._database.read(request_sql.standing)

    def auctions(self, run_id: str | None = None, limit: int = 100) -> Sequence[Auction]:
        """Returns auctions, newest first."""
        return self._database.read(lambda c: award_sql.find_auctions(c, run_id, limit))

    def lease(
        self,
        allocation: Allocation,
        *,
        capacity: ResourceVector,
        expires_at: datetime,
        now: datetime,
    ) -> Allocation | Refusal:
        """Turns an award into a lease if its capacity has room; see Ledger."""
        return self._database.write(
            lambda c: lease_sql.give(c, allocation, capacity, expires_at, now),
            f"capacity {allocation.capacity_id}",
            f"run {allocation.run_id}",
        )

    def accept(self, key: AllocationKey, fencing_token: int, *, now: datetime) -> Allocation:
        """LEASED becomes ACCEPTED, if the token is the row's; see Ledger."""
        return self._database.write(lambda c: lease_sql.accept(c, key, fencing_token, now))

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
        return self._database.write(
            lambda c: lease_sql.grow(c, lease, size, price_microusd_per_hour, capacity, now),
            f"capacity {lease.capacity_id}",
            f"run {lease.run_id}",
        )

    def hold(self, keys: Iterable[AllocationKey], holder: str) -> None:
        """Writes who holds these leases."""
        held = tuple(keys)
        self._database.write(lambda c: lease_sql.hold(c, held, holder))

    def renew(self, run_id: str, *, expires_at: datetime) -> int:
        """Extends every lease that the run holds; returns how many."""
        return self._database.write(lambda c: lease_sql.renew(c, run_id, expires_at))

    def settle(
        self, key: AllocationKey, fencing_token: int, *, ended_at: datetime, usage: Usage | None
    ) -> Allocation:
        """Ends a lease, prices it once and keeps its usage; see Ledger."""
        check_usage(key, usage)
        return self._database.write(
            lambda c: lease_sql.settle(c, key, fencing_token, ended_at, usage)
        )

    def release(self, key: AllocationKey, *, now: datetime, is_unstarted: bool = False) -> None:
        """AWARDED or LEASED becomes RELEASED, at no cost; else does nothing."""
        self._database.write(lambda c: lease_sql.release(c, key, now, is_unstarted))

    def release_awards(self, run_id: str, *, now: datetime) -> int:
        """Releases what is still AWARDED to a run; returns how many."""
        return self._database.write(
            lambda c: lease_sql.release_awards(c, run_id, now), f"run {run_id}"
        )

    def revoke(self, run_id: str, *, now: datetime) -> Sequence[Allocation]:
        """Revokes a run's leases, releases its awards; returns its REVOKED rows."""
        return self._database.write(lambda c: lease_sql.revoke(c, run_id, now), f"run {run_id}")

    def revoke_leases(
        self, keys: Iterable[AllocationKey], *, now: datetime
    ) -> Sequence[Allocation]:
        """Revokes single leases; returns those that were held until then."""
        wanted = tuple(keys)
        return self._database.write(lambda c: tender_sql.revoke_leases(c, wanted, now))

    def expire(self, *, now: datetime) -> Sequence[Allocation]:
        """Ends leases past their expiry; returns the EXPIRED rows."""
        return self._database.write(lambda c: lease_sql.expire(c, now))

    def tick(self, *, now: datetime, tolerance: timedelta) -> timedelta:
        """Notes that the control plane is up; returns the gap that leases were extended by."""
        return self._database.write(lambda c: lease_sql.tick(c, now, tolerance))

    def allocation(self, key: AllocationKey) -> Allocation | None:
        """Returns one row, or None."""
        return self._database.read(lambda c: award_sql.find(c, key))

    def allocations(
        self,
        *,
        run_id: str | None = None,
        states: Iterable[AllocationState] | None = None,
        limit: int | None = None,
    ) -> Sequence[Allocation]:
        """Returns rows, newest award first."""
        wanted = None if states is None else frozenset(states)
        return self._database.read(lambda c: award_sql.find_all(c, run_id, wanted, limit))

    def held(self, capacity_id: str, *, run_id: str | None = None) -> ResourceVector:
        """Returns the sum of sizes that are leased, stand bought ahead, or are rented."""
        return self._database.read(
            lambda c: (
                award_sql.sum_held(c, capacity_id)
                + (
                    purchase_sql.sum_standing(c, capacity_id)
                    if run_id is None
                    else purchase_sql.sum_in_the_way(c, capacity_id, run_id)
                )
            )
        )

    def leased_since(
        self, since: datetime, *, capacity_id: str | None = None
    ) -> Sequence[Allocation]:
        """Returns leases that are held, or ended after that moment, newest award first."""
        return self._database.read(lambda c: tender_sql.leased_since(c, since, capacity_id))

    def buy(self, purchase: Purchase, *, capacity: ResourceVector) -> Purchase | Refusal:
        """Writes a purchase if its capacity has room; see Ledger."""
        return self._database.write(
            lambda c: purchase_sql.buy(c, purchase, capacity),
            f"capacity {purchase.capacity_id}",
            f"purchase {purchase.purchase_id}",
        )

    def advance_purchase(
        self,
        purchase_id: str,
        *,
        holder: str | None = None,
        ready_at: datetime | None = None,
        expires_at: datetime | None = None,
    ) -> Purchase | None:
        """Notes how an open purchase gets on; see Ledger."""
        return self._database.write(
            lambda c: purchase_sql.advance(c, purchase_id, holder, ready_at, expires_at)
        )

    def take_purchase(self, purchase_id: str, *, run_id: str, now: datetime) -> Purchase | None:
        """An open purchase becomes TAKEN by one run; see Ledger."""
        return self._database.write(lambda c: purchase_sql.take(c, purchase_id, run_id, now))

    def let_go(
        self, purchase_id: str, *, outcome: str, now: datetime, run_id: str = ""
    ) -> Purchase | None:
        """Lets an unused purchase go; see Ledger."""
        return self._database.write(
            lambda c: purchase_sql.let_go(c, purchase_id, run_id, outcome, now)
        )

    def purchases(
        self,
        *,
        states: Iterable[PurchaseState] | None = None,
        run_id: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> Sequence[Purchase]:
        """Returns purchases, newest first; see Ledger."""
        wanted = None if states is None else frozenset(states)
        return self._database.read(lambda c: purchase_sql.find(c, wanted, run_id, since, limit))

    def rent(self, rental: Rental, *, capacity: ResourceVector, now: datetime) -> Rental | Refusal:
        """A PLANNED rental becomes OPEN if its provider's capacity has room; see Ledger."""
        return self._database.write(
            lambda c: rental_sql.rent(c, rental, capacity, now),
            f"capacity {rental.capacity_id}",
            f"run {rental.run_id}",
        )

    def close_rentals(
        self, run_id: str, *, now: datetime, kept: Collection[str] = ()
    ) -> Sequence[Rental]:
        """Closes a run's rentals on which nothing is leased, nor is to be; see Ledger."""
        spared = frozenset(kept)
        return self._database.write(
            lambda c: rental_sql.close(c, run_id, now, spared), f"run {run_id}"
        )

    def rentals(
        self,
        *,
        run_id: str | None = None,
        states: Iterable[RentalState] | None = None,
        since: datetime | None = None,
    ) -> Sequence[Rental]:
        """Returns rentals, the first planned first; see Ledger."""
        wanted = None if states is None else frozenset(states)
        return self._database.read(lambda c: rental_sql.find_all(c, run_id, wanted, since))

    def note_tender(self, tender: Tender) -> None:
        """Writes a run's account and what it waits for."""
        self._database.write(lambda c: tender_sql.note(c, tender), f"run {tender.run_id}")

    def tenders(self) -> Sequence[Tender]:
        """Returns every run's tender, by run_id."""
        return self._database.read(tender_sql.find)

    def forget_tenders(self, *, before: datetime) -> int:
        """Deletes those noted before that; returns how many."""
        return self._database.write(lambda c: tender_sql.forget(c, before))

    def history(
        self, identities: Iterable[StepIdentity], *, limit: int = 50
    ) -> Mapping[StepIdentity, Sequence[Usage]]:
        """Returns the newest attempts of each identity, newest first."""
        wanted = tuple(identities)
        return self._database.read(lambda c: past_sql.history(c, wanted, limit))

    def relatives(
        self, identities: Iterable[StepIdentity], *, limit: int = 60
    ) -> Mapping[StepIdentity, Sequence[Usage]]:
        """Returns the newest attempts of each step whatever their partition, newest first."""
        wanted = tuple(identities)
        return self._database.read(lambda c: past_sql.relatives(c, wanted, limit))

    def usages(
        self,
        *,
        run_id: str | None = None,
        code_location: str | None = None,
        limit: int | None = None,
    ) -> Sequence[Usage]:
        """Returns usage rows, newest first."""
        return self._database.read(lambda c: past_sql.find_usages(c, run_id, code_location, limit))

    def unstarted(self, *, limit: int) -> Sequence[Allocation]:
        """Returns the leases under which nothing was started, the newest first."""
        return self._database.read(lambda c: past_sql.unstarted(c, limit))

    def delivered(self, *, limit: int = 200) -> Mapping[str, Sequence[int]]:
        """Returns per resource_id the newest known delivered_millis, newest first."""
        return self._database.read(lambda c: past_sql.delivered(c, limit))

    def keep_usages(self, usages: Iterable[Usage]) -> int:
        """Writes attempts that no lease was behind; returns how many are new."""
        rows = tuple(usages)
        return self._database.write(lambda c: learned_sql.keep_usages(c, rows))

    def keep_curve(
        self, key: AllocationKey, identity: StepIdentity, curve: UsageCurve, *, ended_at: datetime
    ) -> None:
        """Writes what an attempt used over time."""
        self._database.write(
            lambda c: learned_sql.keep_curve(c, key, identity, curve, ended_at), f"run {key[0]}"
        )

    def curves(
        self, identity: StepIdentity, *, limit: int = 20, ended_well: bool = False
    ) -> Sequence[UsageCurve]:
        """Returns the newest curves of a step, newest first: of all, or of good ends alone."""
        return self._database.read(lambda c: learned_sql.curves(c, identity, limit, ended_well))

    def publish(self, publications: Iterable[Publication]) -> None:
        """Writes forecasts over what was published before; all or none."""
        rows = tuple(publications)
        self._database.write(lambda c: learned_sql.publish(c, rows), "forecasts")

    def published(
        self, identities: Iterable[StepIdentity] | None = None
    ) -> Mapping[StepIdentity, Publication]:
        """Returns what is published for these steps, or everything."""
        wanted = None if identities is None else tuple(identities)
        return self._database.read(lambda c: learned_sql.published(c, wanted))

    def withdraw(self, identities: Iterable[StepIdentity]) -> int:
        """Deletes what is published for these steps; returns how many rows."""
        unwanted = tuple(set(identities))
        return self._database.write(lambda c: learned_sql.withdraw(c, unwanted), "forecasts")

    def hold_run(self, run_id: str, holder: str, *, expires_at: datetime) -> None:
        """Writes or extends a run's lease."""
        self._database.write(lambda c: run_sql.hold(c, run_id, holder, expires_at), f"run {run_id}")

    def end_run(self, run_id: str, *, now: datetime) -> None:
        """Notes that the run worker ended in order."""
        self._database.write(lambda c: run_sql.end(c, run_id, now), f"run {run_id}")

    def run_lease(self, run_id: str) -> RunLease | None:
        """Returns a run's lease, or None."""
        return self._database.read(lambda c: run_sql.find(c, run_id))

    def live_runs(self) -> Sequence[RunLease]:
        """Returns run leases that have not ended."""
        return self._database.read(run_sql.find_live)

    def server_clock(self) -> datetime | None:
        """Returns the time by the database server's own clock; None where there is no server."""
        if self._database.dialect.is_serial:
            return None
        moment: datetime = self._database.read(
            lambda c: c.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
        )
        return moment

    def close(self) -> None:
        """Frees connections."""
        self._database.close()
