"""Dagster's own event log as history: real runs of Dagster's own executors, then read."""

from collections import Counter
from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from cu_market.cli.app import app
from cu_market.dagster_compat.event_history import event_usages
from cu_market.dagster_compat.measured_outputs import MeasuredOutputs
from cu_market.dagster_compat.outline import outline_of_snapshot
from cu_market.domain.outline import StepOutline
from cu_market.domain.usage import Ending, Usage
from cu_market.ledger.sql import open_ledger

pytestmark = pytest.mark.integration

ASKING = {"cu/memory_gb": "2", "cu/cpu_cores": "2"}


@dg.op(out=dg.DynamicOut(int), config_schema={"count": int, "mode": str}, tags=ASKING)
def scatter(context: dg.OpExecutionContext):
    for number in range(context.op_config["count"]):
        yield dg.DynamicOutput(number, mapping_key=f"k{number}", metadata={"size_bytes": 100})


@dg.op(
    tags={
        "dagster-k8s/config": {
            "container_config": {"resources": {"requests": {"memory": "512Mi", "cpu": "250m"}}}
        }
    }
)
def work(context: dg.OpExecutionContext, number: int) -> dg.Output[int]:
    return dg.Output(number, metadata={"dagster/row_count": 10 + number})


@dg.op(tags=ASKING)
def gather(numbers: list[int]) -> int:
    return sum(numbers)


@dg.op(tags=ASKING, retry_policy=dg.RetryPolicy(max_retries=1))
def flaky(context: dg.OpExecutionContext, total: int) -> int:
    if context.retry_number == 0:
        raise RuntimeError("once")
    return total


@dg.op
def asks_for_nothing(total: int) -> None:
    pass


@dg.job(resource_defs={"io_manager": dg.FilesystemIOManager()})
def fan() -> None:
    asks_for_nothing(flaky(gather(scatter().map(work).collect())))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        config = {"ops": {"scatter": {"config": {"count": 3, "mode": "all"}}}}
        assert fan.execute_in_process(
            instance=instance,
            run_config=config,
            resources={"io_manager": dg.FilesystemIOManager(base_dir=str(tmp_path / "kept"))},
        ).success
    return tmp_path


def read(home: Path) -> tuple[dict[tuple[str, int], Usage], Counter[str]]:
    bad: Counter[str] = Counter()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        found = list(event_usages(instance, limit=10, bad=bad))
    return {(u.step_key, u.attempt): u for u in found}, bad


def test_steps_attempts_inputs_and_what_they_asked_for(home: Path) -> None:
    found, bad = read(home)
    assert set(found) == {
        ("scatter", 1),
        *((f"work[k{n}]", 1) for n in range(3)),
        ("gather", 1),
        ("flaky", 1),
        ("flaky", 2),
    }
    assert bad == {"step that asks for no memory": 1}
    assert found["flaky", 1].ending is Ending.ERROR
    assert found["flaky", 2].ending is Ending.OK
    scatter_ = found["scatter", 1]
    assert scatter_.memory_bytes == scatter_.measurement.peak_memory_bytes == 2 * 10**9
    assert scatter_.declared_bytes is None  # that peaks equal what is asked for is not known
    assert scatter_.cpu_millis == 2000
    assert scatter_.features.config == (("count", 3.0),)
    assert scatter_.features.config_digest
    assert found["work[k1]", 1].memory_bytes == 512 * 2**20
    assert found["work[k1]", 1].identity.node == "work"


def test_sizes_and_rows_of_mapped_outputs_reach_who_reads_them(home: Path) -> None:
    found, _ = read(home)
    assert found["work[k1]", 1].input_bytes == 100  # its own of the three alone
    assert found["work[k1]", 1].features.upstream_keys is None
    gathered = found["gather", 1]
    assert gathered.features.upstream_keys == 3
    assert gathered.features.input_rows == 10 + 11 + 12
    assert found["flaky", 2].features.input_rows is None


def test_the_command_imports_once_and_counts_what_is_left_out(home: Path) -> None:
    def run() -> str:
        result = CliRunner().invoke(
            app, ["pse", "import", "--home", str(home)], catch_exceptions=False
        )
        assert result.exit_code == 0, result.output
        return result.output

    assert "7 attempts are new, 0 were known" in run()
    again = run()
    assert "0 attempts are new, 7 were known" in again
    assert "1 x step that asks for no memory" in again
    with open_ledger(f"sqlite:///{home / 'cu-market' / 'ledger.db'}") as ledger:
        assert len(ledger.usages()) == 7


def test_a_step_that_is_not_written_for_measures_nothing(home: Path) -> None:
    with dg.DagsterInstance.from_config(str(home)) as instance:
        (run,) = instance.get_runs()
        assert run.execution_plan_snapshot_id
        snapshot = instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
        outline = outline_of_snapshot(run, snapshot)
    steps: dict[str, StepOutline] = {step.step_key: step for step in outline.steps}
    measured = MeasuredOutputs().measured(steps["gather"], "gather")
    assert measured.input_bytes is None
    assert [(data.source, data.size_bytes) for data in measured.inputs] == [("work[?]", None)]
    assert measured.features.upstream_keys is None
