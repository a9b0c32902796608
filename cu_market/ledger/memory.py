"""The ledger in memory: the twin that tests and simulations use. Gone with its process."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from cu_market.domain.allocation import HOLDING, Allocation, AllocationState
from cu_market.domain.curve import UsageCurve
from cu_market.domain.open_request import OpenRequest
from cu_market.domain.publication import Publication
from cu_market.domain.purchase import OPEN, STANDING, Purchase, PurchaseState
from cu_market.domain.request import StepIdentity
from cu_market.domain.resources import ResourceVector
from cu_market.domain.tender import Tender
from cu_market.domain.usage import Ending, Usage
from cu_market.ledger import moves
from cu_market.ledger.interface import AllocationKey, Auction, Refusal, RunLease
from cu_market.ledger.memory_channels import InMemoryChannels
from cu_market.ledger.report import report_text


class InMemoryLedger:
    """See interface.Ledger, whose promises these are, within one process. Safe between threads."""

    def __init__(self) -> None:
        self._turn = threading.RLock()
        self._auctions: dict[str, Auction] = {}
        self._rows: dict[AllocationKey, Allocation] = {}
        self._usages: dict[AllocationKey, Usage] = {}
        self._runs: dict[str, RunLease] = {}
        self._tenders: dict[str, Tender] = {}
        self._purchases: dict[str, Purchase] = {}
        self._asked: dict[tuple[str, str], OpenRequest] = {}
        self._curves: dict[AllocationKey, tuple[datetime, StepIdentity, UsageCurve]] = {}
        self._published: dict[StepIdentity, Publication] = {}
        self._last_token = 0
        self._noted_at: datetime | None = None
        self.channels = InMemoryChannels(lambda: [lease.run_id for lease in self.live_runs()])

    def record_auction(
        self,
        auction: Auction,
        awards: Sequence[Allocation],
        asked: Sequence[OpenRequest] = (),
    ) -> None:
        """Writes an auction and its awards together; see Ledger."""
        moves.check_auction(auction, awards)
        report = json.loads(report_text(auction.auction_id, auction.report))
        with self._turn:
            if auction.auction_id in self._auctions:
                return
            owners = {key: row.auction_id for key, row in self._rows.items()}
            moves.refuse_taken(auction, awards, owners)
            self._auctions[auction.auction_id] = replace(auction, report=report)
            steps = {award.step_key for award in awards}
            for row in self._of(auction.run_id, {AllocationState.AWARDED}):
                if row.step_key in steps:
                    self._end(row, AllocationState.RELEASED, auction.held_at)
            self._rows.update((award.key, award) for award in awards)
            self._asked.update(((each.run_id, each.step_key), each) for each in asked)

    def supersede(
        self, auction: Auction, awards: Sequence[Allocation], asked: Sequence[OpenRequest]
    ) -> Sequence[Allocation]:
        """Writes awards in the place of those that are still AWARDED; see Ledger."""
        moves.check_auction(auction, awards)
        with self._turn:
            if auction.auction_id not in self._auctions:
                rows = self._rows
                taken = [
                    award
                    for award in awards
                    if moves.is_superseded(rows.get(moves.before(award)), rows.get(award.key))
                ]
                steps = {award.step_key for award in taken}
                if taken:
                    kept = [each for each in asked if each.step_key in steps]
                    self.record_auction(auction, taken, kept)
            wanted = {award.key for award in awards}
            return moves.oldest_first(
                row
                for row in self._rows.values()
                if row.key in wanted and row.auction_id == auction.auction_id
            )

    def standing(self) -> Sequence[tuple[Allocation, OpenRequest]]:
        """Returns what is AWARDED and what it was asked for, oldest award first."""
        with self._turn:
            awarded = moves.oldest_first(self._of(None, {AllocationState.AWARDED}))
            asked = ((row, self._asked.get(row.key[:2])) for row in awarded)
            return [(row, each) for row, each in asked if each is not None]

    def auctions(self, run_id: str | None = None, limit: int = 100) -> Sequence[Auction]:
        """Returns auctions, newest first."""
        with self._turn:
            found = [a for a in self._auctions.values() if run_id in (None, a.run_id)]
        found.sort(key=lambda auction: (auction.held_at, auction.auction_id), reverse=True)
        return found[: max(0, limit)]

    def lease(
        self,
        allocation: Allocation,
        *,
        capacity: ResourceVector,
        expires_at: datetime,
        now: datetime,
    ) -> Allocation | Refusal:
        """Turns an award into a lease if its capacity has room; see Ledger."""
        moves.check_aware("lease: now", now)
        with self._turn:
            row = self._rows.get(allocation.key)
            if row is not None and moves.is_same_lease(row, allocation, expires_at, now):
                return row
            moves.check_leasable(row, allocation, expires_at)
            own = [
                each
                for each in self._standing(allocation.capacity_id)
                if each.state is PurchaseState.TAKEN
                and (each.run_id, each.holder) == (allocation.run_id, allocation.holder)
            ]
            held = self.held(allocation.capacity_id)
            held = held.minus(sum((each.size for each in own), ResourceVector()))
            refused = moves.refusal(allocation.capacity_id, allocation.size, held, capacity)
            if refused is not None:
                return refused
            self._last_token += 1
            lease = moves.leased(
                row, allocation, fencing_token=self._last_token, expires_at=expires_at, now=now
            )
            self._rows[lease.key] = lease
            for each in own:
                self._purchases[each.purchase_id] = moves.used_purchase(each, now)
            return lease

    def accept(self, key: AllocationKey, fencing_token: int, *, now: datetime) -> Allocation:
        """LEASED becomes ACCEPTED, if the token is the row's; see Ledger."""
        with self._turn:
            self._rows[key] = moves.accepted(self._rows.get(key), key, fencing_token, now)
            return self._rows[key]

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
            row = self._rows.get(lease.key)
            after = moves.grown(
                row,
                lease.key,
                lease.fencing_token,
                size=size,
                price_microusd_per_hour=price_microusd_per_hour,
                now=now,
            )
            if row is None or after is row:
                return after
            others = self.held(row.capacity_id).minus(row.size)
            refused = moves.refusal(row.capacity_id, size, others, capacity)
            if refused is not None:
                return refused
            self._rows[lease.key] = after
            return after

    def hold(self, keys: Iterable[AllocationKey], holder: str) -> None:
        """Writes who holds these leases."""
        with self._turn:
            for key in keys:
                row = self._rows.get(key)
                if row is not None and row.state in HOLDING:
                    self._rows[key] = replace(row, holder=holder)

    def renew(self, run_id: str, *, expires_at: datetime) -> int:
        """Extends every lease that the run holds; returns how many."""
        moves.check_aware("renew: expires_at", expires_at)
        with self._turn:
            held = self._of(run_id, HOLDING)
            for row in held:
                longer = max(row.lease_expires_at or expires_at, expires_at)
                self._rows[row.key] = replace(row, lease_expires_at=longer)
            return len(held)

    def settle(
        self, key: AllocationKey, fencing_token: int, *, ended_at: datetime, usage: Usage | None
    ) -> Allocation:
        """Ends a lease, prices it once and keeps its usage; see Ledger."""
        moves.check_usage(key, usage)
        with self._turn:
            row = self._rows.get(key)
            after = moves.settled(row, key, fencing_token, ended_at)
            if after is not row and usage is not None:
                self._usages[key] = usage
            self._rows[key] = after
            return after

    def release(self, key: AllocationKey, *, now: datetime) -> None:
        """AWARDED or LEASED becomes RELEASED, at no cost; else does nothing."""
        with self._turn:
            row = self._rows.get(key)
            if row and row.state in (AllocationState.AWARDED, AllocationState.LEASED):
                self._end(row, AllocationState.RELEASED, now)

    def release_awards(self, run_id: str, *, now: datetime) -> int:
        """Releases what is still AWARDED to a run; returns how many."""
        with self._turn:
            awarded = self._of(run_id, {AllocationState.AWARDED})
            for row in awarded:
                self._end(row, AllocationState.RELEASED, now)
            for step in [step for step in self._asked if step[0] == run_id]:
                del self._asked[step]
            return len(awarded)

    def revoke(self, run_id: str, *, now: datetime) -> Sequence[Allocation]:
        """Revokes a run's leases, releases its awards; returns its REVOKED rows."""
        with self._turn:
            for row in self._of(run_id, HOLDING):
                self._end(row, AllocationState.REVOKED, now)
            self.release_awards(run_id, now=now)
            return self._of(run_id, {AllocationState.REVOKED})

    def revoke_leases(
        self, keys: Iterable[AllocationKey], *, now: datetime
    ) -> Sequence[Allocation]:
        """Revokes single leases; returns those that were held until then."""
        with self._turn:
            held = [self._rows[key] for key in set(keys) if key in self._rows]
            return moves.newest_first(
                self._end(row, AllocationState.REVOKED, now) for row in held if row.state in HOLDING
            )

    def expire(self, *, now: datetime) -> Sequence[Allocation]:
        """Ends leases past their expiry; returns the EXPIRED rows."""
        with self._turn:
            for row in self._of(None, HOLDING):
                if row.lease_expires_at is not None and row.lease_expires_at <= now:
                    self._end(row, AllocationState.EXPIRED, row.lease_expires_at)
            return self._of(None, {AllocationState.EXPIRED})

    def tick(self, *, now: datetime, tolerance: timedelta) -> timedelta:
        """Notes that the control plane is up; returns the gap that leases were extended by."""
        with self._turn:
            noted, self._noted_at = self._noted_at, max(now, self._noted_at or now)
            gap = timedelta(0) if noted is None else now - noted
            if gap <= max(tolerance, timedelta(0)):
                return timedelta(0)
            for row in self._of(None, HOLDING):
                expires_at = (row.lease_expires_at or now) + gap
                self._rows[row.key] = replace(row, lease_expires_at=expires_at)
            for run in self.live_runs():
                self._runs[run.run_id] = replace(run, expires_at=run.expires_at + gap)
            return gap

    def allocation(self, key: AllocationKey) -> Allocation | None:
        """Returns one row, or None."""
        with self._turn:
            return self._rows.get(key)

    def allocations(
        self,
        *,
        run_id: str | None = None,
        states: Iterable[AllocationState] | None = None,
        limit: int | None = None,
    ) -> Sequence[Allocation]:
        """Returns rows, newest award first."""
        wanted = frozenset(AllocationState if states is None else states)
        with self._turn:
            found = self._of(run_id, wanted)
        return found if limit is None else found[: max(0, limit)]

    def held(self, capacity_id: str, *, run_id: str | None = None) -> ResourceVector:
        """Returns the sum of sizes that are LEASED or ACCEPTED, or stand bought ahead."""
        with self._turn:
            rows = [row for row in self._of(None, HOLDING) if row.capacity_id == capacity_id]
            bought = [
                each
                for each in self._standing(capacity_id)
                if run_id is None or (each.state not in OPEN and each.run_id != run_id)
            ]
        sizes = [row.size for row in rows] + [each.size for each in bought]
        return sum(sizes, ResourceVector())

    def leased_since(
        self, since: datetime, *, capacity_id: str | None = None
    ) -> Sequence[Allocation]:
        """Returns leases that are held, or ended after that moment, newest award first."""
        with self._turn:
            return moves.newest_first(
                row
                for row in self._rows.values()
                if row.leased_at is not None
                and (row.state in HOLDING or (row.ended_at is not None and row.ended_at > since))
                and capacity_id in (None, row.capacity_id)
            )

    def buy(self, purchase: Purchase, *, capacity: ResourceVector) -> Purchase | Refusal:
        """Writes a purchase if its capacity has room; see Ledger."""
        moves.check_aware("buy: started_at", purchase.started_at)
        with self._turn:
            row = self._purchases.get(purchase.purchase_id)
            if row is not None:
                return row
            held = self.held(purchase.capacity_id)
            refused = moves.refusal(purchase.capacity_id, purchase.size, held, capacity)
            if refused is not None:
                return refused
            self._purchases[purchase.purchase_id] = purchase
            return purchase

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
            row = self._purchases.get(purchase_id)
            if row is None or row.state not in OPEN:
                return None
            row = replace(
                row,
                holder=row.holder if holder is None else holder,
                expires_at=expires_at or row.expires_at,
                ready_at=ready_at or row.ready_at,
                state=PurchaseState.READY if ready_at else row.state,
            )
            self._purchases[purchase_id] = row
            return row

    def take_purchase(self, purchase_id: str, *, run_id: str, now: datetime) -> Purchase | None:
        """An open purchase becomes TAKEN by one run; see Ledger."""
        with self._turn:
            taken = moves.taken_purchase(self._purchases.get(purchase_id), run_id, now)
            if taken is not None:
                self._purchases[purchase_id] = taken
            return taken

    def let_go(
        self, purchase_id: str, *, outcome: str, now: datetime, run_id: str = ""
    ) -> Purchase | None:
        """Lets an unused purchase go; see Ledger."""
        with self._turn:
            row = moves.let_go_purchase(self._purchases.get(purchase_id), run_id, outcome, now)
            if row is not None:
                self._purchases[purchase_id] = row
            return row

    def purchases(
        self,
        *,
        states: Iterable[PurchaseState] | None = None,
        run_id: str | None = None,
        limit: int | None = None,
    ) -> Sequence[Purchase]:
        """Returns purchases, newest first."""
        wanted = frozenset(PurchaseState if states is None else states)
        with self._turn:
            found = [
                each
                for each in self._purchases.values()
                if each.state in wanted and run_id in (None, each.run_id)
            ]
        found.sort(key=lambda each: (each.started_at, each.purchase_id), reverse=True)
        return found if limit is None else found[: max(0, limit)]

    def note_tender(self, tender: Tender) -> None:
        """Writes a run's account and what it waits for."""
        moves.check_aware("note_tender: noted_at", tender.noted_at)
        with self._turn:
            self._tenders[tender.run_id] = tender

    def tenders(self) -> Sequence[Tender]:
        """Returns every run's tender, by run_id."""
        with self._turn:
            return [self._tenders[run_id] for run_id in sorted(self._tenders)]

    def forget_tenders(self, *, before: datetime) -> int:
        """Deletes those noted before that; returns how many."""
        with self._turn:
            old = [t.run_id for t in self._tenders.values() if t.noted_at < before]
            for run_id in old:
                del self._tenders[run_id]
            return len(old)

    def history(
        self, identities: Iterable[StepIdentity], *, limit: int = 50
    ) -> Mapping[StepIdentity, Sequence[Usage]]:
        """Returns the newest attempts of each identity, newest first."""
        wanted = set(identities)
        found: dict[StepIdentity, list[Usage]] = {}
        for usage in self.usages():
            if usage.identity in wanted and len(found.get(usage.identity, ())) < limit:
                found.setdefault(usage.identity, []).append(usage)
        return found

    def relatives(
        self, identities: Iterable[StepIdentity], *, limit: int = 60
    ) -> Mapping[StepIdentity, Sequence[Usage]]:
        """Returns the newest attempts of each step whatever their partition, newest first."""
        wanted = {replace(identity, partition="") for identity in identities}
        found: dict[StepIdentity, list[Usage]] = {}
        for usage in self.usages():
            step = replace(usage.identity, partition="")
            if step in wanted and len(found.get(step, ())) < limit:
                found.setdefault(step, []).append(usage)
        return found

    def usages(
        self,
        *,
        run_id: str | None = None,
        code_location: str | None = None,
        limit: int | None = None,
    ) -> Sequence[Usage]:
        """Returns usage rows, newest first."""
        with self._turn:
            found = [
                (u.ended_at, k, u)
                for k, u in self._usages.items()
                if run_id in (None, k[0]) and code_location in (None, u.identity.code_location)
            ]
        found.sort(key=lambda each: each[:2], reverse=True)
        newest = [usage for _, _, usage in found]
        return newest if limit is None else newest[: max(0, limit)]

    def delivered(self, *, limit: int = 200) -> Mapping[str, Sequence[int]]:
        """Returns per resource_id the newest known delivered_millis, newest first."""
        found: dict[str, list[int]] = {}
        for usage in self.usages():
            share = usage.measurement.delivered_millis
            if share is not None and len(found.get(usage.resource_id, ())) < limit:
                found.setdefault(usage.resource_id, []).append(share)
        return found

    def keep_usages(self, usages: Iterable[Usage]) -> int:
        """Writes attempts that no lease was behind; returns how many are new."""
        with self._turn:
            new = {(u.run_id, u.step_key, u.attempt): u for u in usages}
            new = {key: usage for key, usage in new.items() if key not in self._usages}
            self._usages.update(new)
            return len(new)

    def keep_curve(
        self, key: AllocationKey, identity: StepIdentity, curve: UsageCurve, *, ended_at: datetime
    ) -> None:
        """Writes what an attempt used over time."""
        moves.check_aware("keep_curve: ended_at", ended_at)
        with self._turn:
            self._curves[key] = (ended_at, identity, curve)

    def curves(
        self, identity: StepIdentity, *, limit: int = 20, ended_well: bool = False
    ) -> Sequence[UsageCurve]:
        """Returns the newest curves of a step, newest first: of all, or of good ends alone."""
        with self._turn:
            good = {key for key, usage in self._usages.items() if usage.ending is Ending.OK}
            rows = [
                (at, k, c)
                for k, (at, who, c) in self._curves.items()
                if who == identity and (k in good or not ended_well)
            ]
        rows.sort(key=lambda row: row[:2], reverse=True)
        return [curve for _, _, curve in rows][: max(0, limit)]

    def publish(self, publications: Iterable[Publication]) -> None:
        """Writes forecasts over what was published before; all or none."""
        rows = [
            replace(each, state=json.loads(report_text(str(each.identity), each.state)))
            for each in publications
        ]
        with self._turn:
            self._published.update((row.identity, row) for row in rows)

    def published(
        self, identities: Iterable[StepIdentity] | None = None
    ) -> Mapping[StepIdentity, Publication]:
        """Returns what is published for these steps, or everything."""
        with self._turn:
            wanted = set(self._published if identities is None else identities)
            return {who: row for who, row in self._published.items() if who in wanted}

    def withdraw(self, identities: Iterable[StepIdentity]) -> int:
        """Deletes what is published for these steps; returns how many rows."""
        with self._turn:
            gone = [who for who in set(identities) if self._published.pop(who, None) is not None]
            return len(gone)

    def hold_run(self, run_id: str, holder: str, *, expires_at: datetime) -> None:
        """Writes or extends a run's lease."""
        with self._turn:
            before = self._runs.get(run_id)
            self._runs[run_id] = moves.held_run(before, run_id, holder, expires_at)

    def end_run(self, run_id: str, *, now: datetime) -> None:
        """Notes that the run worker ended in order."""
        with self._turn:
            run = self._runs.get(run_id)
            if run is not None and run.ended_at is None:
                self._runs[run_id] = replace(run, ended_at=now)

    def run_lease(self, run_id: str) -> RunLease | None:
        """Returns a run's lease, or None."""
        with self._turn:
            return self._runs.get(run_id)

    def live_runs(self) -> Sequence[RunLease]:
        """Returns run leases that have not ended."""
        with self._turn:
            live = [run for run in self._runs.values() if run.ended_at is None]
        return sorted(live, key=lambda run: (run.expires_at, run.run_id))

    def close(self) -> None:
        """Does nothing: there is nothing to free."""

    def _standing(self, capacity_id: str) -> list[Purchase]:
        return [
            each
            for each in self._purchases.values()
            if each.state in STANDING and each.capacity_id == capacity_id
        ]

    def _of(self, run_id: str | None, states: Iterable[AllocationState]) -> list[Allocation]:
        """Returns rows in these states, newest award first."""
        wanted = frozenset(states)
        rows = self._rows.values()
        return moves.newest_first(
            row for row in rows if row.state in wanted and run_id in (None, row.run_id)
        )

    def _end(self, row: Allocation, state: AllocationState, at: datetime | None) -> Allocation:
        ended = replace(row, state=state, ended_at=at)
        self._rows[row.key] = ended
        return ended
