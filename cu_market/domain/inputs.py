"""What a step reads of the steps before it: how much, and where that lies."""

from __future__ import annotations

from dataclasses import dataclass

from cu_market.domain.problem import require
from cu_market.domain.units import GB, divide_half_even


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Place:
    """Where data lies or goes.

    Attributes:
        location: its name; within one, nothing is transferred and nothing paid.
        egress_microusd_per_gb: price of a GB (10^9 bytes) taken away from there.
        bandwidth_mbps: megabits a second; 0 where unknown.
    """

    location: str
    egress_microusd_per_gb: int = 0
    bandwidth_mbps: int = 0

    def egress_microusd(self, size_bytes: int, location: str) -> int:
        """Returns micro-dollars for taking so many bytes to a location, rounded half-even once."""
        if location == self.location:
            return 0
        return divide_half_even(size_bytes * self.egress_microusd_per_gb, GB)

    def transfer_ms(self, size_bytes: int, to: Place) -> int:
        """Returns milliseconds of taking so many bytes to a place, rounded up.

        The slower end decides; 0 within a location, or where neither end says its bandwidth.
        """
        known = [each for each in (self.bandwidth_mbps, to.bandwidth_mbps) if each]
        if to.location == self.location or not known:
            return 0
        return -(-8 * size_bytes // (1000 * min(known)))


@dataclass(frozen=True, slots=True, kw_only=True)
class InputData:
    """What one step wrote for another.

    Attributes:
        source: step key of the one that wrote it.
        size_bytes: measured, in this run or the last; None while that is not looked up yet.
        place: where it lies; None while its source has none: the plan decides it.
    """

    source: str
    size_bytes: int | None
    place: Place | None = None

    def __post_init__(self) -> None:
        require(
            self.size_bytes is None or self.size_bytes >= 0,
            f"InputData of {self.source!r}.size_bytes",
            self.size_bytes,
            "negative",
            "give bytes",
        )
