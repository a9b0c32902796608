"""A CU that a run rents whole and shares between its steps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from cu_market.domain.allocation import FINAL, Allocation, AllocationState
from cu_market.domain.bid import Bid, Rates
from cu_market.domain.profile import CUProfile
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GB, MILLIS, MS_PER_HOUR, divide_half_even

_MICROSECOND = timedelta(microseconds=1)
_MILLISECOND = timedelta(milliseconds=1)


class RentalState(StrEnum):
    """Where a rental stands. Only OPEN holds room of its provider's capacity."""

    PLANNED = "PLANNED"
    OPEN = "OPEN"
    CLOSED = "CLOSED"
    DROPPED = "DROPPED"


STANDING_RENTALS = frozenset({RentalState.PLANNED, RentalState.OPEN})
"""States in which steps may be leased on it, or will be."""

NUMBER = "#"
"""Between a CU's name and the number of a rental of it: ``aws/us-east-1/m6i.large#2``."""


def rented_name(cu_id: str, number: int) -> str:
    """Returns what a run's rental of a CU is called."""
    return f"{cu_id}{NUMBER}{number}"


def offered_name(resource_id: str) -> str:
    """Returns the CU that a resource is, or is a rental of."""
    name, mark, number = resource_id.rpartition(NUMBER)
    return name if mark and number.isdigit() else resource_id


def is_share(allocation: Allocation) -> bool:
    """Whether an allocation is a share of a CU that its run rents whole."""
    return offered_name(allocation.resource_id) != allocation.resource_id


def as_offered(allocation: Allocation) -> Allocation:
    """Returns an allocation as its provider knows it: under the CU that it has offered."""
    name = offered_name(allocation.resource_id)
    return allocation if name == allocation.resource_id else replace(allocation, resource_id=name)


