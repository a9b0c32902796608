"""Why a lease was not given, and the sign of life that a run worker's leases go with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cu_market.domain.resources import ResourceVector


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A lease was not given: not an error, the pool was full, or the offer had ended.

    Attributes:
        capacity_id: whose room is missing.
        short_of: dimensions that would be exceeded; empty where there is room, but not for this.
        free: what is left now.
        reason: why there is none for this, in words; empty where room is missing.
        is_for_money: a budget or a ceiling is in the way, which no lease that ends will change.
        is_expired: the offer that was awarded has ended: only another auction helps.
    """

    capacity_id: str
    short_of: tuple[str, ...]
    free: ResourceVector
    reason: str = ""
    is_for_money: bool = False
    is_expired: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLease:
    """A run worker's sign of life.

    Attributes:
        run_id: the run.
        holder: the run worker's process as ``host/pid/start time``.
        expires_at: aware UTC.
        ended_at: aware UTC when the run worker said goodbye, else None.
    """

    run_id: str
    holder: str
    expires_at: datetime
    ended_at: datetime | None = None
