"""What of Dagster's private parts is relied upon: each is here to fail loudly on an upgrade."""

from __future__ import annotations

import gc
import importlib
import inspect
import json
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from dagster import DagsterEvent, DagsterEventType, DagsterInstance, DagsterRun, EventLogEntry
from dagster._core.definitions.executor_definition import MULTI_PROC_CONFIG
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.execution.api import create_execution_plan, execute_plan_iterator
from dagster._core.execution.plan.active import ActiveExecution
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.execution.plan.state import KnownExecutionState
from dagster._core.execution.retries import RetryMode
from dagster._core.instance import InstanceRef
from dagster._core.storage import local_compute_log_manager
from dagster._core.storage.event_log.base import EventLogStorage
from dagster._serdes import deserialize_value, serialize_value

from cu_market.dagster_compat.code_versions import code_versions_of_workspace
from cu_market.dagster_compat.engine import crash_explanation, error_of_message, subprocess_error
from cu_market.dagster_compat.event_relay import DECIDING
from cu_market.dagster_compat.executor_config import multiprocess_fields
from cu_market.dagster_compat.launcher import resumes_runs
from cu_market.dagster_compat.step_execution import LoadedRun, RunOutline
from cu_market.dagster_compat.storage_checks import with_tables_taken_as_there
from cu_market.dagster_compat.storage_location import postgres_reference_of
from cu_market.dagster_compat.submission import open_workspace
from cu_market.domain.outline import template_key


def parameters(function: object) -> set[str]:
    return set(inspect.signature(function).parameters)  # type: ignore[arg-type]


def test_the_state_machine_has_what_the_gate_takes_hold_of() -> None:
    source = inspect.getsource(ActiveExecution)
    assert "self._executable: list[str] = []" in source
    assert "self._sort_key_fn" in source
    for name in ("_update", "get_steps_to_execute", "sleep_interval", "handle_event"):
        assert callable(getattr(ActiveExecution, name))


def test_the_state_machine_has_what_a_replay_takes_hold_of() -> None:
    # What a replay does with it, tests/unit/deo/test_gate_replay.py tries.
    source = inspect.getsource(ActiveExecution)
    for name in ("_waiting_to_retry", "_pending_skip", "_in_flight"):
        assert f"self.{name}: " in source
    for name in ("_prep_for_dynamic_outputs", "_skip_for_dynamic_outputs", "mark_skipped"):
        assert callable(getattr(ActiveExecution, name))
    assert "self._claims = set()" in inspect.getsource(InstanceConcurrencyContext)


def test_an_instance_says_whether_it_resumes_runs() -> None:
    with DagsterInstance.ephemeral() as instance:
        assert resumes_runs(instance) is False


def test_a_step_is_executed_with_these_parameters() -> None:
    assert {"step_keys_to_execute", "known_state", "repository_load_data"} <= parameters(
        create_execution_plan
    )
    assert {"run_config", "retry_mode", "instance"} <= parameters(execute_plan_iterator)


def test_a_known_state_has_these_parts_and_crosses_a_process() -> None:
    state = KnownExecutionState(previous_retry_attempts={"step": 2})
    assert deserialize_value(serialize_value(state), KnownExecutionState) == state
    assert {
        "previous_retry_attempts",
        "dynamic_mappings",
        "ready_outputs",
        "step_output_versions",
        "parent_state",
    } <= parameters(KnownExecutionState.__new__)


def test_captured_output_goes_through_the_function_that_is_replaced() -> None:
    assert parameters(local_compute_log_manager.mirror_stream_to_file) == {"stream", "filepath"}
    assert "mirror_stream_to_file(" in inspect.getsource(
        local_compute_log_manager.LocalComputeLogManager
    )


def test_the_event_storage_writes_through_the_methods_that_are_replaced() -> None:
    assert {"event"} <= parameters(EventLogStorage.store_event)
    assert {"events"} <= parameters(EventLogStorage.store_event_batch)
    writers = {name for name in dir(EventLogStorage) if name.startswith("store_event")}
    assert writers == {"store_event", "store_event_batch"}


def test_entries_and_events_are_records_that_can_be_completed() -> None:
    assert hasattr(EventLogEntry, "_replace")
    assert hasattr(DagsterEvent, "_replace")
    assert set(DagsterEventType) >= DECIDING


def test_multiprocess_has_the_fields_that_are_shared() -> None:
    shared = ("max_concurrent", "retries", "tag_concurrency_limits", "step_dependency_config")
    assert set(multiprocess_fields(*shared)) == set(shared)
    assert set(shared) <= set(MULTI_PROC_CONFIG.config_type.fields)


def test_retry_modes_are_read_as_multiprocess_reads_them() -> None:
    assert RetryMode.from_config({"disabled": {}}) is RetryMode.DISABLED
    assert RetryMode.ENABLED.for_inner_plan() is RetryMode.DEFERRED


def test_errors_are_dagsters_own() -> None:
    error = error_of_message("CULostError", "gone")
    assert error.cls_name == "CULostError"
    assert "In step" in str(subprocess_error({"step": error}))
    assert "exited with code 7" in crash_explanation("the process", 7)


def test_a_mapped_steps_template_is_found() -> None:
    assert template_key("work[a]") == "work[?]"
    assert template_key("work") == "work"


