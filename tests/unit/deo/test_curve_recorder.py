"""A curve is bounded however long the step, and loses no peak."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cu_market.deo.worker.recorder import CurveRecorder
from cu_market.domain.curve import UsageCurve


@given(
    st.lists(st.tuples(st.integers(1, 5_000), st.integers(0, 10**9)), min_size=1, max_size=200),
    st.sampled_from([2, 10, 120]),
)
def test_bounded_and_without_losing_the_peak(gaps: list[tuple[int, int]], points: int) -> None:
    recorder = CurveRecorder(points)
    elapsed = 0
    for number, (gap, memory) in enumerate(gaps):
        elapsed += gap
        recorder.add(elapsed, memory, number, 2 * number)
    curve = recorder.curve()
    assert 1 <= len(curve) <= points
    assert curve.peak_bytes == max(memory for _, memory in gaps)
    assert (curve.cpu_ms[-1], curve.io_bytes[-1]) == (len(gaps) - 1, 2 * (len(gaps) - 1))
    assert curve.duration_ms - curve.interval_ms <= elapsed < curve.duration_ms
    assert list(curve.cpu_ms) == sorted(curve.cpu_ms)
    assert UsageCurve.from_record(curve.to_record()) == curve


def test_points_are_where_the_samples_were() -> None:
    recorder = CurveRecorder(4)
    for elapsed, memory in ((10, 1), (60, 5), (260, 3)):
        recorder.add(elapsed, memory, elapsed, 0)
    curve = recorder.curve()
    assert curve.interval_ms == 100
    assert curve.memory_bytes == (5, 5, 3)
    assert curve.cpu_ms == (60, 60, 260)
