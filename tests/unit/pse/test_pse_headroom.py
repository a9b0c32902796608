"""The figures behind the headroom: ``pytest -s tests/unit/pse/test_pse_headroom.py``."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from cu_market.domain.request import StepIdentity
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.pse import EmpiricalForecaster

STEP = StepIdentity(node="steady")
AT = datetime(2024, 1, 1, tzinfo=UTC)
TRIALS = 1000
MEAN_BYTES = 400_000_000


def ended(peak: int) -> Usage:
    return Usage(
        run_id="r",
        step_key="steady",
        attempt=1,
        identity=STEP,
        provider="p",
        resource_id="p/r",
        started_at=AT,
        ended_at=AT,
        cpu_millis=1000,
        memory_bytes=10**9,
        measurement=Measurement(wall_ms=1000, cpu_ms=900, peak_memory_bytes=peak),
        ending=Ending.OK,
    )


def replay(attempts: int, variation: float) -> tuple[float, float]:
    """Returns (share of trials killed, mean of allocation over peak) of Gaussian peaks."""
    source = random.Random(f"{attempts}/{variation}")
    forecaster = EmpiricalForecaster()
    killed, ratio = 0, 0.0
    for _ in range(TRIALS):
        peaks = [int(MEAN_BYTES * (1 + source.gauss(0, variation))) for _ in range(attempts + 1)]
        found = forecaster.forecast(STEP, [ended(peak) for peak in peaks[1:]])
        assert found is not None
        allocation = found.allocation_bytes()
        killed += allocation < peaks[0]
        ratio += allocation / peaks[0]
    return killed / TRIALS, ratio / TRIALS


@pytest.mark.parametrize(
    ("attempts", "variation", "most_killed", "most_ratio"),
    [
        (1, 0.01, 0.0, 1.25),
        (1, 0.05, 0.01, 1.25),
        (2, 0.01, 0.0, 1.20),
        (2, 0.03, 0.0, 1.20),
        (2, 0.05, 0.01, 1.25),
        (2, 0.10, 0.10, 1.30),
        (4, 0.03, 0.0, 1.20),
        (10, 0.01, 0.0, 1.15),
        (10, 0.05, 0.01, 1.25),
    ],
)
def test_steady_steps_are_neither_killed_nor_far_over(
    attempts: int, variation: float, most_killed: float, most_ratio: float
) -> None:
    killed, ratio = replay(attempts, variation)
    print(f"n={attempts} cv={variation:.0%}: killed {killed:.2%}, allocated {ratio:.3f} x peak")
    assert killed <= most_killed
    assert ratio <= most_ratio
