from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cu_market.domain.request import StepIdentity
from cu_market.domain.spec import Risk
from cu_market.domain.units import MIB
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.pse import Forecast, next_after_oom
from cu_market.pse.models.forecaster import LearnedForecaster

STEP = StepIdentity(node="flights")
AT = datetime(2024, 1, 1, tzinfo=UTC)


def attempt(
    peak_mib: float,
    *,
    run: str = "r",
    ending: Ending = Ending.OK,
    given_mib: int = 4096,
    code: str = "",
    input_bytes: int | None = None,
) -> Usage:
    return Usage(
        run_id=run,
        step_key="flights",
        attempt=1,
        identity=STEP,
        code_version=code,
        provider="local",
        resource_id="local/standard",
        started_at=AT,
        ended_at=AT + timedelta(seconds=10),
        cpu_millis=1000,
        memory_bytes=given_mib * MIB,
        measurement=Measurement(
            wall_ms=10_000, cpu_ms=9_000, peak_memory_bytes=round(peak_mib * MIB)
        ),
        ending=ending,
        input_bytes=input_bytes,
    )


def forecast(
    *history: Usage, code_version: str | None = None, input_bytes: int | None = None
) -> Forecast:
    found = LearnedForecaster().forecast(
        STEP, history, code_version=code_version, input_bytes=input_bytes
    )
    assert found is not None
    return found


def test_nothing_known_is_no_forecast_and_a_bound_alone_is_the_empirical_one() -> None:
    assert LearnedForecaster().forecast(STEP, []) is None
    killed = forecast(attempt(1000, ending=Ending.OUT_OF_MEMORY, given_mib=1024))
    assert (killed.attempts, killed.ladders) == (0, ())
    assert killed.allocation_bytes() >= killed.floor_bytes == 2048 * MIB


@pytest.mark.parametrize("peak", [210, 400, 777, 3000])
def test_a_steady_step_is_given_at_most_a_quarter_more(peak: int) -> None:
    for history in ([attempt(peak)], [attempt(peak * 1.01), attempt(peak)]):
        for risk in (Risk.COST, Risk.BALANCED):
            size = forecast(*history).allocation_bytes(risk)
            assert peak * 1.01 * MIB < size <= 1.25 * peak * MIB + 16 * MIB


def test_risk_orders_first_sizes_and_ladders_rise() -> None:
    found = forecast(*(attempt(400 + 40 * (place % 7)) for place in range(20)))
    cost, balanced, safe = (found.allocation_bytes(risk) for risk in Risk)
    assert cost <= balanced <= safe
    assert cost < safe
    for _, ladder in found.ladders:
        assert list(ladder) == sorted(set(ladder))


def test_other_code_widens_rather_than_forgets() -> None:
    seen = [attempt(400, code="1")] * 3
    same, other = (forecast(*seen, code_version=version) for version in ("1", "2"))
    assert other.memory.p50 == same.memory.p50
    assert other.memory.p95 > same.memory.p95
    assert other.allocation_bytes() > same.allocation_bytes()
    assert other.allocation_bytes() < 2 * same.allocation_bytes()


def test_after_running_out_the_next_rung_is_taken() -> None:
    found = forecast(*(attempt(400 + 100 * (place % 3)) for place in range(12)))
    reached = 420 * MIB
    size = next_after_oom(reached, reached, found)
    assert size == found.next_rung(reached)
    assert 1.1 * reached <= size < 2 * reached
    beyond = 5000 * MIB
    assert next_after_oom(beyond, beyond, found) == 2 * beyond + (-2 * beyond) % (16 * MIB)


def test_a_learned_bound_is_a_floor_on_the_ladder() -> None:
    seen = [attempt(400 + 100 * (place % 3), run=str(place)) for place in range(12)]
    killed = attempt(520, run="k", ending=Ending.OUT_OF_MEMORY, given_mib=528)
    found = forecast(killed, *seen)
    assert found.allocation_bytes() >= found.floor_bytes > 528 * MIB * 1.1 - 1
    assert found.floor_bytes < 2 * 528 * MIB


def test_what_was_outgrown_and_never_resolved_stays_possible() -> None:
    seen = [attempt(400, run="b"), attempt(1020, run="a", ending=Ending.OUT_OF_MEMORY,
                                           given_mib=1024)]  # fmt: skip
    assert forecast(*seen).ladder(Risk.COST)[-1] >= 2048 * MIB


def test_memory_follows_the_inputs_size() -> None:
    seen = [attempt(100 + size, input_bytes=size * 10**6) for size in (200, 300, 500, 700, 900)]
    small, large = (forecast(*seen, input_bytes=size * 10**6) for size in (250, 1200))
    assert small.memory.p50 == pytest.approx(350 * MIB, rel=0.1)
    assert large.memory.p50 == pytest.approx(1300 * MIB, rel=0.1)
    unknown = forecast(*(replace(usage, input_bytes=None) for usage in seen), input_bytes=10**9)
    assert unknown.memory.p50 == 600 * MIB


def test_what_runs_on_is_longer_than_the_quick_ones_that_have_ended() -> None:
    quick = [attempt(300 + n) for n in range(10)]  # 10 s each
    slow = [60_000.0] * 10
    biased = LearnedForecaster().forecast(STEP, quick)
    known = LearnedForecaster().forecast(STEP, quick, running_ms=slow)
    assert biased is not None
    assert known is not None
    assert biased.duration_ms.p95 < 20_000
    assert known.duration_ms.p95 > 60_000
    assert known.duration_ms.p10 == 10_000  # half of them are known to be quick
    assert known.memory == biased.memory
    # What has run for less than the quick ones says nothing yet.
    fresh = LearnedForecaster().forecast(STEP, quick, running_ms=[1_000.0] * 10)
    assert fresh is not None
    assert fresh.duration_ms.p50 == 10_000
