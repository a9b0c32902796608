from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from cu_market.domain.request import Sizing, StepIdentity
from cu_market.domain.spec import ComputeSpec, PartitionRule, Risk, SizingMode
from cu_market.domain.units import GIB, MIB
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.pse import (
    Distribution,
    EmpiricalForecaster,
    Forecast,
    next_after_oom,
    performance_millis,
    size_step,
)
from cu_market.pse.forecast import MEMORY_STEP_BYTES

STEP = StepIdentity(node="a")
AT = datetime(2024, 1, 1, tzinfo=UTC)
peaks = st.integers(min_value=0, max_value=64 * GIB)


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    return Usage(
        run_id=draw(st.sampled_from("abc")),
        step_key="a",
        attempt=1,
        identity=STEP,
        code_version=draw(st.sampled_from(["", "1", "2"])),
        provider="p",
        resource_id="p/r",
        started_at=AT,
        ended_at=AT,
        cpu_millis=draw(st.integers(1, 64_000)),
        memory_bytes=draw(st.integers(MIB, 64 * GIB)),
        measurement=Measurement(
            wall_ms=draw(st.integers(0, 10**7)),
            cpu_ms=draw(st.integers(0, 10**8)),
            peak_memory_bytes=draw(peaks),
            waited_ms=draw(st.none() | st.integers(0, 10**8)),
        ),
        ending=draw(st.sampled_from(Ending)),
        external=draw(st.booleans()),
    )


def forecast(history: list[Usage], code: str | None = None) -> Forecast | None:
    return EmpiricalForecaster().forecast(STEP, history, code_version=code)


def good(usage: Usage, peak: int | None = None) -> Usage:
    peak = usage.measurement.peak_memory_bytes if peak is None else peak
    measured = replace(usage.measurement, peak_memory_bytes=peak)
    return replace(usage, ending=Ending.OK, external=False, code_version="", measurement=measured)


@given(st.lists(usages(), max_size=12), st.sampled_from([None, "", "1", "3"]))
def test_any_history_gives_an_orderly_forecast_or_none(
    history: list[Usage], code: str | None
) -> None:
    found = forecast(history, code)
    if found is None:
        return
    sizes = [found.allocation_bytes(risk) for risk in Risk]
    assert sizes == sorted(sizes)
    assert all(size >= 64 * MIB and size % MEMORY_STEP_BYTES == 0 for size in sizes)
    assert sizes[-1] >= found.memory_sample.largest
    assert found.duration_ms.p50 >= 1
    if found.attempts:
        assert found.useful_cpu_millis >= 250


@given(usages(), st.integers(1, 28), peaks)
def test_more_of_the_same_never_asks_for_more(usage: Usage, count: int, peak: int) -> None:
    fewer, more = (forecast([good(usage, peak)] * n) for n in (count, count + 1))
    assert fewer is not None
    assert more is not None
    assert more.headroom_ratio < fewer.headroom_ratio
    assert more.allocation_bytes() <= fewer.allocation_bytes()
    assert more.memory.p95 <= fewer.memory.p95
    assert more.duration_ms.p95 <= fewer.duration_ms.p95


@given(st.lists(usages(), max_size=8), st.integers(1, 4))
def test_a_larger_peak_never_asks_for_less(history: list[Usage], factor: int) -> None:
    grown = [
        replace(
            usage,
            memory_bytes=usage.memory_bytes * factor,
            measurement=replace(
                usage.measurement, peak_memory_bytes=usage.measurement.peak_memory_bytes * factor
            ),
        )
        for usage in history
    ]
    before, after = forecast(history), forecast(grown)
    assert (before is None) == (after is None)
    if before is not None and after is not None:
        assert after.allocation_bytes() >= before.allocation_bytes()


@given(usages(), st.lists(usages(), max_size=8))
def test_the_newest_outgrown_size_is_not_asked_for_again(
    killed: Usage, history: list[Usage]
) -> None:
    killed = replace(killed, run_id="new", ending=Ending.OUT_OF_MEMORY, external=False)
    found = forecast([killed, *history])
    assert found is not None
    for risk in Risk:
        assert found.allocation_bytes(risk) >= 2 * killed.memory_bytes
    sized = size_step(ComputeSpec(memory_bytes=MIB), forecast=found)
    assert sized.needs.memory_bytes >= 2 * killed.memory_bytes


@given(st.integers(MIB, 64 * GIB), peaks, st.lists(usages(), max_size=6), st.integers(0, 128 * GIB))
def test_after_running_out_there_is_always_more(
    limit: int, used: int, history: list[Usage], largest: int
) -> None:
    found = forecast(history)
    assert next_after_oom(limit, used, found) > max(limit, used)
    assert next_after_oom(limit, used, found, largest_bytes=largest) > limit


optional = st.none() | st.integers(MIB, 64 * GIB)
specs = st.builds(
    ComputeSpec,
    cpu_millis=optional,
    memory_bytes=optional,
    min_cpu_millis=optional,
    min_memory_bytes=optional,
    duration_ms=st.none() | st.integers(1, 10**7),
    sizing=st.none() | st.sampled_from(SizingMode),
    external=st.none() | st.booleans(),
)


@given(specs, specs, specs, specs, st.lists(usages(), max_size=6), st.integers(1, 3), st.booleans())
def test_floors_hold_under_every_voice(
    op: ComputeSpec,
    rule: ComputeSpec,
    job: ComputeSpec,
    override: ComputeSpec,
    history: list[Usage],
    min_attempts: int,
    in_partition: bool,
) -> None:
    declared = replace(op, partition_rules=(PartitionRule(pattern="2*", spec=rule),))
    found = forecast(history)
    sized = size_step(
        declared,
        partition="2024" if in_partition else "",
        override=override,
        job=job,
        forecast=found,
        min_attempts=min_attempts,
    )
    assert sized.needs.memory_bytes >= (sized.spec.min_memory_bytes or 0)
    assert sized.needs.cpu_millis >= (sized.spec.min_cpu_millis or 0)
    if found and sized.spec.sizing is not SizingMode.FIXED and not sized.spec.external:
        assert sized.needs.memory_bytes >= found.floor_bytes
    if override.memory_bytes is not None:
        assert sized.sizing in (Sizing.OVERRIDE, Sizing.LEARNED_BOUND)
        assert sized.needs.memory_bytes >= override.memory_bytes
    assert sized.reason


@given(st.lists(st.tuples(st.integers(0, 10**9), st.floats(0.01, 10)), min_size=1, max_size=20))
def test_quantiles_rise_and_agree_with_the_share_above(pairs: list[tuple[int, float]]) -> None:
    sample = Distribution.of(pairs)
    points = [sample.quantile(ratio / 20) for ratio in range(21)]
    assert points == sorted(points)
    assert points[-1] == sample.largest
    for ratio in (0.1, 0.5, 0.95):
        assert sample.share_above(sample.quantile(ratio)) <= 1 - ratio + 1e-9
    assert 1 - 1e-9 <= sample.effective_size <= len(pairs) + 1e-9


@given(st.lists(st.integers(0, 3000), max_size=50), st.integers(0, 3000))
def test_performance_stays_in_range_and_moves_towards_the_newest(
    delivered: list[int], newest: int
) -> None:
    before, after = performance_millis(delivered), performance_millis([newest, *delivered])
    assert 100 <= before <= 1500
    assert 100 <= after <= 1500
    assert performance_millis([newest, *delivered]) <= performance_millis([newest + 10, *delivered])
