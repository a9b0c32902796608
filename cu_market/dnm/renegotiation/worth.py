"""When moving steps that have not started is worth the disruption: hysteresis.

Steps whose CU is gone must move and ask nobody. The others move together, where that saves more
than SAVING_RATIO of what they would cost where they stand, or where the run would end after its
deadline and ends sooner by SOONER_RATIO of what is left once they have moved; each step at most
MAX_MOVES times of free will. So it ends: free moves are counted, and forced ones withdraw a CU.
"""

from __future__ import annotations

from dataclasses import dataclass

SAVING_RATIO = 0.1
"""Less than this share saved is no reason to move anything."""

SAVING_MICROUSD = 10
"""Nor is less than this."""

UNASKED_MICROUSD = 100
"""Nor than this where nothing else has changed than that better CUs are offered, or to end what
runs: a move is an auction, and a line on the run page."""

SOONER_RATIO = 0.01
"""A run that is late anyway is moved only if it then ends sooner by this share of what is left.
At 0.05, replays of recorded workflows with a forecast error of 0.3 let delays of up to that share
stand one after the other."""

MAX_MOVES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """What speaks for moving.

    Attributes:
        is_saving: enough money.
        is_sooner: the run is late, and less so moved.
    """

    is_saving: bool
    is_sooner: bool

    @property
    def is_worth_it(self) -> bool:
        """Either of them."""
        return self.is_saving or self.is_sooner


def weigh(
    *,
    present_microusd: int,
    moved_microusd: int,
    stays_ms: int,
    moved_ms: int,
    latest_ms: int | None,
    least_microusd: int = SAVING_MICROUSD,
) -> Worth:
    """Returns whether moving saves enough, or makes a late run end sooner.

    Args:
        present_microusd, moved_microusd: what the steps cost where they stand, and moved.
        stays_ms, moved_ms: when the run would end, from now.
        latest_ms: what is left of its deadline, or None.
        least_microusd: so much must be saved at least.
    """
    saved = present_microusd - moved_microusd
    is_late = latest_ms is not None and stays_ms > latest_ms
    return Worth(
        is_saving=saved > max(SAVING_RATIO * present_microusd, least_microusd),
        is_sooner=is_late and moved_ms < stays_ms * (1 - SOONER_RATIO),
    )
