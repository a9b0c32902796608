"""From attempts on few and on many cores to Amdahl's law, against steps whose law is known."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_pse_drivers import attempt

from cu_market.domain.scaling import Scaling
from cu_market.domain.spec import ComputeSpec
from cu_market.domain.usage import Measurement, Usage
from cu_market.pse import size_step
from cu_market.pse.empirical import EmpiricalForecaster
from cu_market.pse.evidence import Observation
from cu_market.pse.scaling import fit_scaling

TRUE = Scaling(waiting_ms=5_000, serial_ms=10_000, parallel_ms=80_000, most_millis=64_000)


def ran(law: Scaling, cores: int, number: int = 0) -> Usage:
    measured = Measurement(
        wall_ms=law.duration_ms(1000 * cores),
        cpu_ms=law.serial_ms + law.parallel_ms,
        peak_memory_bytes=2**28,
    )
    return attempt(number, 1, measurement=measured, cpu_millis=1000 * cores)


def fit(usages: Sequence[Usage]) -> Scaling:
    found = fit_scaling([Observation(usage=u, weight=1.0, likeness=1.0) for u in usages])
    assert found is not None
    return found


def test_two_sizes_tell_the_law() -> None:
    found = fit([ran(TRUE, cores) for cores in (1, 2, 4, 8)])
    assert found.parallel_ms == pytest.approx(TRUE.parallel_ms, rel=0.01)
    assert found.serial_ms == pytest.approx(TRUE.serial_ms, rel=0.01)
    assert found.waiting_ms == pytest.approx(TRUE.waiting_ms, rel=0.01)
    for cores in (1, 2, 4, 8):
        assert found.duration_ms(1000 * cores) == pytest.approx(
            TRUE.duration_ms(1000 * cores), rel=0.01
        )


def test_one_size_claims_the_least_that_must_be_parallel() -> None:
    law = Scaling(waiting_ms=0, serial_ms=0, parallel_ms=80_000, most_millis=64_000)
    assert fit([ran(law, 4)]).parallel_ms == 80_000  # nothing else explains four busy cores
    assert fit([ran(TRUE, 4)]).parallel_ms == pytest.approx(73_333, abs=1)
    one = fit([ran(TRUE, 1)])
    assert (one.parallel_ms, one.duration_ms(8000)) == (0, 95_000)


@given(
    st.integers(0, 50_000),
    st.integers(0, 50_000),
    st.integers(1, 200_000),
    st.lists(st.sampled_from([1, 2, 3, 4, 8, 16]), min_size=1, max_size=6),
)
def test_what_one_size_shows_is_never_more_than_the_truth(
    waiting: int, serial: int, parallel: int, sizes: list[int]
) -> None:
    law = Scaling(waiting_ms=waiting, serial_ms=serial, parallel_ms=parallel, most_millis=64_000)
    found = fit([ran(law, sizes[0])])
    # Rounding a wall time up to a millisecond may hide one per core.
    assert found.parallel_ms <= parallel + 2
    mixed = fit([ran(law, cores, n) for n, cores in enumerate(sizes)])
    parts = (mixed.waiting_ms, mixed.serial_ms, mixed.parallel_ms)
    assert min(parts) >= 0
    assert mixed.serial_ms + mixed.parallel_ms == pytest.approx(serial + parallel, abs=2)


def test_other_work_on_other_cores_is_no_slope() -> None:
    small = Scaling(waiting_ms=0, serial_ms=10_000)
    large = Scaling(waiting_ms=0, serial_ms=40_000)
    assert fit([ran(large, 1), ran(small, 4)]).parallel_ms == 0


def test_gains_are_believed_up_to_twice_the_cores_kept_busy() -> None:
    busy = Scaling(waiting_ms=0, serial_ms=0, parallel_ms=80_000, most_millis=64_000)
    found = fit([ran(busy, 4)])
    assert found.duration_ms(8_000) == found.duration_ms(64_000) == 10_000
    idle = Scaling(waiting_ms=0, serial_ms=50_000, parallel_ms=50_000, most_millis=64_000)
    assert fit([ran(idle, 8)]).most_millis == 8_000  # eight were given, and used in part


def test_durations_of_other_sizes_are_taken_to_the_size_asked_for() -> None:
    law = Scaling(waiting_ms=0, serial_ms=4_000, parallel_ms=96_000, most_millis=64_000)
    history = [ran(law, cores, n) for n, cores in enumerate((2, 2, 2, 8))]
    found = EmpiricalForecaster().forecast(history[0].identity, history)
    assert found is not None
    assert found.scaling is not None
    expected = law.duration_ms(found.useful_cpu_millis)
    assert found.duration_ms.p10 == pytest.approx(expected, rel=0.05)
    assert found.duration_ms.p50 == pytest.approx(expected, rel=0.05)


def test_nothing_that_ended_well_is_no_law() -> None:
    assert fit_scaling([]) is None


def test_a_duration_is_that_on_the_cores_that_are_asked_for() -> None:
    law = Scaling(waiting_ms=0, serial_ms=1_000, parallel_ms=36_000, most_millis=64_000)
    history = [ran(law, 4, n) for n in range(3)]
    found = EmpiricalForecaster().forecast(history[0].identity, history)
    assert found is not None
    assert found.useful_cpu_millis == 4_000
    assert found.scaling is not None
    usual = size_step(ComputeSpec(), forecast=found)
    assert usual.duration_ms == found.duration_ms.p50 == pytest.approx(10_000, rel=0.05)
    one = size_step(ComputeSpec(), override=ComputeSpec(cpu_millis=1_000), forecast=found)
    assert one.duration_ms == pytest.approx(found.scaling.duration_ms(1_000), rel=0.05)
    assert one.duration_ms > 3 * usual.duration_ms
