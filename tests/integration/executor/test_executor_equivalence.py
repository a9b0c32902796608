"""Whatever Dagster's multiprocess executor does, market_executor does: same run, equal records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from dagster import (
    AssetKey,
    DagsterEventType,
    DagsterInstance,
    DagsterUnmetExecutorRequirementsError,
    execute_job,
)
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from execution_record import MARKET, MULTIPROCESS, Bench, Record, job

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),
    # Dagster reads its config classes in a way that pydantic has deprecated.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]

GREET = {"greet": {"config": {"name": "Ada"}}}
ASSETS = "executor_assets.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run of the suite: the job, how it is run, how it must end."""

    job: str
    ok: bool = True
    ops: Mapping[str, Any] = field(default_factory=dict)
    file: str = "executor_jobs.py"
    more: Mapping[str, Any] = field(default_factory=dict)


CASES = {
    "config, logs, captured output": Case(job="plain", ops=GREET),
    "op subset": Case(job="plain", ops=GREET, more={"op_selection": ["greet"]}),
    "skipped": Case(job="skipping"),
    "dynamic": Case(job="dynamic", ops={"spread": {"config": {"count": 3}}}),
    "dynamic, empty": Case(job="dynamic", ops={"spread": {"config": {"count": 0}}}),
    "retries": Case(job="retried"),
    "failures": Case(job="failing", ok=False, ops={"greet": {"config": {"name": "Ada"}}}),
    "hooks": Case(job="hooked", ok=False),
    "resources": Case(job="resourceful"),
    "resource fails at its init": Case(job="resource_fails", ok=False),
    "IO manager": Case(job="shelved"),
    "crash, retried": Case(job="crash_retried"),
    "crash by exit": Case(job="crash_by_exit", ok=False),
    "crash by signal": Case(job="crash_by_kill", ok=False),
    "assets": Case(job="assets", file=ASSETS),
    "asset subset": Case(
        job="assets",
        file=ASSETS,
        more={"asset_selection": [AssetKey("base"), AssetKey("left")]},
    ),
    "partition": Case(job="by_days", file=ASSETS, more={"tags": {"dagster/partition": "tuesday"}}),
    "asset checks": Case(job="with_checks", file=ASSETS),
    "blocking check": Case(job="blocked", ok=False, file=ASSETS),
}


def run_both(bench: Bench, case: Case) -> tuple[Record, Record]:
    records = []
    for execution in (MULTIPROCESS, MARKET):
        run_id = bench.run(case.job, execution, ops=case.ops, file=case.file, **case.more)
        records.append(bench.record(run_id))
    return records[0], records[1]


@pytest.mark.parametrize("name", CASES)
def test_same_run(shared: Bench, name: str) -> None:
    case = CASES[name]
    native, market = run_both(shared, case)
    assert native.status == ("SUCCESS" if case.ok else "FAILURE")
    assert native.events
    for part in Record.__slots__:
        assert getattr(market, part) == getattr(native, part), part


BOTH = pytest.mark.parametrize("execution", [MULTIPROCESS, MARKET], ids=["multiprocess", "market"])


def most_at_once(bench: Bench, run_id: str, prefix: str) -> int:
    """Returns how many of these steps ran at once, from start to end as the event log tells it."""
    moments = []
    for kind, change in ((DagsterEventType.STEP_START, 1), (DagsterEventType.STEP_SUCCESS, -1)):
        for entry in bench.entries(run_id, kind):
            if entry.step_key.startswith(prefix):
                moments.append((entry.timestamp, change))
    running = most = 0
    for _, change in sorted(moments):
        running += change
        most = max(most, running)
    assert moments
    return most


@BOTH
def test_pools_and_concurrency_keys_hold(bench: Bench, execution: Mapping[str, Any]) -> None:
    storage = bench.instance.event_log_storage
    for key in ("narrow", "keyed"):
        storage.set_concurrency_slots(key, 1)
    run_id = bench.run("pooled", execution)
    assert bench.record(run_id).status == "SUCCESS"
    for key in ("narrow", "keyed"):
        assert most_at_once(bench, run_id, "pooled" if key == "narrow" else "keyed") == 1
        info = storage.get_concurrency_info(key)
        assert info.active_slot_count == info.pending_step_count == 0


@BOTH
def test_tag_concurrency_limits_hold(shared: Bench, execution: Mapping[str, Any]) -> None:
    ((name, options),) = execution.items()
    limit = {"key": "database", "value": "small", "limit": 1}
    config = {name: {**options, "tag_concurrency_limits": [limit]}}
    run_id = shared.run("tag_limited", config)
    assert shared.record(run_id).status == "SUCCESS"
    assert most_at_once(shared, run_id, "limited") == 1