def test_postgres_storages_have_what_is_taken_hold_of() -> None:
    storage = pytest.importorskip("dagster_postgres.event_log.event_log").PostgresEventLogStorage
    source = inspect.getsource(storage.__init__)
    assert "self._engine = create_pg_engine(" in source
    assert "self._token_provider" in source
    assert "create_pg_connection(self._engine)" in inspect.getsource(storage._connect)
    assert parameters(storage.prepare_insert_event_batch) == {"self", "events"}
    unified = importlib.import_module("dagster_postgres").DagsterPostgresStorage
    assert {"postgres_url", "should_autocreate_tables"} <= parameters(unified.__init__)
    assert "should_autocreate_tables" in unified.config_type()


def test_references_of_postgres_storages_leave_out_the_look_at_their_tables() -> None:
    pytest.importorskip("dagster_postgres")
    with tempfile.TemporaryDirectory() as home:
        url = {"postgres_url": "postgresql://u:p@h/d"}
        ref = InstanceRef.from_dir(home, overrides={"storage": {"postgres": url}})
        plain = InstanceRef.from_dir(home)
    changed = with_tables_taken_as_there(ref)
    assert changed.storage_data is not None
    assert changed.storage_data.config_dict == {**url, "should_autocreate_tables": False}
    assert with_tables_taken_as_there(plain) == plain


def test_an_error_that_nobody_raised_can_be_told() -> None:
    from cu_market.dagster_compat.engine import error_from_exception, interrupted_error

    told = error_from_exception(interrupted_error())
    assert told.cls_name == "DagsterExecutionInterruptedError"


def test_a_launcher_reads_code_versions_from_the_code_server(tmp_path: Path) -> None:
    (tmp_path / "versioned.py").write_text(
        "import dagster as dg\n"
        "@dg.asset(key=['a', 'b'], code_version='7')\n"
        "def versioned() -> None: ...\n"
        "@dg.asset\n"
        "def plain() -> None: ...\n"
        "defs = dg.Definitions(assets=[versioned, plain])\n"
    )
    path = tmp_path / "workspace.yaml"
    path.write_text(
        "load_from: [{python_file: {relative_path: versioned.py, location_name: here}}]"
    )
    with (
        DagsterInstance.local_temp(str(tmp_path)) as instance,
        open_workspace(instance, str(path)) as workspace,
    ):
        repository = next(iter(workspace.get_code_location("here").get_repositories().values()))
        origin = repository.get_full_job("__ASSET_JOB").get_remote_origin()
        run = DagsterRun(job_name="__ASSET_JOB", remote_job_origin=origin)
        assert code_versions_of_workspace(workspace, run) == {"a/b": "7"}
        assert code_versions_of_workspace(workspace, DagsterRun(job_name="of nowhere")) == {}
    assert code_versions_of_workspace(None, run) == {}


def test_storages_opened_before_the_fork_leave_nothing_open(
    tmp_path: Path, new_storage: Callable[[], str]
) -> None:
    """What a forked step would share with its worker: descriptors and threads."""
    jobs = tmp_path / "jobs.py"
    jobs.write_text("import dagster as dg\n@dg.op\ndef one(): ...\n@dg.job\ndef job(): one()\n")
    (tmp_path / "dagster.yaml").write_text(new_storage())
    repository = ReconstructableRepository.for_file(str(jobs), "job", str(tmp_path))
    job = repository.get_reconstructable_job("job")
    with DagsterInstance.from_ref(InstanceRef.from_dir(str(tmp_path))) as instance:
        run = instance.create_run_for_job(job.get_definition())
        outline = RunOutline.of(
            job=job,
            run=run,
            instance=instance,
            load_data=None,
            retry_mode=RetryMode.DISABLED,
        )
    loaded = LoadedRun(outline)
    loaded.load_code()
    again = LoadedRun(outline)
    gc.collect()  # what earlier tests have left goes now or later: it is none of this
    descriptors, threads = open_descriptors(), set(threading.enumerate())
    again.load_code()
    assert open_descriptors() <= descriptors
    assert set(threading.enumerate()) <= threads
    with again.open_instance() as opened:
        assert opened is again.open_instance()
        assert opened.get_run_by_id(run.run_id) is not None


def open_descriptors() -> int:
    return psutil.Process().num_fds()


NAMED = {"hostname": "h", "username": "u", "password": {"env": "P"}, "db_name": "d"}


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"postgres_db": NAMED}, {"postgres_db": NAMED}),
        ({"postgres_url": {"env": "U"}}, {"postgres_url": {"env": "U"}}),
        ({"postgres_db": NAMED, "auth_provider": {"gcp_wif": {}}}, None),
    ],
)
def test_a_postgres_is_named_as_its_dagster_yaml_names_it(
    said: dict[str, Any], found: dict[str, Any] | None, tmp_path: Path
) -> None:
    (tmp_path / "dagster.yaml").write_text(json.dumps({"storage": {"postgres": said}}))
    ref = InstanceRef.from_dir(str(tmp_path))
    instance: Any = SimpleNamespace(
        run_storage=SimpleNamespace(postgres_url="postgresql://u:p@h/d"), get_ref=lambda: ref
    )
    assert postgres_reference_of(instance) == found
