"""What drives a step's need: of everything known before it begins, what its past has followed.

Candidates are the bytes and rows of its inputs, how many mapped outputs it gathers, the numbers of
its config, and the date or number of its partition. Bytes are the driver unless another follows the
past clearly better, by the correlation of ranks, which asks for no straight line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cu_market.domain.features import StepFeatures
from cu_market.domain.usage import Usage
from cu_market.pse.ladder.program import Floats
from cu_market.pse.partitions import place_of

MIN_DISTINCT = 3
"""Distinct values before a line through them is asked anything."""

MIN_OTHERS, LEAST_CORRELATION = 5, 0.7
"""Attempts, and correlation, that anything but bytes needs: among many candidates one always
follows a few attempts by chance."""

CLEARLY = 0.1
"""By so much another's correlation is above that of bytes."""

BYTES, PARTITION = "input bytes", "partition"
GROWING = frozenset({BYTES, "input rows", "upstream keys"})
"""Amounts of work: with twice as much, twice the memory is credible."""


@dataclass(frozen=True, slots=True)
class Driver:
    """One amount, of each attempt and of what is about to run.

    Attributes:
        name: in words.
        x: positive amounts, oldest attempt first, shape (n,).
        at: the new attempt's, positive.
    """

    name: str
    x: Floats
    at: float

    @property
    def growth_power(self) -> float:
        """Beyond the largest amount seen, growth by this power of the amount is credible."""
        return 1.0 if self.name in GROWING else 0.25


def find_driver(
    attempts: Sequence[Usage],
    peaks: Floats,
    *,
    input_bytes: int | None,
    features: StepFeatures,
    partition: str = "",
) -> Driver | None:
    """Returns what the peaks have followed, or None where nothing known has moved with them.

    Args:
        attempts: oldest first, at least one.
        peaks: theirs, shape (n,).
        input_bytes, features, partition: of what is about to run.
    """
    known = amounts_of(input_bytes, features, partition)
    past = [amounts_of(u.input_bytes, u.features, u.identity.partition) for u in attempts]
    best: tuple[float, Driver] | None = None
    for driver in _candidates(known, past):
        strength = abs(_rank_correlation(driver.x, peaks))
        if driver.name == BYTES:
            best = strength + CLEARLY, driver
            continue
        is_believed = len(attempts) >= MIN_OTHERS and strength >= LEAST_CORRELATION
        if is_believed and (best is None or strength > best[0]):
            best = strength, driver
    return best[1] if best else None


def amounts_of(
    input_bytes: int | None, features: StepFeatures, partition: str
) -> Mapping[str, float]:
    """Returns every amount known of a step's work, by name, bytes first."""
    found: dict[str, float] = {} if input_bytes is None else {BYTES: float(max(1, input_bytes))}
    found.update(features.amounts)
    place = place_of(partition) if partition else None
    return found if place is None else found | {PARTITION: place}


def _candidates(
    known: Mapping[str, float], past: Sequence[Mapping[str, float]]
) -> Iterator[Driver]:
    for name, at in known.items():
        values = [each[name] for each in past if name in each]
        if len(values) < len(past) or len(set(values)) < MIN_DISTINCT:
            continue
        lowest = min(at, *values)
        shift = 0.0 if lowest > 0 else 1.0 - lowest
        yield Driver(name, np.asarray(values) + shift, at + shift)


def _rank_correlation(one: Floats, other: Floats) -> float:
    """Returns Spearman's correlation, equal values sharing a rank; 0 where one is constant."""
    _, first = np.unique(one, return_inverse=True)
    _, second = np.unique(other, return_inverse=True)
    if not first.any() or not second.any():
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
