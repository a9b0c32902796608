"""While a run goes: what is left of its steps, which of them move, and whether it is worth it."""

from cu_market.dnm.renegotiation.dispatch import BusyCU, Decision, Dispatcher
from cu_market.dnm.renegotiation.evidence import pooled
from cu_market.dnm.renegotiation.margins import with_margins
from cu_market.dnm.renegotiation.remaining import UNTOLD, Spread, left_ms
from cu_market.dnm.renegotiation.review import HeldCU, Place, Review, Revision
from cu_market.dnm.renegotiation.worth import (
    MAX_MOVES,
    SAVING_MICROUSD,
    SAVING_RATIO,
    SOONER_RATIO,
    Worth,
    weigh,
)

__all__ = [
    "MAX_MOVES",
    "SAVING_MICROUSD",
    "SAVING_RATIO",
    "SOONER_RATIO",
    "UNTOLD",
    "BusyCU",
    "Decision",
    "Dispatcher",
    "HeldCU",
    "Place",
    "Review",
    "Revision",
    "Spread",
    "Worth",
    "left_ms",
    "pooled",
    "weigh",
    "with_margins",
]