def share_rates(size: ResourceVector, price_microusd_per_hour: int) -> Rates:
    """Returns what steps pay for parts of a CU that is rented at that price.

    Each dimension that the CU has bears an equal part of the price, rounded down: steps that fill
    it pay its price together, and never more.
    """
    dimensions = 3 if size.gpu_count else 2
    part = price_microusd_per_hour // dimensions
    return Rates(
        core_microusd_per_hour=part * MILLIS // size.cpu_millis,
        gb_microusd_per_hour=part * GB // size.memory_bytes,
        gpu_microusd_per_hour=part // size.gpu_count if size.gpu_count else 0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rental:
    """One CU that one run has whole: one row in the ledger.

    It is a capacity of its own, from which the run's steps lease their sizes. Each pays its share
    of the price (``share_rates``); the run pays what is left of the bill.

    Attributes:
        rental_id: unique in a ledger; the capacity_id of what is leased on it.
        run_id: whose it is.
        state: see RentalState.
        auction_id: which auction planned it.
        bid_id: the bid that it is rented under.
        profile: the CU, under its own cu_id (``rented_name``) and capacity_id; its performance as
            it was measured at the auction.
        capacity_id: the provider's capacity, from which its whole size is taken while it is open.
        price_microusd_per_hour: of the whole CU.
        minimum_ms: it is billed for at least so long.
        expected_ms: from its opening to its last step's planned end.
        planned_at: aware UTC, of the auction.
        opens_at: aware UTC; it is opened no sooner: its first step's planned start less the CU's
            start-up.
        valid_until: aware UTC, when the offer ends; it is opened before, or not at all. Or None.
        opened_at, closed_at: aware UTC, or None. It is closed at its last lease's end.
        cost_microusd: the whole bill, once it is closed.
        rest_microusd: what of that its leases have not paid, once it is closed.
    """

    rental_id: str
    run_id: str
    state: RentalState = RentalState.PLANNED
    auction_id: str
    bid_id: str
    profile: CUProfile
    capacity_id: str
    price_microusd_per_hour: int
    minimum_ms: int = 0
    expected_ms: int
    planned_at: datetime
    opens_at: datetime
    valid_until: datetime | None = None
    opened_at: datetime | None = None
    closed_at: datetime | None = None
    cost_microusd: int | None = None
    rest_microusd: int | None = None

    @property
    def resource_id(self) -> str:
        """Its name."""
        return self.profile.cu_id

    @property
    def size(self) -> ResourceVector:
        """All of the CU."""
        return self.profile.size

    def bid(self) -> Bid:
        """Returns it as an offer to the run that has it: any size, paid by its share."""
        return Bid(
            bid_id=self.rental_id,
            profile=replace(self.profile, startup_ms=0),
            price_microusd_per_hour=self.price_microusd_per_hour,
            performance_millis=self.profile.performance_millis,
            rates=share_rates(self.size, self.price_microusd_per_hour),
            run_id=self.run_id,
        )

    def whole(self) -> Allocation:
        """Returns what it takes of its provider's capacity, as if a step without a name had it."""
        states = {
            RentalState.PLANNED: AllocationState.AWARDED,
            RentalState.OPEN: AllocationState.ACCEPTED,
            RentalState.CLOSED: AllocationState.SETTLED,
            RentalState.DROPPED: AllocationState.RELEASED,
        }
        return Allocation(
            run_id=self.run_id,
            step_key="",
            attempt=1,
            state=states[self.state],
            auction_id=self.auction_id,
            bid_id=self.bid_id,
            provider=self.profile.provider,
            resource_id=self.resource_id,
            capacity_id=self.capacity_id,
            size=self.size,
            price_microusd_per_hour=self.price_microusd_per_hour,
            expected_ms=self.expected_ms,
            minimum_ms=self.minimum_ms,
            awarded_at=self.planned_at,
            leased_at=self.opened_at,
            ended_at=self.closed_at,
            cost_microusd=self.cost_microusd,
            valid_until=self.valid_until,
        )

    def ready_ms(self, now: datetime) -> int:
        """Returns in how many milliseconds a step can start on it, if it is opened when it is due;
        0 where it has been open for as long as the CU takes to start."""
        began = self.opened_at if self.opened_at is not None else max(now, self.opens_at)
        ready = began + self.profile.startup_ms * _MILLISECOND
        return max(0, -((now - ready) // _MILLISECOND))

    def left_ms(self, now: datetime) -> int:
        """Returns in how many milliseconds one that is to be opened is expected to be closed."""
        opens_at = max(now, self.opens_at)
        return self.expected_ms + (opens_at - now) // _MILLISECOND

    def bill_microusd(self, held_us: int) -> int:
        """Returns the bill of so many microseconds, the least time counted, rounded half-even
        once."""
        billed_us = max(held_us, 1000 * self.minimum_ms)
        return divide_half_even(self.price_microusd_per_hour * billed_us, MS_PER_HOUR * 1000)

    def foreseen_microusd(self, now: datetime) -> int:
        """Returns the whole bill as it is expected now; the bill itself once it is closed."""
        if self.cost_microusd is not None:
            return self.cost_microusd
        if self.state is RentalState.DROPPED:
            return 0
        held_us = 0 if self.opened_at is None else (now - self.opened_at) // _MICROSECOND
        return self.bill_microusd(max(held_us, 1000 * self.expected_ms))

    def rest_foreseen_microusd(self, paid_microusd: int, now: datetime) -> int:
        """Returns what its leases leave of its bill, as it is expected now.

        Args:
            paid_microusd: what they have paid and will.
            now: the present.
        """
        if self.rest_microusd is not None:
            return self.rest_microusd
        return max(0, self.foreseen_microusd(now) - paid_microusd)

    def closed(self, leases: Iterable[Allocation], now: datetime) -> Rental | None:
        """Returns it closed, or dropped where it was never opened; None while a step is leased on
        it, is to be, or has not been settled.

        Its bill goes to its last lease's end; one that stood by until now for nothing, to now.

        Args:
            leases: all rows of its capacity.
            now: the present.
        """
        rows = list(leases)
        if self.state not in STANDING_RENTALS or any(row.state not in FINAL for row in rows):
            return None
        if self.opened_at is None:
            return replace(self, state=RentalState.DROPPED, closed_at=now)
        settled = [row for row in rows if row.state is AllocationState.SETTLED]
        ends = [row.ended_at for row in settled if row.ended_at is not None]
        end = max([self.opened_at, *ends]) if ends else max(self.opened_at, now)
        cost = self.bill_microusd((end - self.opened_at) // _MICROSECOND)
        paid = sum(row.cost_microusd or 0 for row in settled)
        return replace(
            self,
            state=RentalState.CLOSED,
            closed_at=end,
            cost_microusd=cost,
            rest_microusd=max(0, cost - paid),
        )

    def to_record(self) -> dict[str, object]:
        """Returns the rental ready for JSON or a table."""
        moments = ("planned_at", "opens_at", "opened_at", "closed_at")
        told = {name: getattr(self, name) for name in moments}
        money = {"cost_usd": self.cost_microusd, "rest_usd": self.rest_microusd}
        return {
            "rental_id": self.rental_id,
            "run_id": self.run_id,
            "state": str(self.state),
            "provider": self.profile.provider,
            "resource_id": self.resource_id,
            "cpu_cores": self.size.cpu_millis / MILLIS,
            "memory_gb": self.size.memory_bytes / GB,
            "gpu_count": self.size.gpu_count,
            "price_per_hour": self.price_microusd_per_hour / 10**6,
            "expected_seconds": self.expected_ms / 1000,
            **{name: at and at.isoformat() for name, at in told.items()},
            **{name: None if amount is None else amount / 10**6 for name, amount in money.items()},
        }
