from __future__ import annotations

import math

import pytest

from cu_market.domain.compute import compute
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.spec import ComputeSpec, OnOom, Risk, SizingMode
from cu_market.domain.tags import parse_step_tags


def test_memory_is_written_as_exact_decimal_gigabytes() -> None:
    assert compute(memory="8GiB") == {"cu/memory_gb": "8.589934592"}
    assert compute(memory="512MB") == {"cu/memory_gb": "0.512"}
    assert compute(memory=2**30) == {"cu/memory_gb": "1.073741824"}


def test_every_argument_becomes_a_plain_tag() -> None:
    assert compute(
        cpu=0.5,
        gpu="A100",
        gpu_count=2,
        duration="5m",
        max_price=0.5,
        provider=["local", "cloud"],
        location="eu",
        sizing="fixed",
        on_oom="fail",
        risk="safe",
        external=True,
        interruptible=False,
        min_cpu="500m",
        min_memory="1GB",
    ) == {
        "cu/cpu_cores": "0.5",
        "cu/gpu_type": "A100",
        "cu/gpu_count": "2",
        "cu/duration_seconds": "300",
        "cu/max_price_usd_per_hour": "0.5",
        "cu/provider": "local,cloud",
        "cu/location": "eu",
        "cu/sizing": "fixed",
        "cu/on_oom": "fail",
        "cu/risk": "safe",
        "cu/external": "true",
        "cu/interruptible": "false",
        "cu/min_cpu_cores": "0.5",
        "cu/min_memory_gb": "1",
    }


def test_nothing_said_is_no_tag() -> None:
    assert compute() == {}


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(90, "90"), (0.25, "0.25"), ("90s", "90"), ("5m", "300"), ("2h", "7200"), ("1500ms", "1.5")],
)
def test_durations(written: float | str, seconds: str) -> None:
    assert compute(duration=written) == {"cu/duration_seconds": seconds}


def test_the_message_says_what_where_the_value_and_the_remedy() -> None:
    with pytest.raises(InvalidInputError) as raised:
        compute(memory="8Gb")
    assert str(raised.value) == "compute(memory)='8Gb': not a size; write 8GiB or 8GB"


def test_all_problems_come_at_once() -> None:
    with pytest.raises(InvalidInputError) as raised:
        compute(
            cpu=-1,
            memory=8,
            gpu_count=True,
            duration="soon",
            max_price=math.nan,
            sizing="big",  # type: ignore[arg-type]
            partitions={"2024-*": {"memroy": "8GiB"}},
        )
    found = {problem.where: problem.what for problem in raised.value.problems}
    assert found == {
        "compute(cpu)": "negative",
        "compute(memory)": "less than 1 MiB",
        "compute(gpu_count)": "not a number",
        "compute(duration)": "not a number",
        "compute(max_price)": "not a finite number",
        "compute(sizing)": "not one of auto, fixed",
        "compute(partitions['2024-*']): setting memroy": "unknown setting",
    }
    assert "did you mean memory?" in str(raised.value)


@pytest.mark.parametrize("value", ["1e999999999", "1e400GiB", "9" * 60])
def test_numbers_that_would_fill_memory_are_refused(value: str) -> None:
    with pytest.raises(InvalidInputError, match="more than anything could have"):
        compute(memory=value)
    with pytest.raises(InvalidInputError):
        compute(cpu=value)


@pytest.mark.parametrize("value", [0, "0", "0GiB", -5, "-5GB", "nan", "inf", "", "GiB", "8 GB 2"])
def test_bad_sizes(value: str | int) -> None:
    with pytest.raises(InvalidInputError, match="write 8GiB or 8GB"):
        compute(memory=value)


def test_tags_read_back_what_was_said() -> None:
    tags = compute(
        cpu=2,
        memory="4GiB",
        sizing="fixed",
        on_oom="fail",
        risk="cost",
        provider="local",
        partitions={"2024-*": {"memory": "16GiB", "provider": ["a", "b"]}, "*": "cpu=1"},
    )
    spec, problems = parse_step_tags(tags, "op 'train'")
    assert problems == []
    assert (spec.cpu_millis, spec.memory_bytes) == (2000, 4 * 2**30)
    assert (spec.sizing, spec.on_oom, spec.risk) == (SizingMode.FIXED, OnOom.FAIL, Risk.COST)
    assert spec.partition_rule("2024-05") == ComputeSpec(
        memory_bytes=16 * 2**30, providers=("a", "b")
    )
    assert spec.partition_rule("2023-05") == ComputeSpec(cpu_millis=1000)
    assert spec.partition_rule("") is None


@pytest.mark.parametrize("said", [3, None, ["x"]])
def test_a_partitions_rule_that_is_no_settings_is_said(said: object) -> None:
    with pytest.raises(InvalidInputError) as raised:
        compute(cpu=-1, partitions={"x": said})  # type: ignore[dict-item]
    first, second = raised.value.problems
    assert first.where == "compute(cpu)"
    assert (second.where, second.what) == ("compute(partitions['x'])", "not settings")


def test_partitions_that_are_no_mapping_are_said_and_none_is_left_out() -> None:
    with pytest.raises(InvalidInputError, match=r"compute\(partitions\)=.*not settings"):
        compute(partitions=["x"])  # type: ignore[arg-type]
    assert compute(partitions={"x": {"external": None, "cpu": 1}}) == compute(  # type: ignore[dict-item]
        partitions={"x": {"cpu": 1}}
    )
