from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cu_market.domain.request import StepIdentity
from cu_market.domain.units import MIB
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.pse.models.forecaster import LearnedForecaster
from cu_market.pse.partitions import Distance, distance, is_thin, place_of, with_neighbours

AT = datetime(2024, 1, 1, tzinfo=UTC)


def step(partition: str = "") -> StepIdentity:
    return StepIdentity(node="daily", partition=partition)


def attempt(
    partition: str, peak_mib: float = 300, *, number: int = 0, ending: Ending = Ending.OK
) -> Usage:
    end = AT + timedelta(hours=number)
    return Usage(
        run_id=f"{partition}-{number}",
        step_key="daily",
        attempt=1,
        identity=step(partition),
        provider="local",
        resource_id="local/standard",
        started_at=end - timedelta(seconds=10),
        ended_at=end,
        cpu_millis=1000,
        memory_bytes=1024 * MIB,
        measurement=Measurement(
            wall_ms=10_000, cpu_ms=9_000, peak_memory_bytes=round(peak_mib * MIB)
        ),
        ending=ending,
    )


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("2024-01-03", "2024-01-01", Distance(0, 2.0)),
        ("2024-02", "2024-01", Distance(0, 31.0)),
        ("2024-01-01-06:00", "2024-01-01-00:00", Distance(0, 0.25)),
        ("7", "3.5", Distance(0, 3.5)),
        ("EWR", "JFK", Distance(1, 0.0)),
        ("EWR", "EWR", Distance(0, 0.0)),
        ("2024-01-01|EWR", "2024-01-04|JFK", Distance(1, 3.0)),
        ("2024-01-01|EWR", "2024-01-04", Distance(2, 0.0)),
        ("2024-13-45", "2024-01-01", Distance(1, 0.0)),  # shaped like a date, no such day
        ("nan", "1", Distance(1, 0.0)),
    ],
)
def test_how_far_apart_partitions_are(one: str, other: str, expected: Distance) -> None:
    assert distance(one, other) == expected
    assert distance(other, one) == expected


def test_where_a_partition_lies() -> None:
    assert place_of("1970-01-11") == 10.0
    assert place_of("EWR|12") == 12.0
    assert place_of("EWR") is None
    assert place_of("2024-01-01|12") is None


def test_a_new_day_is_sized_by_the_days_before_it() -> None:
    days = [attempt(f"2024-01-{day:02d}", 300 + day, number=day) for day in range(20, 0, -1)]
    history = with_neighbours(step("2024-01-21"), (), days)
    assert [u.identity.partition[-2:] for u in history[:3]] == ["20", "19", "18"]
    forecast = LearnedForecaster().forecast(step("2024-01-21"), history)
    assert forecast is not None
    assert forecast.attempts == forecast.of_others == 20
    assert 320 * MIB < forecast.allocation_bytes() < 420 * MIB
    assert "20 of them other partitions'" in forecast.in_words()


def test_its_own_attempts_come_first_and_alone_where_they_are_enough() -> None:
    own = [attempt("JFK", 900, number=n) for n in (3, 2, 1)]
    others = [attempt("EWR", 300, number=n) for n in (9, 8)]
    assert not is_thin(step("JFK"), own)
    assert with_neighbours(step("JFK"), own, [*others, *own]) == tuple(own)
    assert with_neighbours(step("JFK"), own[:1], [*others, *own]) == (own[0], *others)
    assert not is_thin(step(), ())  # what has no partition has no neighbours


def test_another_category_weighs_less_than_the_same() -> None:
    same = [attempt(f"2024-01-{day:02d}|EWR", 300, number=day) for day in (1, 2)]
    other = [attempt(f"2024-01-{day:02d}|JFK", 900, number=day) for day in range(1, 9)]
    identity = step("2024-01-03|EWR")
    history = with_neighbours(identity, (), [*other, *same])
    assert [u.identity.partition for u in history[:2]] == ["2024-01-02|EWR", "2024-01-01|EWR"]
    forecast = LearnedForecaster().forecast(identity, history)
    even = LearnedForecaster().forecast(step(), [replace(u, identity=step()) for u in history])
    assert forecast is not None
    assert even is not None
    assert forecast.memory.p10 == pytest.approx(300 * MIB, rel=0.01)
    assert forecast.memory_sample.share_above(400 * MIB) < 0.85 * even.memory_sample.share_above(
        400 * MIB
    )


def test_another_partition_that_was_too_large_is_no_bound_of_this_one() -> None:
    killed = attempt("JFK", 1024, ending=Ending.OUT_OF_MEMORY)
    good = attempt("EWR", 200, number=1)
    forecast = LearnedForecaster().forecast(step("LGA"), (good, killed))
    assert forecast is not None
    assert forecast.lower_bound_bytes == 0
    assert forecast.peaks is not None
    assert forecast.peaks.largest >= 2048 * MIB  # but it is not forgotten
    own = LearnedForecaster().forecast(step("JFK"), (killed,))
    assert own is not None
    assert own.lower_bound_bytes == 1024 * MIB
