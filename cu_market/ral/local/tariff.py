"""Price lists of the local provider: the same machine, sold at several priorities."""

from __future__ import annotations

from dataclasses import dataclass

from cu_market.domain.bid import Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """One way of buying this machine.

    Attributes:
        name: last part of its cu_id: ``standard`` in ``local/standard``.
        core_microusd_per_hour: one core for an hour.
        gb_microusd_per_hour: one GB (10^9 bytes) of memory for an hour.
        niceness: CPU priority of its steps, 0 normal to 19 lowest.
        interruption_millis_per_hour: expected revocations an hour, in thousandths.
    """

    name: str
    core_microusd_per_hour: int
    gb_microusd_per_hour: int
    niceness: int = 0
    interruption_millis_per_hour: int = 0

    def rates(self) -> Rates:
        """Returns its prices now. A method, since prices that rise with use will depend on it."""
        return Rates(
            core_microusd_per_hour=self.core_microusd_per_hour,
            gb_microusd_per_hour=self.gb_microusd_per_hour,
        )


STANDARD = Tariff(name="standard", core_microusd_per_hour=48_000, gb_microusd_per_hour=6_500)
ECONOMY = Tariff(
    name="economy", core_microusd_per_hour=28_800, gb_microusd_per_hour=3_900, niceness=10
)

DEFAULT_TARIFFS = (STANDARD, ECONOMY)
"""Standard is near what clouds ask for a general-purpose core; economy is 40 % cheaper, and
slower whenever standard steps want the cores."""
