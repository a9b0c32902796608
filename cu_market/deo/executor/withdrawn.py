"""CUs that did not deliver: not asked again for a while."""

from __future__ import annotations

import time

WITHDRAWN_SECONDS = 300.0
"""How long a CU that did not deliver is asked no more by this run."""


class Withdrawn:
    """One run's CUs whose bids count for nothing now."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def add(self, resource_id: str) -> None:
        """Counts a CU's bids for nothing, for a while."""
        self._until[resource_id] = time.monotonic() + WITHDRAWN_SECONDS

    def names(self) -> frozenset[str]:
        """Returns the CUs whose bids count for nothing now."""
        now = time.monotonic()
        return frozenset(name for name, until in self._until.items() if until > now)
