"""A running attempt's outlook: its peak, its remaining time, and whether its limit will be hit.

Two ways lead to a limit. Everything is larger than before: the earlier curve, scaled by what was
seen so far, passes the limit later on. Or something grows that did not: what earlier curves leave
unexplained has risen along a line for one of TRENDS_MS, and the line, laid upon what is still to
come, passes the limit within HORIZON_MS. A ramp that is twice as high looks like one that is twice
as quick until it has left every earlier peak behind: from then on its own line is followed. Each
is believed once it has been so for CONFIRM looks in a row. Without earlier curves only the second
is known, on the memory itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cu_market.domain.curve import UsageCurve
from cu_market.domain.request import Quantiles
from cu_market.pse.live.matching import Match, match_all, plausible

TRENDS_MS = (1000.0, 3000.0)
"""How long a growth must have gone on: the steep soon, the slow once it stands out from noise."""

HORIZON_MS = 30_000.0
LOOK_AHEAD_STEPS = 60

TREND_RATIO, TREND_BYTES = 0.015, 2 * 2**20
"""A growth counts if over its time it was this share of the expected peak, and so many bytes."""

TREND_FIT = 0.85
"""Share of the window's variance that a line must explain."""

STEADY = (0.4, 1.8)
"""Slopes of the window's halves, over the whole's."""

SCALE_ERROR = 0.06
"""A scaled earlier curve is believed below this error."""

SCALE_SEEN = 0.25
"""And once so much of its own peak has been seen."""

SCALE_MARGIN = 1.03
BEYOND_RATIO = 1.18
"""Past so much of every earlier peak, earlier curves say nothing: its own line is followed."""

OVERDUE_RATIO = 1.2
"""After so much of its time nothing is known of when a step will end."""

CONFIRM = 2

KEPT, RECENT_MS = 400, 5_000.0
"""Samples that are kept, at most; of more, every other one that is older than this goes."""

EARLIER = 5
"""Newest earlier curves that are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is expected of a running attempt.

    Attributes:
        peak_bytes: of the whole attempt.
        remaining_ms: until it ends; None where nothing like it has ended before.
        limit_in_ms: when the limit will be hit, or None where it will not as far as is seen.
        is_alarm: whether that is believed.
        reason: in words, empty where there is no alarm.
    """

    peak_bytes: Quantiles
    remaining_ms: Quantiles | None
    limit_in_ms: int | None
    is_alarm: bool
    reason: str = ""


