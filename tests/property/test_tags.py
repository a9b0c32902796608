from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cu_market.domain.compute import compute
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.spec import ComputeSpec, Interruptible, OnOom, PartitionRule, Risk, SizingMode
from cu_market.domain.tags import (
    format_settings,
    format_step_tags,
    parse_run_tags,
    parse_settings,
    parse_step_tags,
)
from cu_market.domain.vocabulary import RUN_TAGS, STEP_TAGS

amounts = st.none() | st.integers(min_value=1, max_value=10**12)
sizes = st.none() | st.integers(min_value=2**20, max_value=10**15)
flags = st.none() | st.booleans()
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_./:@-]{0,12}", fullmatch=True)
several = st.none() | st.lists(names, min_size=1, max_size=3, unique=True).map(tuple)


def specs() -> st.SearchStrategy[ComputeSpec]:
    return st.builds(
        ComputeSpec,
        cpu_millis=amounts,
        memory_bytes=sizes,
        gpu_type=st.none() | names,
        gpu_count=amounts,
        duration_ms=amounts,
        max_price_microusd_per_hour=amounts,
        providers=several,
        locations=several,
        together=st.none() | names,
        sizing=st.none() | st.sampled_from(SizingMode),
        on_oom=st.none() | st.sampled_from(OnOom),
        risk=st.none() | st.sampled_from(Risk),
        external=flags,
        interruptible=st.none() | st.sampled_from(Interruptible),
        min_cpu_millis=amounts,
        min_memory_bytes=sizes,
    )


said_specs = specs().filter(lambda spec: bool(spec.said()))


@given(specs())
def test_tags_read_back_as_the_same_spec(spec: ComputeSpec) -> None:
    assert parse_step_tags(format_step_tags(spec), "op 'x'") == (spec, [])


@given(said_specs)
def test_settings_read_back_as_the_same_spec(spec: ComputeSpec) -> None:
    assert parse_settings(format_settings(spec), "here") == (spec, [])


@given(st.dictionaries(st.text(min_size=1, max_size=8), said_specs, min_size=1, max_size=3))
def test_partition_rules_read_back_in_order(rules: dict[str, ComputeSpec]) -> None:
    written = tuple(PartitionRule(pattern=p, spec=s) for p, s in rules.items())
    spec = ComputeSpec(partition_rules=written)
    assert parse_step_tags(format_step_tags(spec), "op 'x'") == (spec, [])


@given(specs(), specs(), specs())
def test_merging_is_associative_and_the_particular_wins(
    a: ComputeSpec, b: ComputeSpec, c: ComputeSpec
) -> None:
    assert a.merged_over(b).merged_over(c) == a.merged_over(b.merged_over(c))
    assert a.merged_over(b).said() == {**b.said(), **a.said()}


anything = st.text(max_size=30) | st.integers() | st.floats() | st.none() | st.booleans()
tag_names = st.sampled_from([r.name for r in (*STEP_TAGS, *RUN_TAGS)]) | st.text(max_size=12).map(
    lambda text: f"cu/{text}"
)


@given(st.dictionaries(tag_names, anything, max_size=6))
def test_reading_never_raises_and_every_problem_names_its_tag(tags: dict[str, Any]) -> None:
    for _, problems in (parse_step_tags(tags, "op 'x'"), parse_run_tags(tags)):
        for problem in problems:
            assert any(f"tag {name}" in problem.where for name in tags)
            assert problem.what
            assert problem.remedy


@given(
    st.recursive(anything, lambda inner: st.dictionaries(st.text(max_size=5), inner, max_size=3))
)
def test_strange_kubernetes_tags_never_raise(config: Any) -> None:
    parse_step_tags({"dagster-k8s/config": config}, "op 'x'")
    parse_step_tags({"dagster-k8s/config": json.dumps(config)}, "op 'x'")
    for amount in ("cpu", "memory", "nvidia.com/gpu"):
        nested = {"container_config": {"resources": {"requests": {amount: config}}}}
        parse_step_tags({"dagster-k8s/config": nested}, "op 'x'")


@given(st.text(max_size=20))
def test_compute_reads_or_explains_any_text(text: str) -> None:
    for argument in ("cpu", "memory", "duration", "max_price", "gpu", "provider", "min_memory"):
        explained = [f"compute({argument})"]
        try:
            compute(**{argument: text})  # type: ignore[arg-type]
        except InvalidInputError as error:
            explained = [problem.where for problem in error.problems]
        assert explained == [f"compute({argument})"]
