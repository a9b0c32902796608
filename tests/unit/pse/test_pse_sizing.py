from __future__ import annotations

from dataclasses import replace

import pytest

from cu_market.domain.request import Quantiles, Sizing, StepIdentity
from cu_market.domain.resources import ResourceVector
from cu_market.domain.spec import ComputeSpec, Defaults, PartitionRule, Risk, SizingMode
from cu_market.domain.tags import parse_run_tags, parse_step_tags
from cu_market.domain.units import GIB, MIB
from cu_market.pse import Distribution, Forecast, performance_millis, size_step

NONE = Quantiles(p10=0, p50=0, p95=0)
KNOWN = Forecast(
    identity=StepIdentity(node="train"),
    memory_sample=Distribution(values=(410 * MIB,), weights=(1.0,)),
    memory=Quantiles(p10=400 * MIB, p50=410 * MIB, p95=520 * MIB),
    cpu_ms=NONE,
    duration_ms=Quantiles(p10=1_000, p50=2_000, p95=3_000),
    read_bytes=NONE,
    written_bytes=NONE,
    useful_cpu_millis=500,
    attempts=3,
    headroom_ratio=0.1,
)
DECLARED, _ = parse_step_tags(
    {"cu/memory_gb": "4", "cu/cpu_cores": "2", "cu/duration_seconds": "60"}, "op 'train'"
)
RULE = replace(
    DECLARED, partition_rules=(PartitionRule(pattern="2024-*", spec=ComputeSpec(memory_bytes=GIB)),)
)
JOB = parse_run_tags({"cu/memory_gb": "3"})[0].step_defaults
RUN, _ = parse_run_tags({"cu/for.train": "memory=2GiB"})
OVERRIDE = RUN.override_for(["train"])
ALLOCATED = 464 * MIB


def test_the_order_of_the_voices() -> None:
    sized = size_step(RULE, partition="2024-05", override=OVERRIDE, job=JOB, forecast=KNOWN)
    assert (sized.needs.memory_bytes, sized.sizing) == (2 * GIB, Sizing.OVERRIDE)
    sized = size_step(RULE, partition="2024-05", job=JOB, forecast=KNOWN)
    assert (sized.needs.memory_bytes, sized.sizing) == (GIB, Sizing.DECLARED)
    sized = size_step(RULE, partition="2023-05", job=JOB, forecast=KNOWN)
    assert (sized.needs.memory_bytes, sized.sizing) == (ALLOCATED, Sizing.FORECAST)
    sized = size_step(RULE, job=JOB)
    assert (sized.needs.memory_bytes, sized.sizing) == (4 * 10**9, Sizing.DECLARED)
    sized = size_step(ComputeSpec(), job=JOB)
    assert (sized.needs.memory_bytes, sized.sizing) == (3 * 10**9, Sizing.DECLARED)
    sized = size_step(ComputeSpec())
    assert (sized.needs.memory_bytes, sized.sizing) == (GIB, Sizing.DEFAULT)


def test_each_dimension_asks_for_itself() -> None:
    sized = size_step(DECLARED, override=OVERRIDE, forecast=KNOWN)
    assert sized.needs == ResourceVector(cpu_millis=500, memory_bytes=2 * GIB)
    assert sized.duration_ms == 2_000
    assert size_step(DECLARED).needs.cpu_millis == 2000
    assert size_step(DECLARED).duration_ms == 60_000


def test_reasons_in_words() -> None:
    assert size_step(DECLARED, forecast=KNOWN).reason == (
        "forecast: p50 410.0 MiB, p95 520.0 MiB of 3 attempts"
    )
    only_memory, _ = parse_step_tags({"cu/memory_gb": "4"}, "op")
    assert size_step(only_memory).reason == "declared: cu/memory_gb=4"
    assert size_step(DECLARED).reason == (
        "declared: cu/memory_gb=4 (cores: declared: cu/cpu_cores=2)"
    )
    assert size_step(ComputeSpec()).reason == "default"
    assert size_step(only_memory, override=OVERRIDE).reason == (
        "override: cu/for.train memory=2GiB"
    )


def test_kubernetes_requests_give_way_to_the_forecast() -> None:
    config = {"container_config": {"resources": {"requests": {"memory": "2Gi"}}}}
    spec, _ = parse_step_tags({"dagster-k8s/config": config}, "op")
    assert size_step(spec).reason == "declared: dagster-k8s/config requests.memory=2Gi"
    assert size_step(spec, forecast=KNOWN).sizing is Sizing.FORECAST


def test_fixed_takes_the_declared_size_literally() -> None:
    fixed = replace(DECLARED, sizing=SizingMode.FIXED, memory_bytes=GIB)
    killed = replace(KNOWN, lower_bound_bytes=2 * GIB)
    sized = size_step(fixed, forecast=killed)
    assert sized.needs == ResourceVector(cpu_millis=2000, memory_bytes=GIB)
    assert sized.memory_quantiles == KNOWN.memory


