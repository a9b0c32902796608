from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cu_market.domain.request import StepIdentity
from cu_market.domain.spec import ComputeSpec, Mode, OnMarketFailure, target_names
from cu_market.domain.tag_reference import reference_page
from cu_market.domain.tags import check_override_targets, parse_run_tags, parse_step_tags
from cu_market.domain.vocabulary import RUN_TAGS, STEP_TAGS, WRITTEN_TAGS

WHERE = "op 'train'"


def messages(tags: dict[str, Any]) -> list[str]:
    return [str(problem) for problem in parse_step_tags(tags, WHERE)[1]]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("cu/memory", "cu/memory_gb"),
        ("cu/memroy_gb", "cu/memory_gb"),
        ("cu/cpu", "cu/cpu_cores"),
        ("cu/max_price", "cu/max_price_usd_per_hour"),
        ("cu/Sizing", "cu/sizing"),
        ("cu/partition", "cu/partitions"),
    ],
)
def test_a_misspelt_tag_gets_the_nearest_name(written: str, meant: str) -> None:
    assert messages({written: "4"}) == [
        f"op 'train': tag {written}='4': unknown tag; did you mean {meant}?"
    ]


def test_a_tag_like_no_other_gets_the_list() -> None:
    (message,) = messages({"cu/zzz": "1"})
    assert "unknown tag; known: cu/cpu_cores, " in message


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "-inf", "x", "", "1e999999999"])
@pytest.mark.parametrize(
    "name", ["cpu_cores", "memory_gb", "duration_seconds", "max_price_usd_per_hour", "gpu_count"]
)
def test_unusable_amounts_name_tag_and_remedy(name: str, value: str) -> None:
    spec, problems = parse_step_tags({f"cu/{name}": value}, WHERE)
    assert spec == ComputeSpec()
    (problem,) = problems
    assert problem.where == f"op 'train': tag cu/{name}"
    assert problem.value == value
    assert problem.remedy.startswith("write ")


def test_a_plain_number_is_gigabytes_and_a_unit_is_honoured() -> None:
    assert parse_step_tags({"cu/memory_gb": "8"}, WHERE)[0].memory_bytes == 8 * 10**9
    assert parse_step_tags({"cu/memory_gb": "8GiB"}, WHERE)[0].memory_bytes == 8 * 2**30
    assert "not a size" in messages({"cu/memory_gb": "8Gb"})[0]


def test_run_tags_on_an_op_are_sent_to_the_run() -> None:
    (message,) = messages({"cu/deadline_seconds": "60"})
    assert message.endswith("speaks of a run; put it into the job's or the run's tags")


def test_tags_of_others_and_of_the_market_itself_are_left_alone() -> None:
    tags = {
        "owner": "me",
        "dagster/concurrency_key": "x",
        **dict.fromkeys(WRITTEN_TAGS, "anything"),
    }
    assert parse_step_tags(tags, WHERE) == (ComputeSpec(), [])
    assert parse_run_tags(tags)[1] == []


def test_kubernetes_requests_size_the_step_where_no_tag_does() -> None:
    config = {
        "container_config": {
            "resources": {
                "requests": {"cpu": "250m", "memory": "64Mi", "ephemeral-storage": "1Gi"},
                "limits": {"cpu": "2", "memory": "1Gi", "nvidia.com/gpu": 1},
            }
        }
    }
    for written in (config, json.dumps(config)):
        spec, problems = parse_step_tags(
            {"dagster-k8s/config": written, "cu/cpu_cores": "1"}, WHERE
        )
        assert problems == []
        assert spec == ComputeSpec(cpu_millis=1000, memory_bytes=64 * 2**20, gpu_count=1)
        assert spec.origin("memory_bytes") == "dagster-k8s/config requests.memory=64Mi"
        assert spec.origin("cpu_millis") == "cu/cpu_cores=1"


def test_kubernetes_limits_stand_in_for_missing_requests() -> None:
    config = {"containerConfig": {"resources": {"limits": {"memory": "129e6"}}}}
    assert parse_step_tags({"dagster-k8s/config": config}, WHERE)[0].memory_bytes == 129_000_000


def test_bad_kubernetes_amounts_name_their_place() -> None:
    config = {"container_config": {"resources": {"requests": {"memory": "lots", "cpu": "-1"}}}}
    found = messages({"dagster-k8s/config": config})
    assert found == [
        "op 'train': tag dagster-k8s/config: container_config.resources.requests.cpu='-1': "
        "negative; write cores, such as 2 or 500m",
        "op 'train': tag dagster-k8s/config: container_config.resources.requests.memory='lots': "
        "not a Kubernetes quantity; write 512Mi or 2Gi",
    ]
    assert "not JSON" in messages({"dagster-k8s/config": "{"})[0]


@pytest.mark.parametrize("config", [None, 3, [], {}, {"container_config": None}, "null"])
def test_kubernetes_tags_without_resources_say_nothing(config: object) -> None:
    assert parse_step_tags({"dagster-k8s/config": config}, WHERE) == (ComputeSpec(), [])


def test_run_tags() -> None:
    run, problems = parse_run_tags(
        {
            "cu/deadline_seconds": "2h",
            "cu/budget_usd": "$1.50",
            "cu/priority": "-3",
            "cu/mode": "recommend",
            "cu/value_of_time_usd_per_hour": "0",
            "cu/on_market_failure": "wait",
            "cu/memory_gb": "2",
        }
    )
    assert problems == []
    assert (run.deadline_ms, run.budget_microusd, run.priority) == (7_200_000, 1_500_000, -3)
    assert (run.mode, run.on_market_failure) == (Mode.RECOMMEND, OnMarketFailure.WAIT)
    assert run.value_of_time_microusd_per_hour == 0
    assert run.step_defaults == ComputeSpec(memory_bytes=2 * 10**9)


