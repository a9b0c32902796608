"""Price lists of the local provider: the same machine, sold at several priorities."""

from __future__ import annotations

from dataclasses import dataclass

from cu_market.domain.bid import Rates
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import divide_half_even


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """One way of buying this machine.

    Attributes:
        name: last part of its cu_id: ``standard`` in ``local/standard``.
        core_microusd_per_hour: one core for an hour.
        gb_microusd_per_hour: one GB (10^9 bytes) of memory for an hour.
        niceness: CPU priority of its steps, 0 normal to 19 lowest.
        is_spot: its steps give way when a step of another tariff has no room.
        interruption_millis_per_hour: expected revocations an hour, in thousandths.
        congestion_permille: how much dearer it is when all is in use, in thousandths; in between
            the price rises with the share in use.
        minimum_ms: a lease is billed for at least so long.
        classes: sizes that are sold, if not any; see Rates.
    """

    name: str
    core_microusd_per_hour: int
    gb_microusd_per_hour: int
    niceness: int = 0
    is_spot: bool = False
    interruption_millis_per_hour: int = 0
    congestion_permille: int = 0
    minimum_ms: int = 0
    classes: tuple[ResourceVector, ...] = ()

    def rates(self, used_permille: int = 0) -> Rates:
        """Returns its prices while so much is in use: price x (1 + congestion x share).

        Args:
            used_permille: the share in use of what is scarcest, in thousandths.
        """
        factor = 10**6 + self.congestion_permille * min(1000, max(0, used_permille))
        return Rates(
            core_microusd_per_hour=divide_half_even(self.core_microusd_per_hour * factor, 10**6),
            gb_microusd_per_hour=divide_half_even(self.gb_microusd_per_hour * factor, 10**6),
            minimum_ms=self.minimum_ms,
            classes=self.classes,
        )


STANDARD = Tariff(name="standard", core_microusd_per_hour=48_000, gb_microusd_per_hour=6_500)
ECONOMY = Tariff(
    name="economy", core_microusd_per_hour=28_800, gb_microusd_per_hour=3_900, niceness=10
)

DEFAULT_TARIFFS = (STANDARD, ECONOMY)
"""Standard is near what clouds ask for a general-purpose core; economy is 40 % cheaper, and
slower whenever standard steps want the cores."""
