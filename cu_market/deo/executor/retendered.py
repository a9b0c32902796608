"""Awards that another run's auction has moved: taken over, told on the run page, waited by.

The ledger is asked once a second, and at once when a lease is refused because its award was moved:
an award that was superseded can never be leased. A step that was moved in time gives way to the
steps that go first: until they are leased or given up, and no longer than its own planned start and
a little more.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from dagster import DagsterEvent

from cu_market.dagster_compat.events import EngineEventData
from cu_market.deo.announcements import MAX_ROWS, table
from cu_market.deo.executor.negotiation import Negotiation
from cu_market.domain.allocation import AllocationKey, AllocationState
from cu_market.domain.auction import Auction

LOOK_SECONDS = 1.0
"""How often the ledger is asked whether awards were moved."""

YIELD_SECONDS = 0.5
"""How often it is asked whether those that go first have gone."""


class Retendered:
    """What of a run's awards others' auctions have moved.

    Args:
        negotiation: the run's dealings with the market.
        context: of the run's events.
    """

    def __init__(self, negotiation: Negotiation, context: Any) -> None:
        self._negotiation = negotiation
        self._context = context
        self._looked_at = float("-inf")
        self._waits: dict[str, tuple[float, bool]] = {}

    def take_over(self, *, at_once: bool = False) -> Iterator[DagsterEvent]:
        """Takes over awards that were moved, and tells each auction that has moved some."""
        if not at_once and time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        for auction in self._negotiation.take_over():
            sentence, data = moved_event(auction)
            yield DagsterEvent.engine_event(self._context, sentence, data)

    def gives_way(self, step_key: str) -> bool:
        """Whether a step is not to be leased yet: others were planned before it on its capacity."""
        moved = self._negotiation.report(step_key).get("moved") or {}
        if not moved.get("gives_way_to"):
            return False
        if self._negotiation.market.now() >= datetime.fromisoformat(moved["until"]):
            return False
        known = self._waits.get(step_key)
        if known is None or time.monotonic() - known[0] > YIELD_SECONDS:
            keys = [(run_id, key, attempt) for run_id, key, attempt in moved["gives_way_to"]]
            known = (time.monotonic(), any(self._is_coming(key) for key in keys))
            self._waits[step_key] = known
        return known[1]

    def _is_coming(self, key: AllocationKey) -> bool:
        """Whether an award is still to be leased, or to be written: the auction that moves awards
        of others writes those of its own run a moment later."""
        row = self._negotiation.market.ledger.allocation(key)
        return row is None or row.state is AllocationState.AWARDED


def moved_event(auction: Auction) -> tuple[str, EngineEventData]:
    """Returns the sentence and the table that tell what was moved for another run, and why."""
    steps: list[Mapping[str, Any]] = [s for s in auction.report["steps"] if s.get("moved")]
    first = steps[0]["moved"]
    told = "; ".join(step["moved"]["sentence"] for step in steps[:MAX_ROWS])
    rows = [
        {"step": step["step"], "what": step["moved"]["sentence"], "why": step["moved"]["why"]}
        for step in steps[:MAX_ROWS]
    ]
    return (
        f"Cleared together with run {first['by_run']} ({first['by_job']}): {told}. Why: "
        f"{first['why']}.",
        EngineEventData(metadata={"cu/moves": table(rows)}),
    )
