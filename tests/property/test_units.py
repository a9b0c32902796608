from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cu_market.domain.units import (
    bytes_to_gb,
    divide_half_even,
    gb_to_bytes,
    lease_cost_microusd,
    microusd_to_usd,
    millis_to_cores,
    parse_cores,
    parse_decimal,
    parse_size,
    usd_to_microusd,
)

amounts = st.integers(min_value=1, max_value=10**15)


@given(amounts)
def test_bytes_survive_gigabytes(size: int) -> None:
    assert gb_to_bytes(bytes_to_gb(size)) == size
    assert gb_to_bytes(str(bytes_to_gb(size))) == size


@given(st.integers(min_value=-(10**15), max_value=10**15))
def test_micro_dollars_survive_dollars(money: int) -> None:
    assert usd_to_microusd(microusd_to_usd(money)) == money


@given(amounts)
def test_milli_cores_survive_cores(cpu_millis: int) -> None:
    assert parse_cores(millis_to_cores(cpu_millis)) == cpu_millis
    assert parse_cores(f"{cpu_millis}m") == cpu_millis


@given(st.integers(min_value=1, max_value=10**6))
def test_prefixes_are_decimal_or_binary(count: int) -> None:
    for power, prefix in enumerate("KMGT", start=1):
        assert parse_size(f"{count}{prefix}B") == count * 1000**power
        assert parse_size(f"{count}{prefix}iB") == count * 1024**power
        assert parse_size(f"{count} {prefix}i") == count * 1024**power


@pytest.mark.parametrize("written", ["1e999999", "1e25", "-1e25", "nan", "inf", "ten"])
def test_numbers_that_nobody_can_mean_are_refused(written: str) -> None:
    for read in (parse_decimal, parse_size, parse_cores, usd_to_microusd, gb_to_bytes):
        with pytest.raises(ValueError, match=r"not a|more than anything could have"):
            read(written)


@given(st.integers(-(10**12), 10**12), st.integers(1, 10**6))
def test_division_rounds_half_to_even(numerator: int, denominator: int) -> None:
    assert divide_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_lease_is_priced_within_half_a_micro_dollar(price: int, duration_ms: int) -> None:
    exact = Decimal(price) * duration_ms / 3_600_000
    assert abs(lease_cost_microusd(price, duration_ms) - exact) <= Decimal("0.5")
