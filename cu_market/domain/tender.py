"""What a run waits for, and whose run it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from cu_market.domain.resources import ResourceVector


@dataclass(frozen=True, slots=True, kw_only=True)
class Tender:
    """One run's standing demand: renewed while it waits, so that an old one counts for nothing.

    Attributes:
        run_id: the run.
        account: who pays; ``default`` where nobody was named.
        capacity_id: where its first waiting step would go; empty while nothing waits.
        size: what that step would take.
        priority: of the run, among those of its account; larger first.
        noted_at: aware UTC.
    """

    run_id: str
    account: str
    capacity_id: str = ""
    size: ResourceVector = field(default_factory=ResourceVector)
    priority: int = 0
    noted_at: datetime
