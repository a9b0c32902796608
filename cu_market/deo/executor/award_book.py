"""A run's awards as they stand: under which terms each step's next attempt is leased, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.auction import Auction
from cu_market.domain.outline import template_key
from cu_market.ledger.interface import Ledger
from cu_market.market.report import step_report
from cu_market.market.together.retender import TOGETHER


class AwardBook:
    """One run's awards.

    Args:
        ledger: where others' auctions may move them.
        run_id: the run.
        awards: by step key, as the launcher or the executor's own auction gave them.
        auction: the auction that told them.

    Attributes:
        attempts: by step key, how many ledger attempts are used up.
        moves_made: by step key, how often its award was moved of free will.
    """

    def __init__(
        self, ledger: Ledger, run_id: str, awards: Mapping[str, Allocation], auction: Auction
    ) -> None:
        self._ledger = ledger
        self._run_id = run_id
        self._awards = dict(awards)
        self._reports: dict[str, Mapping[str, Any]] = {
            step["step"]: step for step in auction.report["steps"]
        }
        self._known = {auction.auction_id}
        # An award that was moved before this run worker began has an attempt beyond the first.
        self.attempts: dict[str, int] = defaultdict(
            int, {key: award.attempt - 1 for key, award in awards.items()}
        )
        self.moves_made: dict[str, int] = defaultdict(int)

    def __contains__(self, step_key: str) -> bool:
        return step_key in self._awards

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps that have an award of their own."""
        return tuple(self._awards)

    def count_past_attempts(self) -> list[Allocation]:
        """Counts on from what the ledger has of this run: a key is leased once.

        Returns:
            the run's leases so far.
        """
        rows = self._ledger.allocations(run_id=self._run_id)
        for row in rows:
            award = self._awards.get(row.step_key)
            if award is None or award.key != row.key:
                self.attempts[row.step_key] = max(self.attempts[row.step_key], row.attempt)
        return [row for row in rows if row.leased_at is not None]

    def award(self, step_key: str) -> Allocation:
        """Returns the award under which the step's next attempt would be leased."""
        own = self._awards.get(step_key)
        award = own if own is not None else self._awards[template_key(step_key)]
        attempt = self.attempts[step_key] + 1
        if award.step_key == step_key and award.attempt == attempt:
            return award
        return replace(award, step_key=step_key, attempt=attempt, state=AllocationState.AWARDED)

    def report(self, step_key: str) -> Mapping[str, Any]:
        """Returns what the auction said of the step."""
        found = self._reports.get(step_key)
        return found if found is not None else self._reports[template_key(step_key)]

    def location(self, step_key: str) -> str | None:
        """Returns where the step's award is, as its auction told, or None."""
        winner = self.report(step_key).get("winner") or {}
        if winner.get("resource_id") != self.award(step_key).resource_id:
            return None  # moved meanwhile by an auction that is not taken over yet
        location: str | None = winner.get("location")
        return location

    def next_attempt(self, step_key: str) -> int:
        """Returns the attempt of a new award: the key of the one that stands is its auction's."""
        own, attempt = self._awards.get(step_key), self.attempts[step_key] + 1
        return attempt + 1 if own is not None and own.attempt == attempt else attempt

    def adopt(self, row: Allocation, auction: Auction) -> None:
        """Takes over an award that an auction has given."""
        self._awards[row.step_key] = row
        self.attempts[row.step_key] = row.attempt - 1
        self._known.add(auction.auction_id)
        report = step_report(auction.report, row.step_key)
        if report is not None:
            self._reports[row.step_key] = report

    def take_over(self) -> list[Auction]:
        """Takes over what other runs' auctions have moved; returns those auctions, oldest first."""
        rows = self._ledger.allocations(run_id=self._run_id, states=[AllocationState.AWARDED])
        new = [
            row
            for row in rows
            if row.auction_id not in self._known
            and row.step_key in self._awards
            and row.attempt > self.attempts[row.step_key]
        ]
        if not new:
            return []
        wanted = {row.auction_id for row in new}
        held = {a.auction_id: a for a in self._ledger.auctions(self._run_id)}
        held = {auction_id: held[auction_id] for auction_id in wanted & held.keys()}
        for row in new:
            if row.auction_id not in held:
                continue
            self.adopt(row, held[row.auction_id])
            moved = self.report(row.step_key).get("moved") or {}
            made = max(self.moves_made[row.step_key], moved.get("moves", 0))
            self.moves_made[row.step_key] = made
        moved_by = (auction for auction in held.values() if auction.place == TOGETHER)
        return sorted(moved_by, key=lambda auction: auction.held_at)

    def end_template(self, step_key: str, now: datetime) -> None:
        """Gives up the award that stood for all mapped steps once the first of them is leased: the
        others are leased under its terms as they come, and nobody is to plan with it any more."""
        template = template_key(step_key)
        if template != step_key and template in self._awards:
            self._ledger.release(self._awards[template].key, now=now)