def test_max_concurrent_holds(shared: Bench) -> None:
    run_id = shared.run("tag_limited", {"market": {"max_concurrent": 1}})
    assert most_at_once(shared, run_id, "limited") == 1


def test_disabled_retries_are_not_made(shared: Bench) -> None:
    records = []
    for execution in (MULTIPROCESS, MARKET):
        ((name, options),) = execution.items()
        run_id = shared.run("crash_retried", {name: {**options, "retries": {"disabled": {}}}})
        records.append(shared.record(run_id))
    assert records[0].events == records[1].events
    assert records[0].status == records[1].status == "FAILURE"


def test_same_re_execution_from_failure(shared: Bench, tmp_path: Path) -> None:
    records = []
    for index, execution in enumerate((MULTIPROCESS, MARKET)):
        file = tmp_path / str(index)
        ops = {"fails_without_file": {"config": {"file": str(file)}}}
        first = shared.run("resumable", execution, ops=ops)
        assert shared.record(first).status == "FAILURE"
        file.touch()
        again = shared.record(shared.rerun_from_failure("resumable", first))
        assert again.status == "SUCCESS"
        assert set(again.events) == {"fails_without_file", "last"}
        records.append(again)
    assert records[0].events == records[1].events
    assert records[0].values == records[1].values


def test_a_rerun_may_change_its_executor(shared: Bench) -> None:
    run_id = shared.run("plain", {"in_process": {}}, ops=GREET)
    assert shared.record(run_id).status == "SUCCESS"
    assert not any("Market" in message for message in shared.engine_messages(run_id))


def refusal(run: Callable[[], object]) -> str:
    """Returns what an executor says of what it cannot do."""
    with pytest.raises(DagsterUnmetExecutorRequirementsError) as caught:
        run()
    return str(caught.value)


def config_of(execution: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"execution": {"config": execution}, **more}


def test_an_in_memory_io_manager_is_refused_alike(shared: Bench) -> None:
    told = [
        refusal(lambda e=execution: shared.run("in_memory", e))
        for execution in (MULTIPROCESS, MARKET)
    ]
    assert told[0] == told[1]
    assert "will not be stored somewhere where other processes can retrieve them" in told[1]


def test_a_job_that_cannot_be_reconstructed_is_refused_alike(shared: Bench) -> None:
    from executor_jobs import tag_limited  # here: pydantic warns while it is read

    told = []
    for execution in (MULTIPROCESS, MARKET):
        config = config_of(execution)
        run = shared.instance.create_run_for_job(tag_limited, run_config=config)
        held = InMemoryJob(tag_limited)
        told.append(
            refusal(lambda j=held, r=run: execute_run(j, r, shared.instance, raise_on_error=True))
        )
    assert told[0] == told[1]
    assert "not reconstructable" in told[1]


def test_an_ephemeral_instance_is_refused_alike() -> None:
    told = []
    for execution in (MULTIPROCESS, MARKET):
        config = config_of(execution, ops=GREET)
        with DagsterInstance.ephemeral() as instance:
            told.append(
                refusal(
                    lambda c=config, i=instance: execute_job(
                        job("plain"), i, run_config=c, raise_on_error=True
                    )
                )
            )
    assert told[0] == told[1]
    assert "ephemeral" in told[1]


def test_the_market_says_what_it_did(shared: Bench) -> None:
    run_id = shared.run("plain", MARKET, ops=GREET)
    messages = shared.engine_messages(run_id)
    assert sum(message.startswith("Auction: 2 steps") for message in messages) == 1
    assert sum(message.startswith("Bill: ") for message in messages) == 2
    rows = shared.allocations(run_id)
    assert [(row.step_key, row.attempt, row.state) for row in rows] == [
        ("greet", 1, "SETTLED"),
        ("shout", 1, "SETTLED"),
    ]


def test_cost_and_use_are_in_a_materializations_metadata(shared: Bench) -> None:
    run_id = shared.run("assets", MARKET, file=ASSETS)
    (made, *_) = shared.entries(run_id, DagsterEventType.ASSET_MATERIALIZATION)
    metadata = made.dagster_event.step_materialization_data.materialization.metadata
    assert metadata["cu/cost_usd"].value > 0
    assert metadata["cu/peak_memory_gb"].value > 0
    assert metadata["cu/resource_id"].value.partition("/")[0] in ("local", "cluster")


def test_history_knows_the_code_version_that_an_asset_declares(shared: Bench) -> None:
    run_id = shared.run("assets", MARKET, file=ASSETS)
    versions = {usage.identity.node: usage.code_version for usage in shared.usages(run_id)}
    assert versions["doubled"] == "7"
    assert versions["base"] == ""
