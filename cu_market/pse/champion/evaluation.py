"""What a model would have cost: each attempt sized from what came before it, then looked at.

Cost of a step in byte-milliseconds, T its duration, y its peak, a_1 < a_2 < ... the allocations
(each after the first twice the one before, as after an end for memory):

    wastage = sum over failed k of a_k T + (a_last - y) T
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np

from cu_market.domain.request import StepIdentity
from cu_market.domain.spec import Risk
from cu_market.domain.usage import Ending, Usage
from cu_market.pse.forecast import OOM_FACTOR, Forecaster
from cu_market.pse.partitions import with_neighbours

RESAMPLES = 1000
MOST_RUNGS = 12

RELATIVES = 60
"""Newest attempts of a step's other partitions that stand in where one has few of its own."""

HELD_BACK_EVERY = 3
"""One good end in so many is held back: judged on by every training, trained on by none. Spread
over the whole history, so that what a drift has brought is both learned from and judged on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """One attempt as a model would have sized it.

    Attributes:
        usage: the attempt.
        allocated_bytes: the first allocation.
        p10_bytes, p95_bytes: of the forecast.
        failures: allocations that would have been too small.
        wastage: byte-milliseconds held without use.
    """

    usage: Usage
    allocated_bytes: int
    p10_bytes: int
    p95_bytes: int
    failures: int
    wastage: float

    @property
    def is_covered(self) -> bool:
        """Whether the peak was between p10 and p95."""
        return self.p10_bytes <= self.usage.measurement.peak_memory_bytes <= self.p95_bytes

    @property
    def relative_wastage(self) -> float:
        """Wastage over what was really used."""
        used = self.usage.measurement
        return self.wastage / max(1.0, used.peak_memory_bytes * float(max(1, used.wall_ms)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A challenger against a champion on the same attempts.

    Attributes:
        attempts: how many.
        champion, challenger: mean relative wastage.
        difference: challenger minus champion; below 0 is better.
        low, high: its 90 % interval by paired bootstrap.
    """

    attempts: int
    champion: float
    challenger: float
    difference: float
    low: float
    high: float

    @property
    def is_better(self) -> bool:
        """Whether the challenger is better beyond doubt."""
        return self.attempts > 0 and self.high < 0

    def to_record(self) -> dict[str, float]:
        """Returns the figures by name."""
        return {
            "attempts": self.attempts,
            "champion_relative_wastage": self.champion,
            "challenger_relative_wastage": self.challenger,
            "difference": self.difference,
            "difference_p5": self.low,
            "difference_p95": self.high,
        }


def score_all(
    forecaster: Forecaster,
    usages: Iterable[Usage],
    *,
    held_back: bool | None = None,
    risk: Risk = Risk.BALANCED,
) -> list[Scored]:
    """Returns each good end as the forecaster would have sized it, oldest first.

    Args:
        forecaster: asked with what came before each attempt alone.
        usages: of any steps, in any order.
        held_back: answer for those held back alone, for the others alone, or for all. Whichever,
            all are part of the history that later ones are sized from.
        risk: how sizes are chosen.
    """
    ordered = sorted(usages, key=lambda u: (u.ended_at, u.run_id, u.step_key, u.attempt))
    past: dict[StepIdentity, list[Usage]] = defaultdict(list)
    relatives: dict[StepIdentity, list[Usage]] = defaultdict(list)
    scored: list[Scored] = []
    for usage in ordered:
        is_good = usage.ending is Ending.OK and not usage.external
        if is_good and (held_back is None or held_back is is_held_back(usage)):
            own, others = past[usage.identity], relatives[_step(usage)]
            found = _score(forecaster, usage, own, others, risk)
            if found is not None:
                scored.append(found)
        past[usage.identity].insert(0, usage)
        relatives[_step(usage)].insert(0, usage)
        del relatives[_step(usage)][RELATIVES:]
    return scored


