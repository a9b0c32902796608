"""A step that fills what it is given is told from one that needs more, and not fed without end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from ledger_rows import a_usage, an_award

from cu_market.domain.request import StepIdentity
from cu_market.domain.resources import ResourceVector
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.pse import EmpiricalForecaster
from cu_market.pse.forecast import OOM_FACTOR, Forecaster
from cu_market.pse.models.forecaster import LearnedForecaster

STEP = StepIdentity(node="step")
MIB = 2**20
FORECASTERS = [EmpiricalForecaster(), LearnedForecaster()]

Peak = Callable[[int, int], float]
"""Bytes used, from the number of the run and the size given."""


def used(number: int, size: int, peak: float, cpu_ms: int) -> Usage:
    ending = Ending.OK if peak <= size else Ending.OUT_OF_MEMORY
    given = ResourceVector(cpu_millis=1000, memory_bytes=size)
    return a_usage(
        an_award(f"run {number}", "step", size=given),
        identity=STEP,
        measurement=Measurement(
            wall_ms=1000, cpu_ms=cpu_ms, peak_memory_bytes=round(min(peak, size))
        ),
        ending=ending,
    )


def sizes_given(
    forecaster: Forecaster, runs: int, peak: Peak, work: Callable[[int], int] = lambda _: 900
) -> list[int]:
    """Returns each run's last size, from a declared 512 MiB on; doubled where it was short."""
    history: list[Usage] = []
    given = []
    for number in range(runs):
        found = forecaster.forecast(STEP, history)
        size = found.allocation_bytes() if found is not None else 512 * MIB
        while True:
            attempt = used(number, size, peak(number, size), work(number))
            history.insert(0, attempt)
            if attempt.ending is Ending.OK:
                break
            size *= OOM_FACTOR
        given.append(size)
    return given


@pytest.mark.parametrize("forecaster", FORECASTERS)
@pytest.mark.parametrize("share", [0.85, 0.9, 0.95, 0.99])
def test_what_fills_its_size_is_not_fed_without_end(forecaster: Forecaster, share: float) -> None:
    given = sizes_given(forecaster, 40, lambda _, size: share * size)
    assert max(given) <= 2 * given[0]
    assert sum(given[10:]) / 30 <= 1.35 * given[0]


@pytest.mark.parametrize("forecaster", FORECASTERS)
def test_data_that_grows_is_no_filling(forecaster: Forecaster) -> None:
    """More work each time, so more memory is no wonder."""
    history: list[Usage] = []
    for number in range(30):
        peak = 300 * MIB * 1.05**number
        found = forecaster.forecast(STEP, history)
        assert found is None or not found.filled_bytes
        size = 1.1 * peak if found is None else max(peak, found.allocation_bytes())
        history.insert(0, used(number, round(size), peak, round(900 * 1.05**number)))


@pytest.mark.parametrize("forecaster", FORECASTERS)
def test_ended_for_memory_at_the_least_size_it_was_no_filling(forecaster: Forecaster) -> None:
    filling = [used(number, size, 0.9 * size, 900) for number, size in enumerate(
        [700 * MIB, 640 * MIB, 580 * MIB, 512 * MIB])]  # fmt: skip
    found = forecaster.forecast(STEP, filling)
    assert found is not None
    assert found.allocation_bytes() == found.filled_bytes == 512 * MIB
    assert "512.0 MiB sufficed" in found.in_words()
    short = replace(used(9, 512 * MIB, 600 * MIB, 900), run_id="short")
    again = replace(used(9, 1024 * MIB, 600 * MIB, 900), run_id="short", attempt=2)
    found = forecaster.forecast(STEP, [again, short, *filling])
    assert found is not None
    assert not found.filled_bytes
    assert found.allocation_bytes() >= 600 * MIB


@pytest.mark.parametrize("forecaster", FORECASTERS)
def test_where_no_size_was_recorded_the_peak_that_stands_for_it_tells_nothing(
    forecaster: Forecaster,
) -> None:
    peaks = [400, 450, 500, 900, 420, 480]
    history = [used(k, peak * MIB, peak * MIB, 900) for k, peak in enumerate(peaks)]
    found = forecaster.forecast(STEP, history)
    assert found is not None
    assert found.filled_bytes == 0
    assert found.allocation_bytes() >= 900 * MIB
