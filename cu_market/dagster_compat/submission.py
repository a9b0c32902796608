"""Submits runs as `dagster job launch` does, and reads how they get on.

Private: the workspace context and the job subset selector; seen in 1.13.27. The public ways to
launch are a GraphQL server, which would have to run first, and the command line, which loads
Dagster and the code anew for every run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from subprocess import TimeoutExpired

from dagster import DagsterEventType, DagsterInstance
from dagster._core.definitions.selector import JobSubsetSelector
from dagster._core.remote_representation.grpc_server_registry import GrpcServerRegistry
from dagster._core.utils import make_new_run_id
from dagster._core.workspace.context import WorkspaceProcessContext, WorkspaceRequestContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster._grpc.constants import GrpcServerCommand

from cu_market.domain.problem import InvalidInputError, Problem

__all__ = ["FAILURES", "Progress", "RunReader", "open_workspace", "submit_job"]

# Without a sign of life from here for so long, a code server ends by itself.
_HEARTBEAT_SECONDS = 45

# Those with code servers that outlive their workspace: a process is not forgotten while it runs.
_outliving: list[GrpcServerRegistry] = []

FAILURES = (DagsterEventType.STEP_FAILURE, DagsterEventType.RUN_FAILURE)


@contextmanager
def open_workspace(instance: DagsterInstance, path: str) -> Iterator[WorkspaceRequestContext]:
    """Yields the workspace of a file, its code servers started; ends them and waits for that.

    One that still has runs of its own to wait for is left to end by itself.
    """
    target = WorkspaceFileTarget([path])
    servers = GrpcServerRegistry(
        instance_ref=instance.get_ref(),
        server_command=GrpcServerCommand.API_GRPC,
        heartbeat_ttl=_HEARTBEAT_SECONDS,
        startup_timeout=instance.code_server_process_startup_timeout,
        log_level="WARNING",
        wait_for_processes_on_shutdown=True,
    )
    with (
        _ended_afterwards(servers),
        WorkspaceProcessContext(instance, target, grpc_server_registry=servers) as context,
    ):
        yield context.create_request_context()


@contextmanager
def _ended_afterwards(servers: GrpcServerRegistry) -> Iterator[None]:
    """Ends the servers and waits, but not for ever; what goes wrong within is not theirs."""
    try:
        yield
    finally:
        try:
            servers.__exit__(None, None, None)
        except TimeoutExpired:
            _outliving.append(servers)


def submit_job(
    instance: DagsterInstance,
    workspace: WorkspaceRequestContext,
    *,
    location_name: str,
    job_name: str,
    tags: Mapping[str, str] | None = None,
    run_config: Mapping[str, object] | None = None,
) -> str:
    """Creates a run of a job and puts it into the queue; returns its id.

    Raises:
        InvalidInputError: the code location does not load, or has no such job.
    """
    entry = workspace.get_location_entry(location_name)
    if entry is None or entry.code_location is None:
        said = entry.load_error.to_string() if entry and entry.load_error else "not in workspace"
        raise InvalidInputError(
            [_problem("code location", location_name, f"does not load: {said}", "mend it")]
        )
    location = entry.code_location
    repository = next(iter(location.get_repositories().values()))
    if not repository.has_job(job_name):
        known = ", ".join(job.name for job in repository.get_all_jobs())
        raise InvalidInputError([_problem("job", job_name, "no such job", f"known: {known}")])
    job = location.get_job(
        JobSubsetSelector(
            location_name=location.name,
            repository_name=repository.name,
            job_name=job_name,
            op_selection=None,
        )
    )
    plan = location.get_execution_plan(
        job, dict(run_config or {}), step_keys_to_execute=None, known_state=None, instance=instance
    )
    run = instance.create_run(
        job_name=job_name,
        run_id=make_new_run_id(),
        run_config=dict(run_config or {}),
        resolved_op_selection=job.resolved_op_selection,
        step_keys_to_execute=plan.execution_plan_snapshot.step_keys_to_execute,
        op_selection=None,
        status=None,
        root_run_id=None,
        parent_run_id=None,
        tags={**job.tags, **(tags or {})},
        job_snapshot=job.job_snapshot,
        execution_plan_snapshot=plan.execution_plan_snapshot,
        parent_job_snapshot=job.parent_job_snapshot,
        remote_job_origin=job.get_remote_origin(),
        job_code_origin=job.get_python_origin(),
        asset_selection=None,
        asset_check_selection=None,
        asset_graph=repository.asset_graph,
    )
    return instance.submit_run(run.run_id, workspace).run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is.

    Attributes:
        status: Dagster's word: ``QUEUED``, ``STARTED``, ``SUCCESS``.
        is_finished: it has ended, well or not.
        is_success: it has ended well.
        running: steps that run now, in the order in which they started.
        ended: how many have ended, well or not.
        failures: what the failure events say.
    """

    status: str
    is_finished: bool
    is_success: bool
    running: tuple[str, ...]
    ended: int
    failures: tuple[str, ...]


class RunReader:
    """Reads one run's progress from its events, each once.

    Args:
        instance: where the run is kept.
        run_id: the run.
    """

    _ENDS = (
        DagsterEventType.STEP_SUCCESS,
        DagsterEventType.STEP_FAILURE,
        DagsterEventType.STEP_SKIPPED,
        DagsterEventType.STEP_UP_FOR_RETRY,
    )

    def __init__(self, instance: DagsterInstance, run_id: str) -> None:
        self._instance = instance
        self._run_id = run_id
        self._cursor: str | None = None
        self._running: dict[str, None] = {}
        self._ended: set[str] = set()
        self._failures: list[str] = []

    def read(self) -> Progress:
        """Returns the progress up to now."""
        run = self._instance.get_run_by_id(self._run_id)
        self._read_events()
        status = "GONE" if run is None else run.status.value
        return Progress(
            status=status,
            is_finished=run is None or run.is_finished,
            is_success=run is not None and run.is_success,
            running=tuple(self._running),
            ended=len(self._ended),
            failures=tuple(self._failures),
        )

    def _read_events(self) -> None:
        has_more = True
        while has_more:
            page = self._instance.get_records_for_run(self._run_id, cursor=self._cursor, limit=1000)
            self._cursor, has_more = page.cursor, page.has_more
            for record in page.records:
                event = record.event_log_entry.dagster_event
                if event is None:
                    continue
                if event.event_type in FAILURES:
                    self._failures.append(_failure(record.event_log_entry))
                if event.step_key is None:
                    continue
                if event.event_type is DagsterEventType.STEP_START:
                    self._running[event.step_key] = None
                elif event.event_type in self._ENDS:
                    self._running.pop(event.step_key, None)
                    if event.event_type is not DagsterEventType.STEP_UP_FOR_RETRY:
                        self._ended.add(event.step_key)


def _failure(entry: object) -> str:
    """Returns a failure event in words, with the innermost error's message."""
    event = entry.dagster_event  # type: ignore[attr-defined]
    step = f"{event.step_key}: " if event.step_key else ""
    error = getattr(event.event_specific_data, "error", None)
    while error is not None and error.cause is not None:
        error = error.cause
    said = f"\n  {error.message.strip()}" if error is not None else ""
    return f"{step}{event.message}{said}"


def _problem(where: str, value: str, what: str, remedy: str) -> Problem:
    return Problem(where=where, value=value, what=what, remedy=remedy)
