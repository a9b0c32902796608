"""A forecast for a step that has never run: what other steps of its code location have shown.

Where its author asked for memory, how far such asking has been off so far; else what steps like it
needed. Likeness is by name, by input bytes and by what was asked for (see lending.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from cu_market.domain.request import Quantiles, StepIdentity
from cu_market.domain.spec import Risk
from cu_market.domain.usage import Ending, Usage
from cu_market.pse.distribution import Distribution
from cu_market.pse.evidence import reference_duration_ms
from cu_market.pse.forecast import Forecast, round_memory
from cu_market.pse.models.attitude import ATTITUDES, peaks_of, plan_sizes
from cu_market.pse.models.lending import (
    NAME_GAIN,
    RECORDS,
    Lenders,
    lender_of,
    similarity,
    trigrams,
)
from cu_market.pse.models.mixture import Pool, pooled

LEAST_STEPS = 3
"""Other steps that must have ended well: two are no sample."""

STAND_IN_RATIO = 1.1
"""Nothing above this much of the largest peak is foreseen where nobody asked for anything."""

FIRST_RATIO = {Risk.BALANCED: 0.8, Risk.SAFE: 0.95}
"""Of others' peaks, how many a first size is enough for; under cost the ladder says."""

EVERY_STEP = 1.0
"""Each step weighs the same: which of them the new one is like is not told by how dear they are."""

NO_AMOUNT = Quantiles(p10=0, p50=0, p95=0)


def borrow_forecast(
    identity: StepIdentity,
    lent: Sequence[Usage],
    *,
    declared_bytes: int | None,
    default_bytes: int,
    input_bytes: int | None = None,
) -> Forecast | None:
    """Returns what others' attempts let expect of a step, or None where they are too few.

    Args:
        identity: the step.
        lent: attempts of its code location, newest first; its own are left out.
        declared_bytes: what its author asked for, or None.
        default_bytes: what a step is given of which nothing is known.
        input_bytes: of its inputs, or None.
    """
    records: dict[str, list[Usage]] = defaultdict(list)
    for usage in lent:
        is_told = usage.ending is Ending.OK and not usage.external
        if is_told and usage.identity.node != identity.node:
            records[usage.identity.node].append(usage)
    if declared_bytes is not None:
        records = {
            node: [u for u in found if u.declared_bytes is not None]
            for node, found in records.items()
        }
    steps = {node: found[:RECORDS] for node, found in sorted(records.items()) if found}
    if len(steps) < LEAST_STEPS:
        return None
    largest = max(u.measurement.peak_memory_bytes for found in steps.values() for u in found)
    stand_in = max(default_bytes, round(STAND_IN_RATIO * largest))
    lenders = Lenders()
    for node, found in steps.items():
        peaks = np.asarray([max(1, u.measurement.peak_memory_bytes) for u in found], dtype=float)
        presets = np.asarray([u.declared_bytes or stand_in for u in found], dtype=float)
        x = np.asarray([max(1, u.input_bytes or 1) for u in found], dtype=float)
        lenders.update(lender_of(node, peaks, x, presets, EVERY_STEP))
    preset = float(declared_bytes or stand_in)
    values, masses = lenders.borrow(
        identity.node,
        preset,
        float(max(1, input_bytes or 1)),
        even_bytes=float(declared_bytes or default_bytes),
    )
    pool = pooled(values, masses, masses)
    duration = _duration(identity.node, steps)
    return Forecast(
        identity=identity,
        memory_sample=peaks_of(pool),
        memory=pool.quantiles(),
        cpu_ms=NO_AMOUNT,
        duration_ms=duration.quantiles(),
        read_bytes=NO_AMOUNT,
        written_bytes=NO_AMOUNT,
        useful_cpu_millis=0,
        attempts=0,
        borrowed_from=len(steps),
        headroom_ratio=0.0,
        ladders=tuple((risk, _ladder(pool, risk, duration)) for risk in Risk),
        peaks=peaks_of(pool),
    )


def _ladder(pool: Pool, risk: Risk, duration: Distribution) -> tuple[int, ...]:
    """Returns the sizes to try: of least expected cost, from the risk's quantile on.

    What an end for memory costs beside money is not planned for here: with so wide a distribution
    the largest size that anybody ever needed would be asked for each time.
    """
    planned = plan_sizes(pool, ATTITUDES[Risk.COST], duration_ms=float(duration.quantile(0.5)))
    rungs = [round_memory(rung) for rung in planned]
    if risk is Risk.COST:
        return tuple(dict.fromkeys(rungs))
    first = round_memory(pool.quantile(FIRST_RATIO[risk]))
    return tuple(dict.fromkeys([first, *(rung for rung in rungs if rung > first)]))


def _duration(node: str, steps: dict[str, list[Usage]]) -> Distribution:
    """Returns others' durations in milliseconds, a step's weight shared by its attempts."""
    own = trigrams(node)
    return Distribution.of(
        (
            reference_duration_ms(usage.measurement),
            (1 + NAME_GAIN * similarity(own, trigrams(other)) ** 2) / len(found),
        )
        for other, found in steps.items()
        for usage in found
    )
