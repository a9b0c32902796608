"""An award of a CU to a step's attempt, and the states it may pass through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cu_market.domain.problem import CUMarketError, require
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import MS_PER_HOUR, divide_half_even

_MICROSECOND = timedelta(microseconds=1)

AllocationKey = tuple[str, str, int]
"""(run_id, step_key, attempt)."""


class AllocationState(StrEnum):
    """Where an allocation stands. Only LEASED and ACCEPTED hold capacity."""

    AWARDED = "AWARDED"
    LEASED = "LEASED"
    ACCEPTED = "ACCEPTED"
    SETTLED = "SETTLED"
    RELEASED = "RELEASED"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"


TRANSITIONS: Mapping[AllocationState, frozenset[AllocationState]] = {
    AllocationState.AWARDED: frozenset(
        {AllocationState.LEASED, AllocationState.RELEASED, AllocationState.REVOKED}
    ),
    AllocationState.LEASED: frozenset(
        {
            AllocationState.ACCEPTED,
            AllocationState.SETTLED,
            AllocationState.RELEASED,
            AllocationState.EXPIRED,
            AllocationState.REVOKED,
        }
    ),
    AllocationState.ACCEPTED: frozenset(
        {AllocationState.SETTLED, AllocationState.EXPIRED, AllocationState.REVOKED}
    ),
    # A lease that ended without its step's word is still billed for the time it was held.
    AllocationState.EXPIRED: frozenset({AllocationState.SETTLED}),
    AllocationState.REVOKED: frozenset({AllocationState.SETTLED}),
    AllocationState.SETTLED: frozenset(),
    AllocationState.RELEASED: frozenset(),
}

HOLDING = frozenset({AllocationState.LEASED, AllocationState.ACCEPTED})
"""States that hold capacity."""

FINAL = frozenset({AllocationState.SETTLED, AllocationState.RELEASED})
"""States that nothing leaves."""


class IllegalTransitionError(CUMarketError):
    """An allocation was asked to move where the table has no arrow."""


def check_transition(current: AllocationState, wanted: AllocationState) -> None:
    """Raises IllegalTransitionError unless the table has the arrow."""
    if wanted not in TRANSITIONS[current]:
        allowed = ", ".join(sorted(TRANSITIONS[current])) or "nothing: it is final"
        raise IllegalTransitionError(
            f"allocation state {current} cannot become {wanted}; from {current}: {allowed}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """One attempt's award: one row per (run_id, step_key, attempt) in the ledger.

    Attributes:
        run_id: Dagster's run.
        step_key: Dagster's step.
        attempt: the ledger's attempt, from 1; infrastructure attempts count here and only here.
        state: see TRANSITIONS.
        auction_id: which auction awarded it.
        bid_id: the winning bid.
        provider: who runs it.
        resource_id: the CU: the winning profile's cu_id.
        capacity_id: the capacity that its size is taken from while it is held.
        size: what it holds; may have grown in place.
        price_microusd_per_hour: agreed price of that size.
        expected_ms: expected time there.
        fencing_token: grows with every lease; 0 while only awarded.
        awarded_at, leased_at, accepted_at, ended_at: aware UTC, or None.
        lease_expires_at: aware UTC; the holder renews it, or None.
        cost_microusd: set once, at settlement.
        minimum_ms: a lease under which something started is billed for at least so long.
        accrued_microusd: what it had cost until it last grew, at its prices until then.
        priced_since: since when it has its present price; None: since it was leased.
        egress_microusd: what bringing its step's inputs there was expected to cost at the award. It
            is on the bill for traffic of whoever holds them, and no part of cost_microusd.
        unstarted_at: aware UTC when its CU, which had taken the lease, was found to start nothing
            under it, or None: a promise broken, at no cost.
        valid_until: aware UTC, when the offer ends that was awarded: it is leased before, or not at
            all. None: it has no end.
        holder: who holds the lease, as the provider names it (``host/pid/start``).
    """

    run_id: str
    step_key: str
    attempt: int
    state: AllocationState
    auction_id: str
    bid_id: str
    provider: str
    resource_id: str
    capacity_id: str
    size: ResourceVector
    price_microusd_per_hour: int
    expected_ms: int
    fencing_token: int = 0
    awarded_at: datetime
    leased_at: datetime | None = None
    lease_expires_at: datetime | None = None
    accepted_at: datetime | None = None
    ended_at: datetime | None = None
    cost_microusd: int | None = None
    holder: str = ""
    minimum_ms: int = 0
    accrued_microusd: int = 0
    priced_since: datetime | None = None
    egress_microusd: int = 0
    unstarted_at: datetime | None = None
    valid_until: datetime | None = None

    def __post_init__(self) -> None:
        require(self.attempt >= 1, "Allocation.attempt", self.attempt, "below 1", "count from 1")

    @property
    def key(self) -> AllocationKey:
        """What the ledger knows it by."""
        return (self.run_id, self.step_key, self.attempt)

    def cost_until(self, end: datetime) -> int:
        """Returns micro-dollars from its lease to a moment: price x time, rounded half-even once
        for each price that it has had.

        At least the agreed minimum is billed where a step was started. A clock that was set back
        makes no negative bill.
        """
        if self.leased_at is None:
            return 0
        since = self.priced_since or self.leased_at
        least_us = 1000 * self.minimum_ms if self.accepted_at is not None else 0
        least_us -= (since - self.leased_at) // _MICROSECOND
        held_us = max(least_us, (end - since) // _MICROSECOND, 0)
        price = self.price_microusd_per_hour
        return self.accrued_microusd + divide_half_even(price * held_us, MS_PER_HOUR * 1000)

    @property
    def egress_due_microusd(self) -> int:
        """What its step's inputs cost to be brought there: nothing where none was or will be."""
        is_read = self.state in HOLDING or self.accepted_at is not None
        return self.egress_microusd if is_read else 0

    @property
    def duration_seconds(self) -> float | None:
        """Seconds from lease to end, or None while it is not over."""
        if self.leased_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.leased_at).total_seconds()

    def to_record(self) -> dict[str, object]:
        """Returns the allocation under the mission's names, ready for JSON or a table."""
        return {
            "resource_id": self.resource_id,
            "provider": self.provider,
            "duration": self.duration_seconds,
            "run_id": self.run_id,
            "step": self.step_key,
            "attempt": self.attempt,
            "state": str(self.state),
            "fencing_token": self.fencing_token,
            "cpu_cores": self.size.cpu_millis / 1000,
            "memory_gb": self.size.memory_bytes / 10**9,
            "price_per_hour": self.price_microusd_per_hour / 10**6,
            "cost_usd": None if self.cost_microusd is None else self.cost_microusd / 10**6,
        }
