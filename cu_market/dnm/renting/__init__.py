"""CUs that are sold whole, rented by a run and shared between its steps."""

from cu_market.dnm.renting.rented import Rented, blocked_until_ready, rent_shared
from cu_market.dnm.renting.sharing import (
    Shareable,
    Sharing,
    finishes_ms,
    locations_of,
    share,
    shareable,
)

__all__ = [
    "Rented",
    "Shareable",
    "Sharing",
    "blocked_until_ready",
    "finishes_ms",
    "locations_of",
    "rent_shared",
    "share",
    "shareable",
]
