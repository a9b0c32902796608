"""From the cores that attempts kept busy to the cores worth asking for."""

from __future__ import annotations

from collections.abc import Sequence

from cu_market.pse.distribution import Distribution
from cu_market.pse.evidence import Observation, wanted_cpu_millis

FULL_RATIO = 0.9
"""An attempt that kept this much of its cores busy might have used more: it is not shrunk."""

SLACK_MILLIS = 100
"""A tenth of a core above a size is noise of the measurement, not a want of more."""

PARTS = (250, 500, 1000)
"""Sizes up to a core; above, whole cores."""


def round_cores(wanted_millis: int) -> int:
    """Returns the smallest size (a quarter, half, or whole cores) that serves a want.

    Up to half a core a size must exceed the want by a ninth; above, a tenth of a core is forgiven:
    a single busy thread measures 1000 give or take a little, and two cores for it would be waste.
    """
    for part in PARTS[:-1]:
        if wanted_millis <= FULL_RATIO * part:
            return part
    return max(1, -(-(wanted_millis - SLACK_MILLIS) // 1000)) * 1000


def useful_cores(attempts: Sequence[Observation]) -> int:
    """Returns milli-cores worth asking for: the weighted p90 of each attempt's useful size."""
    sizes = ((_useful(seen), seen.weight) for seen in attempts)
    return Distribution.of(sizes).quantile(0.9)


def _useful(seen: Observation) -> int:
    given = seen.usage.cpu_millis
    wanted = wanted_cpu_millis(seen.usage)
    size = round_cores(wanted)
    return max(size, given) if wanted >= FULL_RATIO * given else size
