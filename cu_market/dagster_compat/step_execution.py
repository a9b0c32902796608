"""Executes one step in this process, its events going through a relay instead of the database.

Private: dagster._core.execution.api (create_execution_plan, execute_plan_iterator) and
create_context_free_log_manager, which Dagster's own multiprocess executor runs steps with; seen in
1.13.27.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dagster import DagsterEvent, DagsterInstance, MetadataValue
from dagster._core.definitions.reconstruct import ReconstructableJob
from dagster._core.definitions.repository_definition import RepositoryLoadData
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.execution.api import create_execution_plan, execute_plan_iterator
from dagster._core.execution.context_creation_job import create_context_free_log_manager
from dagster._core.execution.plan.state import KnownExecutionState
from dagster._core.execution.retries import RetryMode
from dagster._core.instance import InstanceRef
from dagster._core.storage.dagster_run import DagsterRun
from dagster._serdes import deserialize_value, serialize_value
from dagster._utils.error import SerializableErrorInfo, serializable_error_info_from_exc_info
from dagster._utils.interrupts import capture_interrupts

from cu_market.dagster_compat.compute_logs import files_without_tails
from cu_market.dagster_compat.event_relay import Relay, relay_events
from cu_market.dagster_compat.storage_checks import (
    STORAGES,
    migrations_taken_as_done,
    with_tables_taken_as_there,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutline:
    """What every step of a run shares; sent to a worker once.

    Attributes:
        job: the job, as ReconstructableJob.to_dict gives it.
        run, instance_ref, load_data: Dagster's own serialised records; load_data may be empty.
        retry_mode: a RetryMode's value.
    """

    job: Mapping[str, Any]
    run: str
    instance_ref: str
    load_data: str
    retry_mode: str

    @staticmethod
    def of(
        *,
        job: ReconstructableJob,
        run: DagsterRun,
        instance: DagsterInstance,
        load_data: RepositoryLoadData | None,
        retry_mode: RetryMode,
    ) -> RunOutline:
        """Returns the outline of a run, ready to be sent."""
        return RunOutline(
            job=job.to_dict(),
            run=serialize_value(run),
            instance_ref=serialize_value(instance.get_ref()),
            load_data=serialize_value(load_data) if load_data is not None else "",
            retry_mode=retry_mode.value,
        )


_NEEDED_BY_EVERY_STEP = (
    "dagster._core.instance.factory",
    "dagster._core.execution.plan.active",
    "dagster._core.secrets.env_file",
    "dagster._core.secrets.loader",
    "dagster._core.storage.root",
    "dagster._core.system_config.composite_descent",
    "fsspec.implementations.local",
    "upath.implementations.local",
)
"""What Dagster imports late, in each step anew if it is not loaded before the fork (50 ms)."""


_OPENED_BEFORE_FORK = ("dagster._core.storage", "dagster.core.storage", "dagster_postgres")
"""Storages that keep no connection, file or thread open from one use to the next, so that every
forked step may have the same. Opening them takes 10 ms, 25 on two busy cores."""


def load_job(said: Mapping[str, Any]) -> None:
    """Imports the code of a job, as ReconstructableJob.to_dict gives it, before its run is known:
    Dagster keeps a definition that was loaded by its pointer, so that the run's load is at once.
    """
    ReconstructableJob.from_dict(dict(said)).get_definition()
    _import_what_steps_need()


def _import_what_steps_need() -> None:
    for name in _NEEDED_BY_EVERY_STEP:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


class LoadedRun:
    """A run's code and records, loaded once and shared by every step forked from here."""

    def __init__(self, outline: RunOutline) -> None:
        self.job = ReconstructableJob.from_dict(dict(outline.job))
        self.run = deserialize_value(outline.run, DagsterRun)
        ref = deserialize_value(outline.instance_ref, InstanceRef)
        self.instance_ref = with_tables_taken_as_there(ref)
        self.load_data = (
            deserialize_value(outline.load_data, RepositoryLoadData) if outline.load_data else None
        )
        self.retry_mode = RetryMode(outline.retry_mode)
        self._instance: DagsterInstance | None = None

    def load_code(self) -> None:
        """Imports the user's code and the storages' modules. Leaves no connection open."""
        self.job.get_definition()
        for part in (*STORAGES, "compute_logs_data"):
            data = getattr(self.instance_ref, part)
            if data is not None:
                importlib.import_module(data.module_name)
        _import_what_steps_need()
        if self._may_open_before_fork():
            # What is wrong with a storage is each step's own to tell.
            with contextlib.suppress(Exception), migrations_taken_as_done():
                self._instance = DagsterInstance.from_ref(self.instance_ref)

    def open_instance(self) -> DagsterInstance:
        """Returns the run's instance, for one step to enter."""
        return self._instance or DagsterInstance.from_ref(self.instance_ref)

    def _may_open_before_fork(self) -> bool:
        ref = self.instance_ref
        parts = [getattr(ref, part) for part in STORAGES]
        return ref.custom_instance_class_data is None and all(
            part is None or part.module_name.startswith(_OPENED_BEFORE_FORK) for part in parts
        )


def execute_step(
    loaded: LoadedRun, step_key: str, known_state: str, relay: Relay
) -> SerializableErrorInfo | None:
    """Executes a step, every event of it through the relay; returns a system error, or None.

    A step's own failure is an event, not an error here.
    """
    with capture_interrupts():
        try:
            for _ in _events(loaded, step_key, known_state, relay):
                pass
        except (Exception, KeyboardInterrupt, DagsterExecutionInterruptedError):  # noqa: BLE001 - the run worker raises it
            return serializable_error_info_from_exc_info(sys.exc_info())
    return None


def _events(
    loaded: LoadedRun, step_key: str, known_state: str, relay: Relay
) -> Iterator[DagsterEvent]:
    with (
        migrations_taken_as_done(),
        loaded.open_instance() as instance,
        relay_events(instance, relay),
        files_without_tails(relay.announce_log),
    ):
        log_manager = create_context_free_log_manager(instance, loaded.run)
        yield DagsterEvent.step_worker_started(
            log_manager,
            loaded.run.job_name,
            message=f'Executing step "{step_key}" in a market worker.',
            metadata={"pid": MetadataValue.text(str(os.getpid()))},
            step_key=step_key,
        )
        plan = create_execution_plan(
            job=loaded.job,
            run_config=loaded.run.run_config,
            step_keys_to_execute=[step_key],
            known_state=deserialize_value(known_state, KnownExecutionState),
            repository_load_data=loaded.load_data,
        )
        yield from execute_plan_iterator(
            plan,
            loaded.job,
            loaded.run,
            run_config=loaded.run.run_config,
            retry_mode=loaded.retry_mode.for_inner_plan(),
            instance=instance,
        )