@pytest.mark.parametrize(
    ("tags", "priority"),
    [
        ({"dagster/priority": "7"}, 7),
        ({"dagster/priority": "-2"}, -2),
        ({"dagster/priority": "7", "cu/priority": "0"}, 0),
        ({"dagster/priority": "soon"}, None),  # Dagster starts it as any other
        ({"dagster/priority": "9" * 30}, None),
        ({}, None),
    ],
)
def test_a_runs_priority_is_dagsters_unless_it_says_so(
    tags: dict[str, str], priority: int | None
) -> None:
    run, problems = parse_run_tags(tags)
    assert problems == []
    assert run.priority == priority


def test_overrides_of_a_partition_come_before_those_of_all() -> None:
    run, problems = parse_run_tags(
        {
            "cu/for.lake.flights": "memory=8GiB,cpu=2",
            "cu/for.lake.flights@2024-*": "memory=16GiB",
            "cu/for.lake.flights@2024-05": "memory=32GiB,provider=a|b",
        }
    )
    assert problems == []
    names = target_names(StepIdentity(node="lake/flights+lake/delays"), "flights_op")
    assert names == {"lake.flights", "lake.delays", "flights_op"}
    assert run.override_for(names, "2023-01") == ComputeSpec(memory_bytes=2**33, cpu_millis=2000)
    assert run.override_for(names, "2024-01") == ComputeSpec(memory_bytes=2**34, cpu_millis=2000)
    assert run.override_for(names, "2024-05") == ComputeSpec(
        memory_bytes=2**35, cpu_millis=2000, providers=("a", "b")
    )
    assert run.override_for({"other"}, "") is None


def test_bad_overrides_are_all_named() -> None:
    run, problems = parse_run_tags(
        {
            "cu/for.": "cpu=1",
            "cu/for.train": "memroy=8GiB,cpu=x,foo,cpu=2,cpu=3",
            "cu/for.long": "provider=" + "a" * 200,
            "cu/partitions": "{}",
            "cu/prioritty": "1",
        }
    )
    said = [f"{p.where}: {p.what}; {p.remedy}" for p in problems]
    assert said == [
        "run: tag cu/for.: names no step; write cu/for.<op or asset>",
        "run: tag cu/for.long: 209 characters, more than 200; say less in one tag",
        "run: tag cu/for.train: setting memroy: unknown setting; did you mean memory?",
        "run: tag cu/for.train: cpu: not a number; write cores above 0, such as 2 or 0.5",
        "run: tag cu/for.train: 'foo' sets nothing; write settings such as memory=8GiB,cpu=2",
        "run: tag cu/for.train: cpu twice; say it once",
        "run: tag cu/partitions: speaks of an op; put it into the op's tags",
        "run: tag cu/prioritty: unknown tag; did you mean cu/priority?",
    ]
    (unmatched,) = check_override_targets(run, ["trains", "long"])
    assert (unmatched.what, unmatched.remedy) == ("unknown step", "did you mean trains?")


@pytest.mark.parametrize("value", ["[]", "{", "{}", "3"])
def test_partition_rules_must_be_a_filled_object(value: str) -> None:
    assert "not a JSON object" in messages({"cu/partitions": value})[0]


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ("0.4", "less than 0.5"),
        ("95", "more than 0.99"),
        ("1", "more than 0.99"),
        ("0.95001", "finer than a thousandth"),
        ("often", "not a number"),
    ],
)
def test_a_confidence_is_a_share(value: str, what: str) -> None:
    run, problems = parse_run_tags({"cu/deadline_confidence": value})
    (problem,) = problems
    assert str(problem) == (
        f"run: tag cu/deadline_confidence='{value}': {what}; write a share from 0.5 to 0.99"
    )
    assert run.deadline_confidence_permille is None
    read, _ = parse_run_tags({"cu/deadline_confidence": "0.975"})
    assert read.deadline_confidence_permille == 975


def test_the_examples_of_the_vocabulary_can_be_read() -> None:
    for rule in STEP_TAGS:
        assert parse_step_tags({rule.name: rule.example}, WHERE)[1] == []
    for rule in (*STEP_TAGS, *RUN_TAGS):
        assert parse_run_tags({rule.name: rule.example})[1] == []


def test_the_reference_page_is_the_vocabularys() -> None:
    page = Path(__file__).parents[3] / "docs" / "tags.md"
    assert page.read_text() == reference_page(), (
        "run: python -m cu_market.domain.tag_reference > docs/tags.md"
    )


def test_merging_keeps_where_each_value_was_written() -> None:
    op, _ = parse_step_tags({"cu/memory_gb": "2"}, WHERE)
    job = parse_run_tags({"cu/memory_gb": "4", "cu/cpu_cores": "3"})[0].step_defaults
    merged = op.merged_over(job)
    assert (merged.memory_bytes, merged.cpu_millis) == (2 * 10**9, 3000)
    assert merged.origin("memory_bytes") == "cu/memory_gb=2"
    assert merged.origin("cpu_millis") == "cu/cpu_cores=3"
    assert op.merged_over(None) is op
