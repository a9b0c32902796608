"""Wastage, failures, coverage and errors of a replay's predictions.

An allocation a below the peak y fails: wastage += ttf x a x t, and the next one is tried. The
first a >= y succeeds: wastage += (a - y) x t. Decimal gigabytes times hours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from cu_market.pse.protocols.predictor import Interval, Prediction

BYTE_MS_PER_GB_HOUR = 1e9 * 3_600_000

MAX_ATTEMPTS = 100
"""A ladder that has not reached the peak by then (from one byte it would) is broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One task's prediction, and what it came to.

    Attributes:
        row: the task's line.
        process: its process.
        peak_bytes, runtime_ms: what it used.
        prediction: what was foreseen.
        allocations: bytes of each attempt; all but the last failed.
        wastage_gbh: by the module's rule.
    """

    row: int
    process: str
    peak_bytes: float
    runtime_ms: float
    prediction: Prediction
    allocations: tuple[float, ...]
    wastage_gbh: float


def climb(ladder: Sequence[float], peak_bytes: float) -> tuple[float, ...]:
    """Returns the allocations that are tried, up to the first that holds the peak.

    Raises:
        ValueError: the ladder falls, or starts at or below 0.
    """
    tried: list[float] = []
    while not tried or tried[-1] < peak_bytes:
        place = len(tried)
        size = ladder[place] if place < len(ladder) else 2 * tried[-1]
        if not math.isfinite(size) or size <= (tried[-1] if tried else 0.0):
            raise ValueError(f"rung {place} of the ladder {tuple(ladder)} does not rise")
        if place == MAX_ATTEMPTS:
            raise ValueError(f"{MAX_ATTEMPTS} rungs of {tuple(ladder[:3])}... below {peak_bytes}")
        tried.append(size)
    return tuple(tried)


def score(
    row: int,
    process: str,
    peak_bytes: float,
    runtime_ms: float,
    prediction: Prediction,
    ttf: float,
) -> Replayed:
    """Returns a task with its attempts and their wastage.

    Args:
        row, process, peak_bytes, runtime_ms: the task's.
        prediction: what was foreseen.
        ttf: how much of its time a failed attempt takes until it fails, 1.0 for all.
    """
    tried = climb(prediction.ladder, peak_bytes)
    wasted = ttf * sum(tried[:-1]) + tried[-1] - peak_bytes
    return Replayed(
        row=row,
        process=process,
        peak_bytes=peak_bytes,
        runtime_ms=runtime_ms,
        prediction=prediction,
        allocations=tried,
        wastage_gbh=wasted * runtime_ms / BYTE_MS_PER_GB_HOUR,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A replay in figures; NaN where there is nothing to take one of.

    Attributes:
        wastage_gbh: GB x hours.
        failed_attempts: allocations that were too small.
        failed_tasks_ratio: share of tasks with at least one.
        memory_coverage, runtime_coverage: share of tasks inside the 10-90 % interval.
        memory_mdape, runtime_mdape: median of |p50 - actual| / actual.
        memory_pinball, runtime_pinball: mean pinball loss at 10 and 90 %, over the actual mean.
    """

    wastage_gbh: float
    failed_attempts: int
    failed_tasks_ratio: float
    memory_coverage: float
    runtime_coverage: float
    memory_mdape: float
    runtime_mdape: float
    memory_pinball: float
    runtime_pinball: float


def summarize(replayed: Sequence[Replayed], *, min_history: int = 0) -> Summary:
    """Returns a replay's figures.

    Args:
        replayed: every task.
        min_history: intervals count from this many completed tasks of the process on.
    """
    failed = [len(each.allocations) - 1 for each in replayed]
    known = [each for each in replayed if each.prediction.history_count >= min_history]
    memory = [(each.prediction.memory, each.peak_bytes) for each in known]
    runtime = [(each.prediction.runtime, each.runtime_ms / 1000) for each in known]
    return Summary(
        wastage_gbh=math.fsum(each.wastage_gbh for each in replayed),
        failed_attempts=sum(failed),
        failed_tasks_ratio=_mean(float(count > 0) for count in failed),
        memory_coverage=coverage(memory),
        runtime_coverage=coverage(runtime),
        memory_mdape=median_error(memory),
        runtime_mdape=median_error(runtime),
        memory_pinball=pinball(memory),
        runtime_pinball=pinball(runtime),
    )


def coverage(pairs: Iterable[tuple[Interval, float]]) -> float:
    """Returns the share of amounts within their intervals, ends included."""
    return _mean(
        float(foreseen.p10 <= actual <= foreseen.p90)
        for foreseen, actual in pairs
        if not math.isnan(foreseen.p10)
    )


def median_error(pairs: Iterable[tuple[Interval, float]]) -> float:
    """Returns the median of |p50 - actual| / actual over amounts above 0."""
    errors = [
        abs(foreseen.p50 - actual) / actual
        for foreseen, actual in pairs
        if actual > 0 and not math.isnan(foreseen.p50)
    ]
    return median(errors) if errors else math.nan


def pinball(pairs: Iterable[tuple[Interval, float]]) -> float:
    """Returns the pinball loss at 10 and 90 %, summed over amounts, over the amounts' sum.

    max(q (y - f), (q - 1) (y - f)) for each quantile q with forecast f and actual y.
    """
    loss, total = 0.0, 0.0
    for foreseen, actual in pairs:
        if math.isnan(foreseen.p10):
            continue
        for ratio, value in ((0.1, foreseen.p10), (0.9, foreseen.p90)):
            loss += max(ratio * (actual - value), (ratio - 1) * (actual - value))
        total += actual
    return loss / total if total else math.nan


def _mean(values: Iterable[float]) -> float:
    kept = list(values)
    return math.fsum(kept) / len(kept) if kept else math.nan