@dataclass(slots=True)
class Watch:
    """Watches one attempt; feed it each sample.

    Attributes:
        limit_bytes: past which the attempt would be ended.
        earlier: curves of earlier attempts, newest first; ended well.
        every_ms: how often it looks.
    """

    limit_bytes: int
    earlier: Sequence[UsageCurve] = ()
    every_ms: float = 250.0
    _times: list[float] = field(default_factory=list)
    _memory: list[float] = field(default_factory=list)
    _suspected: int = 0
    _looked_ms: float = float("-inf")

    def sample(self, elapsed_ms: float, memory_bytes: int) -> Outlook | None:
        """Takes a sample; returns the outlook when it has looked, else None."""
        self._keep(elapsed_ms, memory_bytes)
        if elapsed_ms - self._looked_ms < self.every_ms:
            return None
        self._looked_ms = elapsed_ms
        outlook = self._look(elapsed_ms)
        self._suspected = self._suspected + 1 if outlook.limit_in_ms is not None else 0
        if self._suspected < CONFIRM:
            return Outlook(
                peak_bytes=outlook.peak_bytes,
                remaining_ms=outlook.remaining_ms,
                limit_in_ms=outlook.limit_in_ms,
                is_alarm=False,
            )
        return outlook

    def remember(self, samples: Sequence[tuple[float, int]]) -> None:
        """Takes samples of before anybody watched, and does not look."""
        for elapsed_ms, memory_bytes in samples:
            self._keep(elapsed_ms, memory_bytes)

    def _keep(self, elapsed_ms: float, memory_bytes: int) -> None:
        self._times.append(elapsed_ms)
        self._memory.append(float(memory_bytes))
        if len(self._times) > KEPT:
            old = _first_after(self._times, elapsed_ms - RECENT_MS)
            for kept in (self._times, self._memory):
                kept[:old] = kept[:old:2]

    def _look(self, now_ms: float) -> Outlook:
        earlier = self.earlier[:EARLIER]
        matches: Sequence[Match] = ()
        limit_in, reason, growth = None, "", 0.0
        for window_ms in TRENDS_MS:
            settled = max(1, _first_after(self._times, now_ms - window_ms))
            matches = plausible(match_all(self._times[:settled], self._memory[:settled], earlier))
            growth = self._growth(matches, settled, window_ms)
            if growth == 0 and self._is_beyond(earlier):
                matches, growth = [], self._growth([], settled, window_ms)
            limit_in, reason = self._limit_by_growth(matches, growth, now_ms)
            if limit_in is not None:
                break
        if limit_in is None and earlier:
            limit_in, reason = self._limit_by_scale(now_ms)
        return Outlook(
            peak_bytes=self._peaks(matches, growth, now_ms),
            remaining_ms=_remaining(matches, now_ms),
            limit_in_ms=limit_in,
            is_alarm=limit_in is not None,
            reason=reason,
        )

    def _is_beyond(self, earlier: Sequence[UsageCurve]) -> bool:
        most = max((curve.peak_bytes for curve in earlier), default=0)
        return most > 0 and self._memory[-1] > BEYOND_RATIO * most

    def _growth(self, matches: Sequence[Match], settled: int, window_ms: float) -> float:
        """Returns bytes a millisecond on top of what any plausible match expects; 0 if none."""
        times, held = self._times[settled:], self._memory[settled:]
        if len(times) < 5 or times[-1] - times[0] < 0.8 * window_ms:
            return 0.0
        # Memory itself may not fall: what an earlier curve gives back is no growth of this one.
        slowest, _ = _line(times, held)
        explanations: Sequence[Match | None] = matches or [None]
        for match in explanations:
            if slowest <= 0:
                return 0.0
            left = [
                memory - (match.memory_at(time) if match else 0.0)
                for time, memory in zip(times, held, strict=True)
            ]
            slope, fit = _line(times, left)
            expected = match.scale * match.curve.peak_bytes if match else max(self._memory)
            is_growth = slope * window_ms > max(TREND_BYTES, TREND_RATIO * expected)
            if not is_growth or fit < TREND_FIT or not self._is_steady(times, left, slope):
                return 0.0
            slowest = min(slowest, slope)
        return slowest

    def _is_steady(self, times: Sequence[float], left: Sequence[float], slope: float) -> bool:
        """Whether both halves of the window rise alike: an allocation is one step up."""
        middle = len(times) // 2
        halves = (_line(times[:middle], left[:middle]), _line(times[middle:], left[middle:]))
        return all(STEADY[0] * slope < half < STEADY[1] * slope for half, _ in halves)

    def _limit_by_growth(
        self, matches: Sequence[Match], growth: float, now_ms: float
    ) -> tuple[int | None, str]:
        if growth <= 0:
            return None, ""
        best = matches[0] if matches else None
        base = best.memory_at(now_ms) if best else 0.0
        end = float("inf")
        if best is not None and now_ms < OVERDUE_RATIO * best.duration_ms:
            # A step that grows takes longer than it did; half as long again is looked at.
            end = 1.5 * max(best.duration_ms, now_ms) + TRENDS_MS[0]
        for step in range(1, LOOK_AHEAD_STEPS + 1):
            ahead = HORIZON_MS * step / LOOK_AHEAD_STEPS
            if now_ms + ahead > end:
                break
            change = best.memory_at(now_ms + ahead) - base if best else 0.0
            if self._memory[-1] + change + growth * ahead > self.limit_bytes:
                rate = growth * 1000 / 2**20
                return round(ahead), f"memory grows by {rate:.1f} MiB a second more than it did"
        return None, ""

    def _limit_by_scale(self, now_ms: float) -> tuple[int | None, str]:
        matches = match_all(self._times, self._memory, self.earlier[:EARLIER])
        if not matches or matches[0].error > SCALE_ERROR or len(self._times) < 8:
            return None, ""
        least = min(plausible(matches), key=lambda match: match.peak_after(now_ms))
        seen = max(self._memory) / max(1.0, least.scale * least.curve.peak_bytes)
        if seen < SCALE_SEEN or least.peak_after(now_ms) <= SCALE_MARGIN * self.limit_bytes:
            return None, ""
        at = now_ms
        while at < least.duration_ms and least.memory_at(at) <= self.limit_bytes:
            at += least.curve.interval_ms * least.stretch
        return round(at - now_ms), f"memory is {least.scale:.2f} times what it was at this point"

    def _peaks(self, matches: Sequence[Match], growth: float, now_ms: float) -> Quantiles:
        held = max(self._memory)
        ends = sorted(max(held, match.peak_after(now_ms)) for match in matches) or [held]
        if growth > 0 and matches:
            longer = max(0.0, matches[0].duration_ms - now_ms)
            ends = [max(end, self._memory[-1] + growth * longer) for end in ends]
        return _quantiles(ends)


def _first_after(times: Sequence[float], since: float) -> int:
    place = len(times)
    while place and times[place - 1] > since:
        place -= 1
    return place


def _remaining(matches: Sequence[Match], now_ms: float) -> Quantiles | None:
    if not matches:
        return None
    return _quantiles(sorted(max(0.0, match.duration_ms - now_ms) for match in matches))


def _quantiles(rising: Sequence[float]) -> Quantiles:
    last = len(rising) - 1
    p10, p50, p95 = (round(rising[round(ratio * last)]) for ratio in (0.1, 0.5, 0.95))
    return Quantiles(p10=p10, p50=p50, p95=p95)


def _line(times: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Returns the slope of least squares, and the share of the variance that it explains."""
    count = len(times)
    mean_t, mean_v = sum(times) / count, sum(values) / count
    spread = sum((t - mean_t) ** 2 for t in times)
    both = sum((t - mean_t) * (v - mean_v) for t, v in zip(times, values, strict=True))
    total = sum((v - mean_v) ** 2 for v in values)
    if spread <= 0 or total <= 0:
        return 0.0, 0.0
    return both / spread, both * both / (spread * total)
