from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cu_market.domain.problem import InvalidInputError
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.scaling import Scaling

WHOLE = Scaling(waiting_ms=1_000, serial_ms=2_000, parallel_ms=8_000, most_millis=8_000)
REQUEST = ResourceRequest(
    request_id="r",
    timestamp=datetime(2026, 1, 1, tzinfo=UTC),
    duration_ms=11_000,
    needs=ResourceVector(cpu_millis=1_000, memory_bytes=1),
)


@pytest.mark.parametrize(
    ("cores", "speed", "expected"),
    [
        (1000, 1000, 1_000 + 2_000 + 8_000),
        (4000, 1000, 1_000 + 2_000 + 2_000),
        (4000, 2000, 1_000 + 1_000 + 1_000),  # waiting is no quicker on a quicker CU
        (8000, 1000, 1_000 + 2_000 + 1_000),
        (64000, 1000, 1_000 + 2_000 + 1_000),  # so many cores were never seen in use
        (250, 1000, 11_000),  # a part of a core shares one
    ],
)
def test_amdahls_law(cores: int, speed: int, expected: int) -> None:
    assert WHOLE.duration_ms(cores, speed) == expected


def test_a_request_without_a_scaling_is_one_cores_work() -> None:
    assert REQUEST.duration_on(8000, 1000) == REQUEST.duration_on(1000, 1000) == 11_000
    assert REQUEST.duration_on(1000, 600) == 18_334  # rounded up
    scaled = replace(REQUEST, scaling=WHOLE)
    assert scaled.duration_on(8000, 1000) == 4_000


@given(
    st.tuples(*[st.integers(0, 10**7)] * 3),
    st.integers(1, 64),
    st.integers(1, 10**7),
    st.integers(1, 64_000),
)
def test_rebased_takes_so_long_on_so_many_cores(
    parts: tuple[int, int, int], most: int, wanted: int, cores: int
) -> None:
    waiting, serial, parallel = parts
    scaling = Scaling(
        waiting_ms=waiting, serial_ms=serial, parallel_ms=parallel, most_millis=1000 * most
    )
    rebased = scaling.rebased(wanted, cores)
    had = scaling.duration_ms(cores)
    assert rebased.duration_ms(cores) == (wanted if had else 0)
    assert rebased.duration_ms(64_000) <= rebased.duration_ms(1000)


def test_a_negative_part_and_less_than_a_core_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="negative part"):
        Scaling(waiting_ms=-1, serial_ms=0)
    with pytest.raises(InvalidInputError, match="below one core"):
        Scaling(waiting_ms=0, serial_ms=0, most_millis=500)
