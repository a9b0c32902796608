"""CUs that are sold whole, rented by a run and shared between its steps."""

from cu_market.dnm.renting.rented import (
    Rented,
    blocked_until_ready,
    planned_rental,
    rent_shared,
)
from cu_market.dnm.renting.replanned import Left, Stay, Waiting, replanned
from cu_market.dnm.renting.sharing import (
    Shareable,
    Sharing,
    finishes_ms,
    locations_of,
    share,
    shareable,
)

__all__ = [
    "Left",
    "Rented",
    "Shareable",
    "Sharing",
    "Stay",
    "Waiting",
    "blocked_until_ready",
    "finishes_ms",
    "locations_of",
    "planned_rental",
    "rent_shared",
    "replanned",
    "share",
    "shareable",
]
