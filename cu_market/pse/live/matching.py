"""How well an earlier attempt's curve explains a running one's: stretched in time, scaled in size.

For each earlier curve e and stretch s of STRETCHES, the scale of least squares over the settled
part of the running curve m (all but the newest TREND_MS):

    r = sum m(t) e(t / s) / sum e(t / s)^2,   error = sqrt(mean (m(t) - r e(t / s))^2) / max e r
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cu_market.domain.curve import UsageCurve

STRETCHES = (0.6, 0.75, 0.9, 1.0, 1.1, 1.3, 1.6, 2.0)
LEAST_SCALE, MOST_SCALE = 0.5, 4.0

POINTS = 60
"""Points of the running curve that are compared."""

PLAUSIBLE_RATIO, PLAUSIBLE_ERROR = 1.5, 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """An earlier curve as it would be this time.

    Attributes:
        curve: the earlier attempt's.
        stretch: how many times as long everything takes.
        scale: how many times as much memory is held.
        error: root mean square of what it leaves unexplained, over its peak.
    """

    curve: UsageCurve
    stretch: float
    scale: float
    error: float

    @property
    def duration_ms(self) -> float:
        """How long the attempt takes in all."""
        return self.curve.duration_ms * self.stretch

    def memory_at(self, elapsed_ms: float) -> float:
        """Returns bytes expected at a time; the last point's after its end."""
        return self.scale * memory_at(self.curve, elapsed_ms / self.stretch)

    def peak_after(self, elapsed_ms: float) -> float:
        """Returns the most that is expected from a time on."""
        first = int(elapsed_ms / self.stretch) // self.curve.interval_ms
        left = self.curve.memory_bytes[min(first, len(self.curve) - 1) :]
        return self.scale * max(left)


def memory_at(curve: UsageCurve, elapsed_ms: float) -> float:
    """Returns a curve's bytes at a time, straight between its points."""
    place = elapsed_ms / curve.interval_ms
    low = int(place)
    if low >= len(curve) - 1:
        return float(curve.memory_bytes[-1])
    here, there = curve.memory_bytes[low], curve.memory_bytes[low + 1]
    return here + (place - low) * (there - here)


def match_all(
    times_ms: Sequence[float], memory: Sequence[float], earlier: Sequence[UsageCurve]
) -> list[Match]:
    """Returns every match of every earlier curve, the best first.

    Args:
        times_ms: rising.
        memory: the running attempt's bytes then.
        earlier: curves with at least one point.
    """
    step = max(1, len(times_ms) // POINTS)
    times, held = times_ms[::step], memory[::step]
    matches = [
        _match(times, held, curve, stretch)
        for curve in earlier
        if len(curve)
        for stretch in STRETCHES
    ]
    return sorted(matches, key=lambda match: (match.error, abs(math.log(match.stretch))))


def plausible(matches: Sequence[Match]) -> list[Match]:
    """Returns those that explain what was seen nearly as well as the first.

    A rising curve twice as large looks like one that is twice as fast: as long as both explain
    it, neither is known.
    """
    if not matches:
        return []
    most = max(PLAUSIBLE_RATIO * matches[0].error, PLAUSIBLE_ERROR)
    return [match for match in matches if match.error <= most]


def _match(
    times: Sequence[float], held: Sequence[float], curve: UsageCurve, stretch: float
) -> Match:
    expected = [memory_at(curve, time / stretch) for time in times]
    square = sum(e * e for e in expected)
    scale = sum(m * e for m, e in zip(held, expected, strict=True)) / square if square else 1.0
    scale = min(MOST_SCALE, max(LEAST_SCALE, scale or 1.0))
    left = [(m - scale * e) ** 2 for m, e in zip(held, expected, strict=True)]
    peak = max(1.0, scale * curve.peak_bytes)
    error = math.sqrt(sum(left) / max(1, len(left))) / peak
    return Match(curve=curve, stretch=stretch, scale=scale, error=error)
