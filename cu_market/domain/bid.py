"""What a provider offers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from cu_market.domain.problem import require
from cu_market.domain.profile import CUProfile
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GB, MILLIS, divide_half_even, microusd_to_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Elastic prices: a CU of any size up to the profile's, paid by what is asked.

    Attributes:
        core_microusd_per_hour: one core for an hour.
        gb_microusd_per_hour: one GB (10^9 bytes) of memory for an hour.
        gpu_microusd_per_hour: one GPU for an hour.
        minimum_ms: a lease is billed for at least so long.
        classes: the sizes that are sold, if not any; the last one holds all others. What is asked
            is rounded up to the cheapest class that holds it.
    """

    core_microusd_per_hour: int
    gb_microusd_per_hour: int
    gpu_microusd_per_hour: int = 0
    minimum_ms: int = 0
    classes: tuple[ResourceVector, ...] = ()

    def __post_init__(self) -> None:
        prices = ("core_microusd_per_hour", "gb_microusd_per_hour", "gpu_microusd_per_hour")
        for name in prices:
            value = getattr(self, name)
            require(
                isinstance(value, int) and value >= 0,
                f"Rates.{name}",
                value,
                "not a whole number of micro-dollars of at least 0",
                "give a price of at least 0",
            )

        require(
            isinstance(self.minimum_ms, int) and self.minimum_ms >= 0,
            "Rates.minimum_ms",
            self.minimum_ms,
            "not a whole number of at least 0",
            "give milliseconds",
        )
        require(
            all(isinstance(size, ResourceVector) for size in self.classes)
            and all(size.fits_in(self.classes[-1]) for size in self.classes),
            "Rates.classes",
            self.classes,
            "the last size does not hold all others",
            "list sizes from small to large, ending with one that holds all",
        )

    def to_record(self) -> dict[str, int]:
        """Returns the three rates by name, in micro-dollars an hour, exactly, and the minimum."""
        return {
            "core_microusd_per_hour": self.core_microusd_per_hour,
            "gb_microusd_per_hour": self.gb_microusd_per_hour,
            "gpu_microusd_per_hour": self.gpu_microusd_per_hour,
            "minimum_ms": self.minimum_ms,
        }

    def class_for(self, needs: ResourceVector) -> ResourceVector:
        """Returns the cheapest size that is sold and holds the needs; of equal ones the first.

        Needs beyond the last class are returned as they are: no CU holds them, which the profile
        says.
        """
        if not self.classes:
            return needs
        holding = [size for size in self.classes if needs.fits_in(size)]
        return min(holding, key=self.price_microusd_per_hour, default=needs)

    def raised(self, congestion_permille: int, used_permille: int) -> Rates:
        """Returns its prices while so much is in use: price x (1 + congestion x share).

        Args:
            congestion_permille: how much dearer when all is in use, in thousandths.
            used_permille: the share in use of what is scarcest, in thousandths.
        """
        factor = 10**6 + congestion_permille * min(1000, max(0, used_permille))

        def price(microusd: int) -> int:
            return divide_half_even(microusd * factor, 10**6)

        return replace(
            self,
            core_microusd_per_hour=price(self.core_microusd_per_hour),
            gb_microusd_per_hour=price(self.gb_microusd_per_hour),
            gpu_microusd_per_hour=price(self.gpu_microusd_per_hour),
        )

    def price_microusd_per_hour(self, size: ResourceVector) -> int:
        """Returns the price of a CU of that size, rounded half-even once."""
        return divide_half_even(
            size.cpu_millis * self.core_microusd_per_hour * (GB // MILLIS)
            + size.memory_bytes * self.gb_microusd_per_hour
            + size.gpu_count * self.gpu_microusd_per_hour * GB,
            GB,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bid:
    """A provider's offer of a CU, whole or by the asked size.

    Attributes:
        bid_id: unique in an auction.
        profile: the CU; with rates, the largest that can be cut.
        price_microusd_per_hour: of the whole profile.
        performance_millis: measured score, 1000 being the reference's speed with kept promises.
        rates: elastic prices, or None when the CU is sold whole.
        quantity: how many such CUs; elastic bids are bounded by their capacity instead.
        valid_until: the offer ends then: it is awarded and leased before, at its price; a lease
            goes on. None: it has no end.
        run_id: the run that has the CU, and that alone is offered it; empty: whoever asks.
    """

    bid_id: str
    profile: CUProfile
    price_microusd_per_hour: int
    performance_millis: int = 1000
    rates: Rates | None = None
    quantity: int = 1
    valid_until: datetime | None = None
    run_id: str = ""

    def __post_init__(self) -> None:
        where = f"Bid {self.bid_id!r}"
        require(
            isinstance(self.price_microusd_per_hour, int) and self.price_microusd_per_hour >= 0,
            f"{where}.price_microusd_per_hour",
            self.price_microusd_per_hour,
            "not a whole number of micro-dollars of at least 0",
            "offer a price of at least 0",
        )
        require(
            isinstance(self.performance_millis, int) and self.performance_millis > 0,
            f"{where}.performance_millis",
            self.performance_millis,
            "not a whole number above 0",
            "give a score above 0",
        )
        require(self.quantity >= 1, f"{where}.quantity", self.quantity, "below 1", "offer one")

    @property
    def provider(self) -> str:
        """Who offers."""
        return self.profile.provider

    @property
    def price_per_hour(self) -> Decimal:
        """Price of the whole profile in dollars an hour."""
        return microusd_to_usd(self.price_microusd_per_hour)

    @property
    def performance_score(self) -> float:
        """Speed and kept promises, 1.0 being the reference."""
        return self.performance_millis / 1000

    def size_for(self, needs: ResourceVector) -> ResourceVector:
        """Returns what a lease for these needs takes: the asked size, or the whole CU."""
        return self.profile.size if self.rates is None else self.rates.class_for(needs)

    def price_for(self, needs: ResourceVector) -> int:
        """Returns micro-dollars an hour of a lease for these needs."""
        if self.rates is None:
            return self.price_microusd_per_hour
        return self.rates.price_microusd_per_hour(self.size_for(needs))

    @property
    def minimum_ms(self) -> int:
        """Milliseconds that a lease is billed at least."""
        return 0 if self.rates is None else self.rates.minimum_ms

    def duration_of(self, request: ResourceRequest) -> int:
        """Returns expected milliseconds of a request here, without the CU's start-up."""
        whole = self.rates is None  # asked of every pair: no vector is made where none is needed
        cores = self.profile.cpu_millis if whole else self.size_for(request.needs).cpu_millis
        return request.duration_on(cores, self.performance_millis)

    def to_record(self) -> dict[str, object]:
        """Returns the bid under the mission's names, ready for JSON or a table."""
        return {
            "provider": self.provider,
            "price_per_hour": float(self.price_per_hour),
            "performance_score": self.performance_score,
            "bid_id": self.bid_id,
            "cu_id": self.profile.cu_id,
            "quantity": self.quantity,
            "rates": None if self.rates is None else self.rates.to_record(),
            "valid_until": self.valid_until.isoformat() if self.valid_until else None,
        }


def offered_until(now: datetime, seconds: float | None) -> datetime | None:
    """Returns when an offer that is made now ends, or None where it has no end."""
    return None if seconds is None else now + timedelta(seconds=seconds)
