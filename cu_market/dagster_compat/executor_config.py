"""Dagster's own executors' config and creation, for the branches that opt out of the market.

Private: MULTI_PROC_CONFIG, IN_PROC_CONFIG and the creation functions; seen in 1.13.27.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster import Field
from dagster._core.definitions.executor_definition import (
    IN_PROC_CONFIG,
    MULTI_PROC_CONFIG,
    _core_in_process_executor_creation,
    _core_multiprocess_executor_creation,
)
from dagster._core.definitions.executor_definition import (
    multiple_process_executor_requirements as multiple_process_requirements,
)
from dagster._core.execution.retries import RetryMode
from dagster._core.execution.step_dependency_config import StepDependencyConfig
from dagster._core.snap.execution_plan_snapshot import ExecutionPlanSnapshot
from dagster._core.storage.dagster_run import DagsterRun

MULTIPROCESS_FIELD: Field = MULTI_PROC_CONFIG
IN_PROCESS_FIELD: Field = IN_PROC_CONFIG
create_in_process = _core_in_process_executor_creation
create_multiprocess = _core_multiprocess_executor_creation
step_dependency_config_from = StepDependencyConfig.from_config

__all__ = [
    "IN_PROCESS_FIELD",
    "MULTIPROCESS_FIELD",
    "create_in_process",
    "create_multiprocess",
    "executor_of",
    "multiple_process_requirements",
    "multiprocess_fields",
    "retry_mode_of",
    "step_dependency_config_from",
]


def multiprocess_fields(*names: str) -> dict[str, Any]:
    """Returns some of multiprocess's own config fields."""
    shape: Any = MULTI_PROC_CONFIG.config_type
    fields = shape.fields
    return {name: fields[name] for name in names}


def executor_of(run: DagsterRun, snapshot: ExecutionPlanSnapshot) -> tuple[str, str | None]:
    """Returns the executor's name and the branch that the run's config selects in it, if any."""
    execution = run.run_config.get("execution") if run.run_config else None
    config = (execution or {}).get("config") if isinstance(execution, dict) else None
    branch = next(iter(config)) if isinstance(config, dict) and len(config) == 1 else None
    return snapshot.executor_name or "", branch


def retry_mode_of(config: Mapping[str, Any]) -> RetryMode:
    """Returns the retry mode that an executor's config selects."""
    mode = RetryMode.from_config(config)
    assert mode is not None
    return mode
