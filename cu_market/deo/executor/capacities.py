"""Each pool's total room, as its provider states it, believed for a while."""

from __future__ import annotations

import logging
import time

from cu_market.domain.allocation import Allocation
from cu_market.domain.resources import ResourceVector
from cu_market.market.auction import Market

logger = logging.getLogger(__name__)

CAPACITY_SECONDS = 5.0
"""How long a provider's statement of its total room is believed."""


class Capacities:
    """What the pools have.

    Args:
        market: whose providers are asked.
    """

    def __init__(self, market: Market) -> None:
        self._market = market
        self._known: dict[str, tuple[float, ResourceVector]] = {}

    def of(self, award: Allocation) -> ResourceVector:
        """Returns the total of the award's pool; nothing while its provider is away."""
        known = self._known.get(award.capacity_id)
        now = time.monotonic()
        if known is None or now - known[0] > CAPACITY_SECONDS:
            try:
                known = (now, self._market.capacity(award.capacity_id, award.provider))
            except OSError:
                # Away, for a while: nothing starts there meanwhile, and nothing fails.
                logger.warning("provider is silent", extra={"action": "capacity"}, exc_info=True)
                known = (now, ResourceVector())
            self._known[award.capacity_id] = known
        return known[1]
