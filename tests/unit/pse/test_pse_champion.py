"""Models are trained on the past alone, compared with their doubt, and read back as written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cu_market.domain.problem import InvalidInputError
from cu_market.domain.request import StepIdentity
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.pse.champion.drift import find_drift
from cu_market.pse.champion.evaluation import compare, figures, is_held_back, score_all
from cu_market.pse.champion.state import (
    DEFAULT_PARAMETERS,
    ChampionForecaster,
    ModelState,
    read_state,
)
from cu_market.pse.champion.training import DEFAULT_STATE, train
from cu_market.pse.empirical import EmpiricalForecaster

T0 = datetime(2026, 1, 1, tzinfo=UTC)
MIB = 2**20
STEP = StepIdentity(code_location="here", node="fit")
BAD = ModelState(parameters={**DEFAULT_PARAMETERS, "headroom_base_ratio": 9.0})


def attempts(peaks_mib: Sequence[int], code_version: str = "") -> list[Usage]:
    return [
        Usage(
            run_id=f"run-{number:03d}",
            step_key="fit",
            attempt=1,
            identity=STEP,
            code_version=code_version,
            provider="local",
            resource_id="local/standard",
            started_at=T0 + timedelta(minutes=number),
            ended_at=T0 + timedelta(minutes=number, seconds=10),
            cpu_millis=1000,
            memory_bytes=2048 * MIB,
            measurement=Measurement(wall_ms=10_000, cpu_ms=9_000, peak_memory_bytes=peak * MIB),
            ending=Ending.OK,
        )
        for number, peak in enumerate(peaks_mib)
    ]


GROWING = [200 + 5 * n for n in range(20)]
STEADY = [400] * 20


def test_wastage_by_hand() -> None:
    (scored,) = score_all(EmpiricalForecaster(), attempts([100, 500]))
    # One attempt of 100 MiB: 20 % headroom is 120, rounded up to 128; 500 takes 128, 256, 512.
    assert scored.allocated_bytes == 128 * MIB
    assert scored.failures == 2
    assert scored.wastage == (128 + 256 + 12) * MIB * 10_000
    assert scored.relative_wastage == pytest.approx((128 + 256 + 12) / 500)


def test_no_score_looks_ahead() -> None:
    model = EmpiricalForecaster()
    before = score_all(model, attempts(GROWING))
    after = score_all(model, attempts([*GROWING[:-1], 9999]))
    assert [s.allocated_bytes for s in before] == [s.allocated_bytes for s in after]
    assert len(before) == len(GROWING) - 1


def test_an_attempt_is_not_sized_by_one_that_ran_beside_it() -> None:
    model, usages = EmpiricalForecaster(), attempts([100, 500, 500])
    beside = replace(usages[2], started_at=usages[1].started_at)
    alone, together = (score_all(model, [*usages[:2], each])[-1] for each in (usages[2], beside))
    assert alone.failures == 0
    assert together.failures == 2


def test_training_sees_nothing_that_is_held_back() -> None:
    peaks = [200 + 5 * n for n in range(40)]
    held = [number for number, usage in enumerate(attempts(peaks)) if is_held_back(usage)]
    last_held, last_other = held[-1], max(set(range(40)) - set(held))

    def losses(newest: int, peak: int) -> list[float]:
        """Of all candidates, the newest attempt having that peak; it is no other's history."""
        usages = attempts([*peaks[:newest], peak])
        return [loss for _, loss in train(usages).tried]

    assert losses(last_held, 5000) == losses(last_held, 300)
    assert losses(last_other, 5000) != losses(last_other, 300)
    assert train(attempts(GROWING)).state != train(attempts(STEADY)).state


def test_about_a_third_is_held_back_and_each_is_or_is_not_for_good() -> None:
    model, usages = EmpiricalForecaster(), attempts([400] * 300)
    held = [s.usage.run_id for s in score_all(model, usages, held_back=True)]
    others = [s.usage.run_id for s in score_all(model, usages, held_back=False)]
    assert sorted(held + others) == [s.usage.run_id for s in score_all(model, usages)]
    assert 80 <= len(held) <= 120
    newer = [s.usage.run_id for s in score_all(model, usages[100:], held_back=True)]
    assert set(newer) <= set(held)


def test_the_trained_is_better_than_a_bad_one_and_the_doubt_is_told() -> None:
    usages = attempts(STEADY)
    trained = train(usages)
    bad = score_all(BAD.forecaster(), usages, held_back=True)
    good = score_all(trained.state.forecaster(), usages, held_back=True)
    found = compare(bad, good)
    assert found.attempts == sum(map(is_held_back, usages[1:])) > 3
    assert found.is_better
    assert found.low <= found.difference <= found.high < 0
    assert not compare(good, bad).is_better
    assert not compare(good, good).is_better
    assert figures(good)["failed_ratio"] == 0
    assert compare([], good).attempts == 0


def test_a_step_that_needs_twice_as_much_drifts_and_a_steady_one_does_not() -> None:
    model = EmpiricalForecaster()
    steady = score_all(model, attempts(STEADY))
    assert find_drift(steady, trained_on=20) == []
    doubled = score_all(model, attempts([*STEADY, 900]))
    (drift,) = find_drift(doubled, trained_on=20)
    assert drift.step == "fit"
    assert "wastage" in drift.reason
    adapted = score_all(model, attempts([*STEADY, 900, 900, 900, 900, 900, 900]))
    trained_at = T0 + timedelta(minutes=20)
    (level,) = find_drift(adapted, trained_on=20, trained_at=trained_at)
    assert level.reason == "needs 2.2 times what it did"
    later = T0 + timedelta(minutes=30)
    assert find_drift(adapted, trained_on=26, trained_at=later) == []
    newest = score_all(model, attempts(STEADY * 20))[-250:]  # all that a sensor reads of 400
    before = newest[-1].usage.ended_at - timedelta(minutes=220)
    (many,) = find_drift(newest, trained_on=200, trained_at=before)
    assert many.reason == "220 new attempts"
    new_code = [*attempts(STEADY, "1"), *attempts([400] * 25, "2")[20:]]
    (version,) = find_drift(score_all(model, new_code), trained_on=20, code_versions=["1"])
    assert "new code version '2'" in version.reason


def test_a_state_is_read_back_as_written_and_nothing_else_is() -> None:
    state = train(attempts(STEADY)).state
    assert read_state(state.to_record(), digest=state.digest) == state
    with pytest.raises(InvalidInputError, match="digest"):
        read_state(BAD.to_record(), digest=state.digest)
    broken = {"family": "empirical", "parameters": {"window": 0, "spread_share": "x"}}
    with pytest.raises(InvalidInputError) as caught:
        read_state(broken)
    assert len(caught.value.problems) == 4
    with pytest.raises(InvalidInputError, match="not one of empirical, learned"):
        read_state({"family": "pickle", "parameters": {}})
    assert read_state(DEFAULT_STATE.to_record()) == DEFAULT_STATE


def test_each_location_has_its_own_champion() -> None:
    default = EmpiricalForecaster()
    both = ChampionForecaster(champions={"here": BAD.forecaster()}, default=default)
    past = attempts([400])
    elsewhere = StepIdentity(code_location="there", node="fit")
    own, other = both.forecast(STEP, past), both.forecast(elsewhere, past)
    assert own is not None
    assert other is not None
    assert own.allocation_bytes() > 1.5 * other.allocation_bytes()
