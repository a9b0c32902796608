"""Price lists of the local provider: the same machine, sold at several priorities."""

from __future__ import annotations

from dataclasses import dataclass

from cu_market.domain.bid import Rates


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """One way of buying this machine.

    Attributes:
        name: last part of its cu_id: ``standard`` in ``local/standard``.
        prices: where nothing of the machine is in use.
        niceness: CPU priority of its steps, 0 normal to 19 lowest.
        is_spot: its steps give way when a step of another tariff has no room.
        interruption_millis_per_hour: expected revocations an hour, in thousandths.
        congestion_permille: how much dearer it is when all is in use, in thousandths; in between
            the price rises with the share in use.
    """

    name: str
    prices: Rates
    niceness: int = 0
    is_spot: bool = False
    interruption_millis_per_hour: int = 0
    congestion_permille: int = 0

    def rates(self, used_permille: int = 0) -> Rates:
        """Returns its prices while so much is in use, in thousandths of what is scarcest."""
        return self.prices.raised(self.congestion_permille, used_permille)


STANDARD = Tariff(
    name="standard", prices=Rates(core_microusd_per_hour=48_000, gb_microusd_per_hour=6_500)
)
ECONOMY = Tariff(
    name="economy",
    prices=Rates(core_microusd_per_hour=28_800, gb_microusd_per_hour=3_900),
    niceness=10,
)

DEFAULT_TARIFFS = (STANDARD, ECONOMY)
"""Standard is near what clouds ask for a general-purpose core; economy is 40 % cheaper, and
slower whenever standard steps want the cores."""
