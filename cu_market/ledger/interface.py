"""What every ledger promises, whatever it is kept in.

Exactly-once award and settlement; leases with an expiry and a fencing token that only grows;
capacity checked inside the committing transaction. Times are aware UTC and always passed in: a
ledger has no clock of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

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
from cu_market.ledger.channels import Channels


class Ledger(Protocol):
    """See the module's docstring. Every method is one transaction.

    A method called again with the same arguments, because its answer was lost, leaves what the
    first call left; so a ledger may try again itself when it lost its database.
    """

    @property
    def channels(self) -> Channels:
        """Channels to workers that are reached through its database alone."""

    # -- auctions and awards

    def record_auction(
        self,
        auction: Auction,
        awards: Sequence[Allocation],
        asked: Sequence[OpenRequest] = (),
        rentals: Sequence[Rental] = (),
    ) -> None:
        """Writes an auction, its awards (state AWARDED) and its rentals (PLANNED) together.

        Awards of the same (run_id, step_key) that are still AWARDED under an earlier auction
        become RELEASED. Recording the same auction_id again changes nothing.

        Args:
            auction: the record.
            awards: of its run's steps.
            asked: what they answer, over what was kept of these steps before; gone with
                the run's awards (release_awards, revoke).
            rentals: CUs of the run that some of its awards are shares of.

        Raises:
            AwardTakenError: an award's key exists with another auction.
        """

    def supersede(
        self, auction: Auction, awards: Sequence[Allocation], asked: Sequence[OpenRequest]
    ) -> Sequence[Allocation]:
        """Writes an auction of a run's steps that another run's auction has moved.

        Each award takes the place of the attempt before its own if that is still AWARDED, which
        becomes RELEASED, so that it can never be leased. Of two that want the same award (its run
        to lease it, another to move it) the first has it: awards that come too late are left out,
        and an auction without any is not written.

        Returns:
            the awards written; those of an auction that is there already, unchanged.
        """

    def standing(self) -> Sequence[tuple[Allocation, OpenRequest]]:
        """Returns what is AWARDED and what it was asked for, oldest award first."""

    def auctions(self, run_id: str | None = None, limit: int = 100) -> Sequence[Auction]:
        """Returns auctions, newest first."""

    # -- leases

    def lease(
        self,
        allocation: Allocation,
        *,
        capacity: ResourceVector,
        expires_at: datetime,
        now: datetime,
    ) -> Allocation | Refusal:
        """Turns an award into a lease if its capacity has room, all in one transaction.

        The row is the one of allocation.key: AWARDED becomes LEASED; where there is none, it is
        written as LEASED at once (a mapped step, a retry). A Refusal leaves everything as it was.
        The returned allocation carries a new fencing token, larger than any given before. The very
        same call (terms, expiry, now) made again returns the lease that it has: its answer was
        lost. An offer that has ended by now (allocation.valid_until) is refused as expired,
        whatever room there is, and so is a share of a rental that is not open.

        Args:
            allocation: key, size, price, capacity_id and holder are taken from it.
            capacity: the total of allocation.capacity_id; the sum of sizes LEASED or ACCEPTED,
                of purchases that stand and of open rentals never passes it. A purchase that the run
                has taken with the allocation's holder gives its room to the lease, and is USED.

        Raises:
            LeaseLostError: the row is in another state.
        """

    def accept(self, key: AllocationKey, fencing_token: int, *, now: datetime) -> Allocation:
        """LEASED becomes ACCEPTED, if the token is the row's.

        Raises:
            LeaseLostError: it is not, or the lease has ended.
        """

    def grow(
        self,
        lease: Allocation,
        *,
        size: ResourceVector,
        price_microusd_per_hour: int,
        capacity: ResourceVector,
        now: datetime,
    ) -> Allocation | Refusal:
        """Makes a lease larger in place, if its capacity has room for what is added.

        It is billed at its old price until now and at the new one from now on. The very same size
        and price again change nothing: the answer was lost.

        Args:
            lease: as lease or grow gave it: its key, token and capacity_id are taken from it.
            size: no dimension smaller than what it holds.
            price_microusd_per_hour: of the whole of it.
            capacity: the total of its capacity, as lease.
            now: aware UTC.

        Raises:
            LeaseLostError: the token is not the row's, or the lease has ended.
        """

    def hold(self, keys: Iterable[AllocationKey], holder: str) -> None:
        """Writes who holds these leases."""

    def renew(self, run_id: str, *, expires_at: datetime) -> int:
        """Extends every lease that the run holds; returns how many."""

    def settle(
        self, key: AllocationKey, fencing_token: int, *, ended_at: datetime, usage: Usage | None
    ) -> Allocation:
        """Ends a lease, prices it (price x lease time, half-even, once) and keeps its usage.

        From LEASED, ACCEPTED, EXPIRED or REVOKED. A second call with the same token returns the
        settled row unchanged and writes no second usage. An EXPIRED or REVOKED row keeps its
        ended_at.

        Raises:
            LeaseLostError: the token is not the row's, or nothing was ever leased.
        """

    def release(self, key: AllocationKey, *, now: datetime, is_unstarted: bool = False) -> None:
        """AWARDED or LEASED (nothing started) becomes RELEASED, at no cost; else does nothing.

        Args:
            key: whose.
            now: aware UTC.
            is_unstarted: its CU was to start something under the lease, and did not.
        """

    def release_awards(self, run_id: str, *, now: datetime) -> int:
        """Releases what is still AWARDED to a run; returns how many."""

    def revoke(self, run_id: str, *, now: datetime) -> Sequence[Allocation]:
        """LEASED and ACCEPTED rows of a run become REVOKED, AWARDED ones RELEASED; returns all that
        are REVOKED: whoever ended them before may have died before they were settled."""

    def revoke_leases(
        self, keys: Iterable[AllocationKey], *, now: datetime
    ) -> Sequence[Allocation]:
        """LEASED and ACCEPTED rows among these become REVOKED; returns those that did now. Who
        holds them learns it from the ledger, stops the step, and settles."""

    def expire(self, *, now: datetime) -> Sequence[Allocation]:
        """LEASED and ACCEPTED rows past their expiry become EXPIRED; returns all that are EXPIRED,
        not settled yet, as revoke does."""

    def tick(self, *, now: datetime, tolerance: timedelta) -> timedelta:
        """Notes that the control plane is up. If the last note is older than tolerance, the
        control plane was down meanwhile: every live lease (also a run's) is extended by that gap
        first. Returns the gap, zero where there was none."""

    # -- reading

    def allocation(self, key: AllocationKey) -> Allocation | None:
        """Returns one row, or None."""

    def allocations(
        self,
        *,
        run_id: str | None = None,
        states: Iterable[AllocationState] | None = None,
        limit: int | None = None,
    ) -> Sequence[Allocation]:
        """Returns rows, newest award first."""

    def held(self, capacity_id: str, *, run_id: str | None = None) -> ResourceVector:
        """Returns the sum of sizes that are leased, stand bought ahead, or are rented.

        Args:
            capacity_id: of which capacity.
            run_id: as this run sees it: what it has taken, and what nobody has taken yet, which
                gives way to it, is left out.
        """

    def leased_since(
        self, since: datetime, *, capacity_id: str | None = None
    ) -> Sequence[Allocation]:
        """Returns leases that are held, or ended after that moment, newest award first."""

    # -- CUs bought ahead

    def buy(self, purchase: Purchase, *, capacity: ResourceVector) -> Purchase | Refusal:
        """Writes a purchase if its capacity has room; returns the row of its id, which may be
        another process's that was quicker, or has ended: its buyer and state tell."""

    def advance_purchase(
        self,
        purchase_id: str,
        *,
        holder: str | None = None,
        ready_at: datetime | None = None,
        expires_at: datetime | None = None,
    ) -> Purchase | None:
        """Notes what holds an open purchase, that it is ready, or that it is kept for longer.
        Returns it, or None where it is not open any more."""

    def take_purchase(self, purchase_id: str, *, run_id: str, now: datetime) -> Purchase | None:
        """An open purchase becomes TAKEN by one run; returns it, or None where it has gone."""

    def let_go(
        self, purchase_id: str, *, outcome: str, now: datetime, run_id: str = ""
    ) -> Purchase | None:
        """An open purchase, or one that this run has taken and not used, becomes LET_GO and is
        billed. Returns it if that was so now, else None."""

    def purchases(
        self,
        *,
        states: Iterable[PurchaseState] | None = None,
        run_id: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> Sequence[Purchase]:
        """Returns purchases, newest first; with since, those that stand or ended after it."""

    # -- CUs that runs rent whole

    def rent(self, rental: Rental, *, capacity: ResourceVector, now: datetime) -> Rental | Refusal:
        """A PLANNED rental becomes OPEN if its provider's capacity has room for all of it, and its
        offer has not ended; one that is OPEN is returned as it is.

        Args:
            rental: its id and capacity_id are taken from it.
            capacity: the total of that capacity.
            now: aware UTC.

        Raises:
            LeaseLostError: there is none, or it has been closed.
        """

    def close_rentals(
        self, run_id: str, *, now: datetime, kept: Collection[str] = ()
    ) -> Sequence[Rental]:
        """A run's rentals on which no step is leased, nor is to be, become CLOSED and are billed
        to their last lease's end, or DROPPED where they were never opened; returns those that did
        now. One on which a lease waits to be settled stays, and so do those whose ids are kept."""

    def rentals(
        self,
        *,
        run_id: str | None = None,
        states: Iterable[RentalState] | None = None,
        since: datetime | None = None,
    ) -> Sequence[Rental]:
        """Returns rentals, the first planned first; with since, those that stand or were closed
        after it."""

    # -- what runs wait for

    def note_tender(self, tender: Tender) -> None:
        """Writes a run's account and what it waits for, over what was noted before."""

    def tenders(self) -> Sequence[Tender]:
        """Returns every run's tender, by run_id."""

    def forget_tenders(self, *, before: datetime) -> int:
        """Deletes those noted before that; returns how many."""

    # -- history

    def history(
        self, identities: Iterable[StepIdentity], *, limit: int = 50
    ) -> Mapping[StepIdentity, Sequence[Usage]]:
        """Returns the newest attempts of each identity, newest first; identities without any are
        left out. One query, however many identities."""

    def relatives(
        self, identities: Iterable[StepIdentity], *, limit: int = 60
    ) -> Mapping[StepIdentity, Sequence[Usage]]:
        """Returns the newest attempts of each step whatever their partition, newest first, by the
        identity without a partition; steps without any are left out."""

    def usages(
        self,
        *,
        run_id: str | None = None,
        code_location: str | None = None,
        limit: int | None = None,
    ) -> Sequence[Usage]:
        """Returns usage rows, newest first: of all runs and code locations, or of one."""

    def unstarted(self, *, limit: int) -> Sequence[Allocation]:
        """Returns the leases under which their CUs have started nothing, the newest first."""

    def delivered(self, *, limit: int = 200) -> Mapping[str, Sequence[int]]:
        """Returns per resource_id the newest delivered_millis (see Measurement), newest first,
        those that are None left out."""

    def keep_usages(self, usages: Iterable[Usage]) -> int:
        """Writes attempts that no lease of this ledger was behind (imports); those whose key is
        there already are left as they are. Returns how many are new."""

    # -- what is learned

    def keep_curve(
        self, key: AllocationKey, identity: StepIdentity, curve: UsageCurve, *, ended_at: datetime
    ) -> None:
        """Writes what an attempt used over time, over what was written before."""

    def curves(
        self, identity: StepIdentity, *, limit: int = 20, ended_well: bool = False
    ) -> Sequence[UsageCurve]:
        """Returns the newest curves of a step, newest first: of all, or of good ends alone."""

    def publish(self, publications: Iterable[Publication]) -> None:
        """Writes forecasts, each over what was published for its step before; all or none."""

    def published(
        self, identities: Iterable[StepIdentity] | None = None
    ) -> Mapping[StepIdentity, Publication]:
        """Returns what is published for these steps, or everything where None is asked for."""

    def withdraw(self, identities: Iterable[StepIdentity]) -> int:
        """Deletes what is published for these steps; returns how many rows."""

    # -- a run worker's sign of life

    def hold_run(self, run_id: str, holder: str, *, expires_at: datetime) -> None:
        """Writes or extends a run's lease."""

    def end_run(self, run_id: str, *, now: datetime) -> None:
        """Notes that the run worker ended in order."""

    def run_lease(self, run_id: str) -> RunLease | None:
        """Returns a run's lease, or None."""

    def live_runs(self) -> Sequence[RunLease]:
        """Returns run leases that have not ended."""

    def close(self) -> None:
        """Frees connections."""
