"""The record of one auction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Auction:
    """One auction's record.

    Attributes:
        auction_id: unique.
        run_id: whose steps were auctioned.
        held_at: aware UTC.
        mode: ``market``, ``recommend`` or ``unit`` (a run priced as one).
        place: who held it: ``launcher``, ``executor``, ``renegotiation``, or ``together``, the
            auction of another run.
        report: JSON-ready; requests, bids, awards, losses, solver, bound, gap.
    """

    auction_id: str
    run_id: str
    held_at: datetime
    mode: str
    place: str
    report: Mapping[str, Any] = field(default_factory=dict)
