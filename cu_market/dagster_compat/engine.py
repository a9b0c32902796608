"""The parts of Dagster's execution engine that an executor's loop is built on.

Private: the contexts, errors and crash texts that multiprocess uses; seen in 1.13.27.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from dagster import Executor
from dagster._core.errors import DagsterExecutionInterruptedError, DagsterSubprocessError
from dagster._core.execution.context.system import IStepContext as StepContext
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.execution.step_dependency_config import StepDependencyConfig
from dagster._core.executor.multiprocess import MultiprocessExecutor
from dagster._utils import get_run_crash_explanation
from dagster._utils.error import SerializableErrorInfo, serializable_error_info_from_exc_info
from dagster._utils.interrupts import check_captured_interrupt

__all__ = [
    "DagsterExecutionInterruptedError",
    "ExecutionPlan",
    "Executor",
    "InstanceConcurrencyContext",
    "MultiprocessExecutor",
    "PlanOrchestrationContext",
    "RetryMode",
    "SerializableErrorInfo",
    "StepContext",
    "StepDependencyConfig",
    "check_captured_interrupt",
    "crash_explanation",
    "error_from_exception",
    "error_of_message",
    "interrupted_error",
    "subprocess_error",
]


def crash_explanation(prefix: str, exit_code: int | None) -> str:
    """Returns Dagster's own words for a process that ended without a word."""
    return get_run_crash_explanation(prefix=prefix, exit_code=exit_code or 0)


def error_from_exception(error: BaseException) -> SerializableErrorInfo:
    """Returns an exception as an event can carry it."""
    try:
        raise error  # Dagster refuses one that was never raised
    except BaseException:  # noqa: BLE001 - the very one
        return serializable_error_info_from_exc_info(sys.exc_info())


def current_error() -> SerializableErrorInfo:
    """Returns the exception being handled as an event can carry it."""
    return serializable_error_info_from_exc_info(sys.exc_info())


def error_of_message(cls_name: str, message: str) -> SerializableErrorInfo:
    """Returns an error that no exception of this process carries."""
    return SerializableErrorInfo(message=f"{message}\n", stack=[], cls_name=cls_name)


def interrupted_error() -> BaseException:
    """Returns what an interrupted executor raises."""
    return DagsterExecutionInterruptedError()


def subprocess_error(errors: Mapping[str, SerializableErrorInfo]) -> Exception:
    """Returns what an executor raises when processes of its steps had errors of their own."""
    listed = "\n".join(f"In {name}: {error.to_string()}" for name, error in errors.items())
    return DagsterSubprocessError(
        f"During market execution errors occurred in steps' processes:\n{listed}",
        subprocess_error_infos=list(errors.values()),
    )
