"""What is left of a step that runs, and how far forecasts can be trusted.

A duration is taken as lognormal: log X ~ N(log m, s^2). Given that it has run for r without an end,

    E[X | X > r] = m exp(s^2 / 2) Phi(s - z) / Phi(-z),        z = log(r / m) / s

(the mean of a truncated lognormal). Errors of single steps are independent, so along a path they
add up as variances do, and one step's overrun says nothing of the next one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

P95_Z = 1.6448536269514722

FARTHEST_Z = 6.0
"""Beyond it the tail is taken as its asymptote s / z: no quotient of two vanishing numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How far durations are spread about their forecasts.

    Attributes:
        sigma: standard deviation of the logarithm; 0 where forecasts are exact.
    """

    sigma: float = 0.0

    @classmethod
    def from_band(cls, p50_ms: float, p95_ms: float) -> Spread:
        """Returns the spread of a forecast by its median and its upper end."""
        if p50_ms <= 0 or p95_ms <= p50_ms:
            return cls()
        return cls(sigma=math.log(p95_ms / p50_ms) / P95_Z)

    def mean_ratio(self) -> float:
        """Mean over median."""
        return math.exp(self.sigma**2 / 2)

    def p95_ratio(self) -> float:
        """Upper end of the band over median."""
        return math.exp(P95_Z * self.sigma)


UNTOLD = Spread.from_band(1.0, 1.5)
"""How steps are spread about their expected times where no forecast has a band."""


def left_ms(median_ms: float, ran_ms: float, spread: Spread) -> float:
    """Returns how much longer a step is expected to run that has run so long; at least 0."""
    s = spread.sigma
    if ran_ms <= 0:
        return median_ms * spread.mean_ratio()
    if s <= 0 or median_ms <= 0:
        return max(0.0, median_ms - ran_ms)
    z = math.log(ran_ms / median_ms) / s
    if z > FARTHEST_Z:
        return ran_ms * s / z
    total = median_ms * spread.mean_ratio() * _normal(s - z) / _normal(-z)
    return max(0.0, total - ran_ms)


def _normal(x: float) -> float:
    """Returns the standard normal distribution at x."""
    return 0.5 * math.erfc(-x / math.sqrt(2))
