"""While a run goes: what is left of its steps, which of them move, and whether it is worth it."""

from cu_market.dnm.renegotiation.draft import HeldCU, Place
from cu_market.dnm.renegotiation.evidence import pooled
from cu_market.dnm.renegotiation.margins import with_margins
from cu_market.dnm.renegotiation.remaining import UNTOLD, Spread, left_ms
from cu_market.dnm.renegotiation.replan import Replanner
from cu_market.dnm.renegotiation.review import Review, Revision
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
    "HeldCU",
    "Place",
    "Replanner",
    "Review",
    "Revision",
    "Spread",
    "Worth",
    "left_ms",
    "pooled",
    "weigh",
    "with_margins",
]
