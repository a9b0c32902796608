"""A CU that was started ahead of the run that is to use it, and the states it may pass through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import MS_PER_HOUR, divide_half_even

_MICROSECOND = timedelta(microseconds=1)


class PurchaseState(StrEnum):
    """Where a purchase stands.

    STARTING: bought, not ready yet. READY: stands by. TAKEN: a run has it, and has leased nothing
    on it yet. USED: a run's lease has its room. LET_GO: nobody came, or it had to give way.
    """

    STARTING = "STARTING"
    READY = "READY"
    TAKEN = "TAKEN"
    USED = "USED"
    LET_GO = "LET_GO"


PURCHASE_TRANSITIONS: Mapping[PurchaseState, frozenset[PurchaseState]] = {
    PurchaseState.STARTING: frozenset(
        {PurchaseState.READY, PurchaseState.TAKEN, PurchaseState.LET_GO}
    ),
    PurchaseState.READY: frozenset({PurchaseState.TAKEN, PurchaseState.LET_GO}),
    PurchaseState.TAKEN: frozenset({PurchaseState.USED, PurchaseState.LET_GO}),
    PurchaseState.USED: frozenset(),
    PurchaseState.LET_GO: frozenset(),
}

OPEN = frozenset({PurchaseState.STARTING, PurchaseState.READY})
"""States in which any run that it fits may take it, and in which it gives way to any."""

STANDING = OPEN | {PurchaseState.TAKEN}
"""States that hold room in the capacity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """One CU bought ahead: one row in the ledger.

    Attributes:
        purchase_id: names the launch and the step that it is for: whoever plans it again finds it.
        state: see PURCHASE_TRANSITIONS.
        provider: who started it.
        resource_id: the CU, by its cu_id.
        capacity_id: the capacity that its size is taken from while it stands.
        size: what it holds.
        price_microusd_per_hour: of that size, as auctioned.
        minimum_ms: let go once it was ready, it costs what so long would.
        code_location, job, step_key: of the launch that it is for.
        source: why a launch is expected: ``schedule`` or ``queue``.
        account: who pays.
        fit: what a run's own start must be equal to, so that it can use it; see Foresighted.
        expected_at: when the launch is expected, aware UTC.
        waiting_saved_microusd: expected worth of the waiting that it saves.
        holding_microusd: expected cost of its standing by.
        reason: both in words.
        buyer: holder of the process that bought it.
        holder: its worker's, empty until it is started.
        started_at: bought; aware UTC.
        ready_at, taken_at, ended_at: aware UTC, or None.
        expires_at: from then on anybody lets it go.
        run_id: whose it is, empty while nobody has taken it.
        outcome: how it ended, in words.
        cost_microusd: of its standing, set once, when it is used or let go.
    """

    purchase_id: str
    state: PurchaseState = PurchaseState.STARTING
    provider: str
    resource_id: str
    capacity_id: str
    size: ResourceVector
    price_microusd_per_hour: int
    code_location: str
    job: str
    step_key: str
    source: str
    account: str
    fit: str
    expected_at: datetime
    waiting_saved_microusd: int
    holding_microusd: int
    reason: str
    buyer: str
    holder: str = ""
    started_at: datetime
    ready_at: datetime | None = None
    taken_at: datetime | None = None
    ended_at: datetime | None = None
    expires_at: datetime
    run_id: str = ""
    outcome: str = ""
    cost_microusd: int | None = None
    minimum_ms: int = 0

    def cost_until(self, end: datetime) -> int:
        """Returns micro-dollars from its start to a moment, rounded half-even once."""
        held_us = max(0, (end - self.started_at) // _MICROSECOND)
        return divide_half_even(self.price_microusd_per_hour * held_us, MS_PER_HOUR * 1000)

    def cost_let_go(self, end: datetime) -> int:
        """Returns micro-dollars where it is let go at that moment: its minimum, once it was ready,
        since its lease is never to come."""
        least = timedelta(milliseconds=self.minimum_ms if self.ready_at is not None else 0)
        return self.cost_until(max(end, self.started_at + least))

    @property
    def is_used(self) -> bool | None:
        """Whether a run has used it; None while that is open."""
        if self.state in STANDING:
            return None
        return self.state is PurchaseState.USED

    def to_record(self) -> dict[str, object]:
        """Returns the purchase ready for JSON or a table."""
        moments = ("expected_at", "started_at", "ready_at", "taken_at", "ended_at")
        told = {name: getattr(self, name) for name in moments}
        return {
            "purchase_id": self.purchase_id,
            "state": str(self.state),
            "used": self.is_used,
            "provider": self.provider,
            "resource_id": self.resource_id,
            "cpu_cores": self.size.cpu_millis / 1000,
            "memory_gb": self.size.memory_bytes / 10**9,
            "price_per_hour": self.price_microusd_per_hour / 10**6,
            "code_location": self.code_location,
            "job": self.job,
            "step": self.step_key,
            "source": self.source,
            "account": self.account,
            **{name: at and at.isoformat() for name, at in told.items()},
            "waiting_saved_usd": self.waiting_saved_microusd / 10**6,
            "holding_usd": self.holding_microusd / 10**6,
            "reason": self.reason,
            "run_id": self.run_id,
            "outcome": self.outcome,
            "cost_usd": None if self.cost_microusd is None else self.cost_microusd / 10**6,
        }
