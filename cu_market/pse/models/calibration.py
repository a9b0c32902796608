"""Intervals that keep their declared coverage: each end is moved by how often it was passed.

Adaptive conformal inference (Gibbs and Candes, 2021) on the width of each side. For the upper end,
with log-factor s and rate g, after each completed task

    s <- s + g (miss - 0.1)

where miss is 1 if the amount was above the upper end; the lower end likewise. The end handed out is
p50 + (p90 - p50) exp(s). In the long run, whatever drifts, about one in ten is passed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from cu_market.pse.protocols.predictor import Interval

RATE = 0.1
MISS_RATIO = 0.1
LEAST, MOST = -0.2, math.log(4.0)


@dataclass(slots=True)
class Calibration:
    """The factors of one amount's two sides.

    Attributes:
        lower, upper: logarithms of the widening; 0 leaves an end where it is.
    """

    lower: float = 0.0
    upper: float = 0.0

    def adjust(self, raw: Interval) -> Interval:
        """Returns the interval with its ends moved; never below 0."""
        return Interval(
            p10=max(0.0, raw.p50 - (raw.p50 - raw.p10) * math.exp(self.lower)),
            p50=raw.p50,
            p90=raw.p50 + (raw.p90 - raw.p50) * math.exp(self.upper),
        )

    def learn(self, raw: Interval, actual: float) -> None:
        """Takes in what an unadjusted interval came to."""
        given = self.adjust(raw)
        self.lower = _moved(self.lower, actual < given.p10)
        self.upper = _moved(self.upper, actual > given.p90)


def _moved(factor: float, is_missed: bool) -> float:
    return min(MOST, max(LEAST, factor + RATE * (float(is_missed) - MISS_RATIO)))


@dataclass(slots=True)
class Calibrations:
    """One amount's calibration for each process, started from that of all of them together.

    Attributes:
        shared: over every process.
        by_process: of each that has been learned from.
    """

    shared: Calibration = field(default_factory=Calibration)
    by_process: dict[str, Calibration] = field(default_factory=dict)

    def adjust(self, process: str, raw: Interval) -> Interval:
        """Returns the interval with its ends moved."""
        return self.by_process.get(process, self.shared).adjust(raw)

    def learn(self, process: str, raw: Interval, actual: float) -> None:
        """Takes in what an unadjusted interval came to."""
        if process not in self.by_process:
            self.by_process[process] = Calibration(self.shared.lower, self.shared.upper)
        self.shared.learn(raw, actual)
        self.by_process[process].learn(raw, actual)