def test_too_little_history_is_not_believed() -> None:
    assert size_step(DECLARED, forecast=KNOWN, min_attempts=4).sizing is Sizing.DECLARED
    assert size_step(DECLARED, forecast=replace(KNOWN, attempts=0)).sizing is Sizing.DECLARED


def test_external_steps_are_not_sized_by_forecasts() -> None:
    assert size_step(replace(DECLARED, external=True), forecast=KNOWN).sizing is Sizing.DECLARED


def test_a_learned_bound_lifts_every_voice_that_is_not_fixed() -> None:
    only_bound = replace(KNOWN, attempts=0, lower_bound_bytes=3 * GIB)
    sized = size_step(ComputeSpec(memory_bytes=GIB), forecast=only_bound)
    assert sized.needs.memory_bytes == 6 * GIB
    assert sized.sizing is Sizing.LEARNED_BOUND
    assert sized.reason == (
        "declared: memory_bytes=1073741824; raised to 6.0 GiB, ended for memory at 3.0 GiB"
    )
    assert size_step(ComputeSpec(), override=OVERRIDE, forecast=only_bound).needs.memory_bytes == (
        6 * GIB
    )


def test_headroom_is_cut_at_the_largest_cu_and_what_was_said_is_not() -> None:
    largest = ResourceVector(cpu_millis=250, memory_bytes=450 * MIB)
    sized = size_step(ComputeSpec(), forecast=KNOWN, largest=largest)
    assert sized.needs == ResourceVector(cpu_millis=250, memory_bytes=450 * MIB)
    smaller = ResourceVector(cpu_millis=1000, memory_bytes=300 * MIB)
    sized = size_step(ComputeSpec(), forecast=KNOWN, largest=smaller)
    assert sized.needs.memory_bytes == 410 * MIB  # measured: nobody has it, and that is said
    assert size_step(DECLARED, largest=smaller).needs.memory_bytes == 4 * 10**9
    bound = replace(KNOWN, lower_bound_bytes=GIB)
    largest = ResourceVector(cpu_millis=1000, memory_bytes=GIB + 300 * MIB)
    sized = size_step(ComputeSpec(), forecast=bound, largest=largest)
    assert sized.needs.memory_bytes == GIB + 300 * MIB


def test_floors_say_who_set_them() -> None:
    floored, _ = parse_step_tags({"cu/min_memory_gb": "1", "cu/min_cpu_cores": "2"}, "op")
    sized = size_step(floored, forecast=KNOWN)
    assert sized.needs == ResourceVector(cpu_millis=2000, memory_bytes=10**9)
    assert "raised to 953.7 MiB by cu/min_memory_gb=1" in sized.reason
    assert "raised to 2 cores by cu/min_cpu_cores=2" in sized.reason


@pytest.mark.parametrize(
    ("spec", "count"),
    [
        (ComputeSpec(), 0),
        (ComputeSpec(gpu_type="A100"), 1),
        (ComputeSpec(gpu_count=2), 2),
        (ComputeSpec(gpu_type="A100", gpu_count=4), 4),
    ],
)
def test_a_named_gpu_is_one_unless_more_are_said(spec: ComputeSpec, count: int) -> None:
    sized = size_step(spec, forecast=KNOWN)
    assert (sized.needs.gpu_count, sized.gpu_type) == (count, spec.gpu_type)


def test_the_merged_spec_comes_along() -> None:
    job = ComputeSpec(max_price_microusd_per_hour=5, risk=Risk.SAFE)
    sized = size_step(DECLARED, job=job, override=ComputeSpec(max_price_microusd_per_hour=7))
    assert sized.spec.max_price_microusd_per_hour == 7
    assert sized.spec.risk is Risk.SAFE


def test_defaults_are_configurable() -> None:
    small = Defaults(cpu_millis=250, memory_bytes=256 * MIB, duration_ms=1)
    sized = size_step(ComputeSpec(), defaults=small)
    assert sized.needs == ResourceVector(cpu_millis=250, memory_bytes=256 * MIB)
    assert sized.duration_ms == 1


def test_performance_begins_at_the_reference_and_follows_what_is_measured() -> None:
    assert performance_millis([]) == 1000
    assert performance_millis([500]) == 875
    assert performance_millis([500] * 200) == pytest.approx(541, abs=3)
    assert performance_millis([0] * 200) == 100
    assert performance_millis([9000] * 50) == 1500
    assert performance_millis([500] * 20 + [1000] * 20) < performance_millis(
        [1000] * 20 + [500] * 20
    )