def is_held_back(usage: Usage) -> bool:
    """Whether an attempt is judged on and not trained on: by its name, so for good."""
    return crc32(f"{usage.run_id} {usage.step_key}".encode()) % HELD_BACK_EVERY == 0


def _step(usage: Usage) -> StepIdentity:
    return replace(usage.identity, partition="")


def _before(usage: Usage, past: Sequence[Usage]) -> list[Usage]:
    # What this very run's earlier attempts have shown was not known when it was first sized, nor
    # was what runs beside it have used: a history that grows is always a few runs behind.
    return [
        u
        for u in past
        if u.ended_at <= usage.started_at
        and (u.run_id, u.step_key) != (usage.run_id, usage.step_key)
    ]


def _score(
    forecaster: Forecaster,
    usage: Usage,
    own: Sequence[Usage],
    others: Sequence[Usage],
    risk: Risk,
) -> Scored | None:
    forecast = forecaster.forecast(
        usage.identity,
        with_neighbours(usage.identity, _before(usage, own), _before(usage, others)),
        code_version=usage.code_version or None,
        input_bytes=usage.input_bytes,
        features=usage.features,
    )
    if forecast is None:
        return None
    peak, duration = usage.measurement.peak_memory_bytes, max(1, usage.measurement.wall_ms)
    size = first = forecast.allocation_bytes(risk)
    wasted, failures = 0.0, 0
    while size < peak and failures < MOST_RUNGS:
        wasted += float(size) * duration
        failures += 1
        size *= OOM_FACTOR
    return Scored(
        usage=usage,
        allocated_bytes=first,
        p10_bytes=forecast.memory.p10,
        p95_bytes=forecast.memory.p95,
        failures=failures,
        wastage=wasted + float(max(0, size - peak)) * duration,
    )


def figures(scored: Sequence[Scored]) -> dict[str, float]:
    """Returns the figures of a replay: wastage, failures, coverage, median error."""
    if not scored:
        return {"attempts": 0}
    peaks = np.array([s.usage.measurement.peak_memory_bytes for s in scored], dtype=float)
    sizes = np.array([s.allocated_bytes for s in scored], dtype=float)
    return {
        "attempts": len(scored),
        "wastage_gbh": sum(s.wastage for s in scored) / 1e9 / 3.6e6,
        "relative_wastage": float(np.mean([s.relative_wastage for s in scored])),
        "failed_ratio": float(np.mean([s.failures > 0 for s in scored])),
        "coverage_ratio": float(np.mean([s.is_covered for s in scored])),
        "median_oversize_ratio": float(np.median(sizes / np.maximum(1.0, peaks) - 1)),
    }


def compare(champion: Sequence[Scored], challenger: Sequence[Scored]) -> Comparison:
    """Returns the comparison on attempts that both have sized, its doubt by paired bootstrap."""
    theirs = {_key(s.usage): s.relative_wastage for s in champion}
    pairs = [
        (theirs[_key(s.usage)], s.relative_wastage) for s in challenger if _key(s.usage) in theirs
    ]
    if not pairs:
        return Comparison(
            attempts=0, champion=0.0, challenger=0.0, difference=0.0, low=0.0, high=0.0
        )
    old, new = np.array(pairs).T
    difference = new - old
    generator = np.random.default_rng(len(pairs))
    drawn = generator.integers(0, len(pairs), (RESAMPLES, len(pairs)))
    low, high = np.quantile(difference[drawn].mean(axis=1), [0.05, 0.95])
    return Comparison(
        attempts=len(pairs),
        champion=float(old.mean()),
        challenger=float(new.mean()),
        difference=float(difference.mean()),
        low=float(low),
        high=float(high),
    )


def by_location(usages: Iterable[Usage]) -> Mapping[str, list[Usage]]:
    """Returns attempts by code location."""
    found: dict[str, list[Usage]] = defaultdict(list)
    for usage in usages:
        found[usage.identity.code_location].append(usage)
    return found


def _key(usage: Usage) -> tuple[str, str, int]:
    return usage.run_id, usage.step_key, usage.attempt
