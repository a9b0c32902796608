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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cu_market.domain.allocation import HOLDING, Allocation, AllocationState
from cu_market.domain.outline import template_key
from cu_market.domain.request import Kept, ResourceRequest
from cu_market.domain.usage import Ending
from cu_market.ledger.interface import Ledger

READ_AUCTIONS = (8, 128, 10_000)
"""So many of a run's newest auctions are read, then more, until the wanted one is among them: what
is not known yet is mostly of the newest."""

MOST_RUNS = 64
"""Whose companions are remembered."""


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
    _settled: dict[str, Kept] = field(default_factory=dict)

    def begun(self, name: str) -> Kept | None:
        """Returns where steps of a name have begun, or None. Once one has ended well that is final,
        and read no more: a thousand steps may ask."""
        if name not in self._settled:
            return self._begun().get(name)
        return self._settled[name]

    def kept(self, requests: tuple[ResourceRequest, ...]) -> tuple[ResourceRequest, ...]:
        """Returns requests of the run, those that are kept together with where the rest is: where
        others have begun, else where those awards stand that are not planned with them.

        Args:
            requests: all that is planned of the run; ids are step keys.
        """
        if not any(request.together for request in requests):
            return requests
        planned = {request.request_id for request in requests}
        rows = self.ledger.allocations(run_id=self.run_id, states=[AllocationState.AWARDED])
        stand = self._places(row for row in rows if row.step_key not in planned)
        places = stand | self._begun()
        return tuple(replace(each, kept=places.get(each.together)) for each in requests)

    def _begun(self) -> dict[str, Kept]:
        states = [*HOLDING, AllocationState.SETTLED]
        rows = self.ledger.allocations(run_id=self.run_id, states=states)
        ended = [row for row in rows if row.state is AllocationState.SETTLED]
        usages = self.ledger.usages(run_id=self.run_id) if ended else ()
        well = {(each.step_key, each.attempt) for each in usages if each.ending is Ending.OK}
        self._settled |= self._places(row for row in ended if (row.step_key, row.attempt) in well)
        return self._places(row for row in rows if row.state in HOLDING) | self._settled

    def _places(self, rows: Iterable[Allocation]) -> dict[str, Kept]:
        """Returns the location of the oldest row of each name, and whose rows are there."""
        there: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for row in sorted(rows, key=lambda row: (row.fencing_token, row.step_key, row.attempt)):
            told = self._group(row)
            if told is not None:
                name, location = told
                there[name][location].append(row.step_key)
        found = {}
        for name, by_location in there.items():
            location, steps = next(iter(by_location.items()))
            found[name] = Kept(location=location, by=tuple(sorted(set(steps))))
        return found

    def _group(self, row: Allocation) -> tuple[str, str] | None:
        """Returns the name and the location of an award, as its auction told them."""
        for most in READ_AUCTIONS:
            if row.auction_id in self._told:
                break
            auctions = self.ledger.auctions(self.run_id, limit=most)
            for auction in auctions:
                if auction.auction_id not in self._told:
                    self._told[auction.auction_id] = _groups(auction.report)
            if len(auctions) < most:
                break
        told = self._told.setdefault(row.auction_id, {})
        return told.get(row.step_key) or told.get(template_key(row.step_key))


class RunsCompanions:
    """The companions of the runs that a market deals with: a run worker's one, a launcher's many.

    Args:
        ledger: where their awards and leases are.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._runs: dict[str, Companions] = {}

    def of(self, run_id: str) -> Companions:
        """Returns a run's companions."""
        if run_id not in self._runs and len(self._runs) >= MOST_RUNS:
            self._runs.clear()
        return self._runs.setdefault(run_id, Companions(self._ledger, run_id))


def _groups(report: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Returns the name and the location of each step that was awarded and is kept together."""
    return {
        step["step"]: (step["together"], step["winner"]["location"])
        for step in report.get("steps", ())
        if step.get("together") and (step["winner"] or {}).get("location") is not None
    }
