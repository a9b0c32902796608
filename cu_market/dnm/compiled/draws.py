"""A sequence of whole numbers from a seed: compiled.

The room knows no randomness: an equal seed gives equal draws on every machine (xorshift64:
Marsaglia, 2003).
"""

from __future__ import annotations

import numpy as np

from cu_market.dnm.compiled import Array, compiled

FINE = 1 << 40


def draws_from(seed: int) -> Array:
    """Returns the state of a sequence."""
    return np.array([(seed * 0x9E3779B97F4A7C15 + 0x1234567) % 2**64 or 1], np.uint64)


@compiled
def below(draws: Array, limit: int) -> int:
    """Returns a whole number from 0 to limit - 1."""
    x = draws[0]
    x ^= x << np.uint64(13)
    x ^= x >> np.uint64(7)
    x ^= x << np.uint64(17)
    draws[0] = x
    return np.int64((x >> np.uint64(11)) % np.uint64(limit))  # type: ignore[return-value]


@compiled
def ratio(draws: Array) -> float:
    """Returns a number from 0 to below 1."""
    return below(draws, FINE) / FINE
