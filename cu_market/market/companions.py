"""Where the steps of a run that are kept together are, as the ledger tells.

A step has begun where it is leased, runs, or has ended well: what it wrote is there. It pins all of
its name that follow: retries, mapped steps as they come, what is auctioned again. An attempt that
failed, or under which nothing started, pins nothing. Awards that only stand pin nothing either,
where all of them are planned; where some are, these keep with the others.

Allocations say no location: it is read from the report of the auction that gave the award, since
the CU may be gone by now and its provider with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cu_market.domain.allocation import HOLDING, Allocation, AllocationState
from cu_market.domain.outline import template_key
from cu_market.domain.request import Kept, ResourceRequest
from cu_market.domain.usage import Ending
from cu_market.ledger.interface import Ledger

MOST_AUCTIONS = 10_000
"""Of one run that are read: one at its launch, and one for each step that was auctioned again."""


@dataclass(slots=True)
class Companions:
    """One run's steps that are kept together. What reports say is read once.

    Args:
        ledger: where its awards and leases are.
        run_id: the run.
    """

    ledger: Ledger
    run_id: str
    _told: dict[str, Mapping[str, tuple[str, str]]] = field(default_factory=dict)

    def begun(self) -> dict[str, Kept]:
        """Returns where the steps of each name have begun; names of which none has are left out."""
        rows = self.ledger.allocations(run_id=self.run_id)
        return self._places(self._begun(rows))

    def places(self, planned: Collection[str]) -> dict[str, Kept]:
        """Returns where steps of each name are to be planned: where others have begun, else where
        those awards stand that are not planned with them.

        Args:
            planned: step keys of what is planned.
        """
        rows = self.ledger.allocations(run_id=self.run_id)
        stand = [
            row
            for row in rows
            if row.state is AllocationState.AWARDED and row.step_key not in planned
        ]
        return self._places(stand) | self._places(self._begun(rows))

    def _begun(self, rows: Sequence[Allocation]) -> list[Allocation]:
        settled = any(row.state is AllocationState.SETTLED for row in rows)
        usages = self.ledger.usages(run_id=self.run_id) if settled else ()
        ended_well = {(each.step_key, each.attempt) for each in usages if each.ending is Ending.OK}
        return [
            row for row in rows if row.state in HOLDING or (row.step_key, row.attempt) in ended_well
        ]

    def _places(self, rows: Iterable[Allocation]) -> dict[str, Kept]:
        """Returns the location of the newest row of each name, and whose rows are there."""
        there: dict[str, dict[str, list[Allocation]]] = defaultdict(lambda: defaultdict(list))
        for row in rows:
            told = self._group(row)
            if told is not None:
                name, location = told
                there[name][location].append(row)
        found = {}
        for name, by_location in there.items():
            location = max(by_location, key=lambda at: max(_age(row) for row in by_location[at]))
            steps = sorted({row.step_key for row in by_location[location]})
            found[name] = Kept(location=location, by=tuple(steps))
        return found

    def _group(self, row: Allocation) -> tuple[str, str] | None:
        """Returns the name and the location of an award, as its auction told them."""
        if row.auction_id not in self._told:
            for auction in self.ledger.auctions(self.run_id, limit=MOST_AUCTIONS):
                if auction.auction_id not in self._told:
                    self._told[auction.auction_id] = _groups(auction.report)
            self._told.setdefault(row.auction_id, {})
        told = self._told[row.auction_id]
        return told.get(row.step_key) or told.get(template_key(row.step_key))


def kept_in_place(
    ledger: Ledger, run_id: str, requests: tuple[ResourceRequest, ...]
) -> tuple[ResourceRequest, ...]:
    """Returns a run's requests, those that are kept together with where the rest of them is.

    Args:
        ledger: where the run's awards and leases are.
        run_id: the run.
        requests: what is planned of it; ids are step keys.
    """
    if not any(request.together for request in requests):
        return requests
    planned = {request.request_id for request in requests}
    places = Companions(ledger, run_id).places(planned)
    return tuple(replace(each, kept=places.get(each.together)) for each in requests)


def _groups(report: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Returns the name and the location of each step that was awarded and is kept together."""
    return {
        step["step"]: (step["together"], step["winner"]["location"])
        for step in report.get("steps", ())
        if step.get("together") and (step["winner"] or {}).get("location") is not None
    }


def _age(row: Allocation) -> tuple[int, str, int]:
    return row.fencing_token, row.step_key, row.attempt
