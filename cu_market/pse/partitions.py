"""Partitions nearby: whose attempts stand in where a partition has few of its own.

A key is one or more dimensions joined by ``|``. A dimension is a date, a number, or a category.
Categories are alike or not; dates and numbers are near by how far apart they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cu_market.domain.request import StepIdentity
from cu_market.domain.usage import Ending, Usage

ENOUGH = 3
"""With so many good ends of its own a partition needs no other's."""

DIMENSIONS = "|"
_DATE = re.compile(r"\d{4}-\d{2}(-\d{2}([-T ]\d{2}:\d{2}(:\d{2})?)?)?$")
_SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, slots=True, order=True)
class Distance:
    """How far one partition is from another.

    Attributes:
        other_categories: dimensions that name something else.
        apart: sum over dates (days) and numbers of how far apart they are.
    """

    other_categories: int
    apart: float


def ordinal(dimension: str) -> float | None:
    """Returns a date as days since 1970, a number as it is, None for a category."""
    if _DATE.match(dimension):
        text = dimension if len(dimension) > 7 else f"{dimension}-01"
        day, rest = text[:10], text[11:]
        try:
            moment = datetime.fromisoformat(f"{day}T{rest or '00:00'}+00:00")
        except ValueError:
            return None  # shaped like a date, but there is no such day
        return moment.timestamp() / _SECONDS_PER_DAY
    try:
        value = float(dimension)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def distance(one: str, other: str) -> Distance:
    """Returns how far apart two partition keys are."""
    left, right = one.split(DIMENSIONS), other.split(DIMENSIONS)
    if len(left) != len(right):
        return Distance(max(len(left), len(right)), 0.0)
    categories, apart = 0, 0.0
    for mine, theirs in zip(left, right, strict=True):
        a, b = ordinal(mine), ordinal(theirs)
        if a is not None and b is not None:
            apart += abs(a - b)
        elif mine != theirs:
            categories += 1
    return Distance(categories, apart)


def place_of(partition: str) -> float | None:
    """Returns where a partition lies on its only date or number, None where it has none or more."""
    found = [value for value in map(ordinal, partition.split(DIMENSIONS)) if value is not None]
    return found[0] if len(found) == 1 else None


def is_thin(identity: StepIdentity, own: Sequence[Usage]) -> bool:
    """Whether a partition's own attempts leave something to be learned from others'."""
    good = sum(1 for usage in own if usage.ending is Ending.OK and not usage.external)
    return bool(identity.partition) and good < ENOUGH


def with_neighbours(
    identity: StepIdentity, own: Sequence[Usage], others: Sequence[Usage]
) -> tuple[Usage, ...]:
    """Returns a partition's history: its own attempts, then where these are few the nearest ones'.

    Args:
        identity: the step and its partition.
        own: its attempts, newest first.
        others: of the step's partitions, newest first; its own among them are left out.
    """
    if not is_thin(identity, own):
        return tuple(own)
    lent = [usage for usage in others if usage.identity.partition != identity.partition]
    lent.sort(key=lambda usage: distance(identity.partition, usage.identity.partition))
    return (*own, *lent)  # of equally near ones the newest first: the sort is stable
