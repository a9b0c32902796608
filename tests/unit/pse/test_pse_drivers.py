"""What a step's memory and time are seen to follow, beside the bytes of its inputs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from cu_market.domain.features import StepFeatures
from cu_market.domain.request import StepIdentity
from cu_market.domain.units import MIB
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.pse import Forecast
from cu_market.pse.models.forecaster import LearnedForecaster

STEP = StepIdentity(node="s")
AT = datetime(2024, 1, 1, tzinfo=UTC)
SIZES = (3, 11, 5, 8, 2, 14, 9, 6, 12, 4)


def attempt(number: int, peak_mib: float, **fields: Any) -> Usage:
    end = AT + timedelta(hours=number)
    wall_ms = round(20 * peak_mib)
    usage = Usage(
        run_id=f"r{number}",
        step_key="s",
        attempt=1,
        identity=STEP,
        provider="local",
        resource_id="local/standard",
        started_at=end - timedelta(milliseconds=wall_ms),
        ended_at=end,
        cpu_millis=1000,
        memory_bytes=4096 * MIB,
        measurement=Measurement(
            wall_ms=wall_ms, cpu_ms=wall_ms, peak_memory_bytes=round(peak_mib * MIB)
        ),
        ending=Ending.OK,
    )
    return replace(usage, **fields)


def forecast(history: list[Usage], **known: Any) -> Forecast:
    found = LearnedForecaster().forecast(STEP, history[::-1], **known)
    assert found is not None
    return found


def rows(count: int) -> StepFeatures:
    return StepFeatures(input_rows=count * 10**6)


def keys(count: int) -> StepFeatures:
    return StepFeatures(upstream_keys=count)


def limit(count: int) -> StepFeatures:
    return StepFeatures(config=(("limit", float(count)), ("seed", 7.0)))


@pytest.mark.parametrize(
    ("of", "name"), [(rows, "input rows"), (keys, "upstream keys"), (limit, "config limit")]
)
def test_memory_and_time_follow_what_drove_them(of: Any, name: str) -> None:
    history = [attempt(n, 100 + 50 * size, features=of(size)) for n, size in enumerate(SIZES)]
    small, large = (forecast(history, features=of(size)) for size in (3, 13))
    assert small.driver == large.driver == name
    assert f"following {name}" in large.in_words()
    assert small.memory.p50 == pytest.approx(250 * MIB, rel=0.1)
    assert large.memory.p50 == pytest.approx(750 * MIB, rel=0.1)
    assert small.allocation_bytes() < 400 * MIB < 750 * MIB <= large.allocation_bytes()
    assert small.duration_ms.p50 == pytest.approx(20 * 250, rel=0.15)
    assert large.duration_ms.p50 == pytest.approx(20 * 750, rel=0.15)


def test_bytes_are_the_driver_unless_another_follows_clearly_better() -> None:
    def history(by_bytes: bool) -> list[Usage]:
        source = Random(1)
        return [
            attempt(
                n,
                100 + 50 * size,
                input_bytes=(size if by_bytes else source.randint(1, 20)) * MIB,
                features=rows(size),
            )
            for n, size in enumerate(SIZES)
        ]

    known: dict[str, Any] = {"input_bytes": 6 * MIB, "features": rows(13)}
    assert forecast(history(by_bytes=True), **known).driver == "input bytes"
    found = forecast(history(by_bytes=False), **known)
    assert found.driver == "input rows"
    assert found.memory.p50 == pytest.approx(750 * MIB, rel=0.1)


def test_a_date_is_followed_where_peaks_have_grown_with_it() -> None:
    days = [
        attempt(day, 200 + 10 * day, identity=replace(STEP, partition=f"2024-01-{day:02d}"))
        for day in range(1, 16)
    ]
    identity = replace(STEP, partition="2024-01-16")
    found = LearnedForecaster().forecast(identity, days[::-1])
    assert found is not None
    assert found.driver == "partition"
    assert found.memory.p50 == pytest.approx(360 * MIB, rel=0.05)


def test_chance_and_few_attempts_are_not_followed() -> None:
    source = Random(3)
    noise = [
        attempt(n, source.uniform(100, 800), features=limit(size)) for n, size in enumerate(SIZES)
    ]
    assert forecast(noise, features=limit(5)).driver == ""
    few = [attempt(n, 100 * size, features=rows(size)) for n, size in enumerate((1, 2, 3))]
    assert forecast(few, features=rows(5)).driver == ""
    unknown = [attempt(n, 100 + 50 * size, features=rows(size)) for n, size in enumerate(SIZES)]
    assert forecast(unknown).driver == ""  # nobody says how many rows there are now
    unknown[4] = replace(unknown[4], features=StepFeatures())
    assert forecast(unknown, features=rows(5)).driver == ""


def test_what_is_no_amount_of_work_is_not_believed_to_grow_in_proportion() -> None:
    history = [attempt(n, 50 * size, features=limit(size)) for n, size in enumerate(SIZES)]
    far = forecast(history, features=limit(1400))
    assert far.memory.p50 <= 1.05 * 700 * MIB * 100**0.25 + 1
    grown = [attempt(n, 50 * size, features=rows(size)) for n, size in enumerate(SIZES)]
    assert forecast(grown, features=rows(140)).memory.p50 > 5000 * MIB


def test_another_config_weighs_half() -> None:
    def of(digest: str) -> StepFeatures:
        return StepFeatures(config_digest=digest)

    history = [
        attempt(n, 300 if n % 2 else 900, features=of("small" if n % 2 else "large"))
        for n in range(10)
    ]
    small, large = (forecast(history, features=of(each)) for each in ("small", "large"))
    assert small.memory_sample.mean < 0.9 * large.memory_sample.mean
    assert small.memory_sample.share_above(500 * MIB) == pytest.approx(1 / 3, abs=0.05)
