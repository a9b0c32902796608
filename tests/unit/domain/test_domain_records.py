from __future__ import annotations

import pytest

from cu_market.domain.allocation import (
    FINAL,
    HOLDING,
    TRANSITIONS,
    AllocationState,
    IllegalTransitionError,
    check_transition,
)
from cu_market.domain.bid import Rates
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.request import Quantiles
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GB
from cu_market.domain.usage import Measurement


def test_every_state_that_holds_capacity_leads_to_a_final_one() -> None:
    for state in HOLDING:
        reached, frontier = {state}, [state]
        while frontier:
            fresh = TRANSITIONS[frontier.pop()] - reached
            reached |= fresh
            frontier.extend(fresh)
        assert reached & FINAL
    assert all(not TRANSITIONS[state] for state in FINAL)


@pytest.mark.parametrize("current", AllocationState)
@pytest.mark.parametrize("wanted", AllocationState)
def test_only_the_tables_arrows_are_allowed(
    current: AllocationState, wanted: AllocationState
) -> None:
    if wanted in TRANSITIONS[current]:
        check_transition(current, wanted)
        return
    with pytest.raises(IllegalTransitionError, match=f"{current} cannot become {wanted}"):
        check_transition(current, wanted)


def test_a_vector_is_compared_by_dimension() -> None:
    small = ResourceVector(cpu_millis=1000, memory_bytes=GB)
    large = ResourceVector(cpu_millis=2000, memory_bytes=GB, gpu_count=1)
    assert small.fits_in(large)
    assert large.exceeds(small) == ("cpu_millis", "gpu_count")
    assert (small + small).minus(large) == ResourceVector(memory_bytes=GB)
    assert small.times(3).cpu_millis == 3000


@pytest.mark.parametrize("amount", [-1, 1.5])
def test_a_vector_refuses_what_is_no_amount(amount: float) -> None:
    with pytest.raises(InvalidInputError, match=r"ResourceVector\.memory_bytes"):
        ResourceVector(memory_bytes=amount)  # type: ignore[arg-type]


def test_quantiles_must_rise() -> None:
    with pytest.raises(InvalidInputError, match="not rising"):
        Quantiles(p10=2, p50=1, p95=3)


def test_elastic_prices_are_exact() -> None:
    rates = Rates(core_microusd_per_hour=40_000, gb_microusd_per_hour=5_000)
    size = ResourceVector(cpu_millis=1500, memory_bytes=2 * GB)
    assert rates.price_microusd_per_hour(size) == 70_000


@pytest.mark.parametrize(
    ("cpu_ms", "waited_ms", "delivered"),
    [(900, 100, 900), (500, 500, 500), (900, None, None), (10, 10, None)],
)
def test_delivered_speed_is_only_stated_where_it_means_something(
    cpu_ms: int, waited_ms: int | None, delivered: int | None
) -> None:
    measured = Measurement(wall_ms=1, cpu_ms=cpu_ms, peak_memory_bytes=0, waited_ms=waited_ms)
    assert measured.delivered_millis == delivered
