"""Runs a job of the suite and tells what can be seen of the run, executor by executor."""

from __future__ import annotations

import pickle
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dagster import DagsterEventType, DagsterInstance, ReexecutionOptions, execute_job
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository

from cu_market.deo.settings import instance_settings
from cu_market.domain.allocation import Allocation
from cu_market.domain.curve import UsageCurve
from cu_market.domain.lease import RunLease
from cu_market.domain.rental import Rental
from cu_market.domain.request import StepIdentity
from cu_market.domain.usage import Usage
from cu_market.ledger.sql import SqlLedger
from cu_market.market.bill import RunBill, read_bill
from cu_market.market.opening import open_instance_ledger

HERE = Path(__file__).parent

MARKET: Mapping[str, Any] = {"market": {}}
MULTIPROCESS: Mapping[str, Any] = {
    "multiprocess": {"start_method": {"forkserver": {"preload_modules": ["dagster"]}}}
}

# Where the engine speaks of itself: the market says other things than multiprocess here.
_OWN = {"ENGINE_EVENT"}


def job(name: str, file: str = "executor_jobs.py") -> ReconstructableJob:
    """Returns a job that other processes can load."""
    return ReconstructableRepository.for_file(
        str(HERE / file), "defs", str(HERE)
    ).get_reconstructable_job(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a run left behind, without what must differ: ids, times, process numbers.

    Attributes:
        status: the run's.
        events: by step key, its event types in order, ENGINE_EVENTs left out.
        failures: by step key, what its failures and retries said.
        values: by output, what the IO manager has stored.
        materializations, checks: each with its metadata, the market's own labels left out.
        logs: by step key, the user's log lines.
        output: by step key, what it has printed.
    """

    status: str
    events: Mapping[str, Sequence[str]]
    failures: Mapping[str, Sequence[str]]
    values: Mapping[str, object]
    materializations: Sequence[object]
    checks: Sequence[object]
    logs: Mapping[str, Sequence[str]]
    output: Mapping[str, tuple[str, str]] = field(default_factory=dict)


class Bench:
    """An instance and what is done with it.

    Args:
        instance: of the home.
        home: DAGSTER_HOME.
    """

    def __init__(self, instance: DagsterInstance, home: Path) -> None:
        self.instance = instance
        self.home = home

    def run(
        self,
        name: str,
        execution: Mapping[str, Any],
        *,
        ops: Mapping[str, Any] | None = None,
        file: str = "executor_jobs.py",
        **more: Any,
    ) -> str:
        """Runs a job to its end; returns its run_id."""
        config: dict[str, Any] = {"execution": {"config": dict(execution)}}
        if ops:
            config["ops"] = dict(ops)
        # Not entered: that would make the job's resources here.
        result = execute_job(
            job(name, file), self.instance, run_config=config, raise_on_error=False, **more
        )
        return result.run_id

    def rerun_from_failure(self, name: str, run_id: str) -> str:
        """Runs again what failed, and what follows it; returns the new run_id."""
        result = execute_job(
            job(name),
            self.instance,
            reexecution_options=ReexecutionOptions.from_failure(run_id, self.instance),
            raise_on_error=False,
        )
        return result.run_id

    def entries(self, run_id: str, kind: DagsterEventType | None = None) -> Sequence[Any]:
        """Returns a run's event log entries, oldest first."""
        return self.instance.all_logs(run_id, of_type=kind)

    def engine_messages(self, run_id: str) -> Sequence[str]:
        """Returns what the engine said of a run."""
        return [
            entry.user_message or entry.message
            for entry in self.entries(run_id, DagsterEventType.ENGINE_EVENT)
        ]

    def allocations(self, run_id: str) -> Sequence[Allocation]:
        """Returns the ledger's rows of a run, oldest lease first."""
        with self._ledger() as ledger:
            rows = ledger.allocations(run_id=run_id)
        return sorted(rows, key=lambda row: (row.fencing_token, row.step_key))

    def rentals(self, run_id: str) -> Sequence[Rental]:
        """Returns the CUs that a run has rented, or was to rent, the first planned first."""
        with self._ledger() as ledger:
            return ledger.rentals(run_id=run_id)

    def live_runs(self) -> Sequence[RunLease]:
        """Returns the runs whose run workers have not ended."""
        with self._ledger() as ledger:
            return ledger.live_runs()

    def bill(self, run_id: str) -> RunBill:
        """Returns a run's bill."""
        with self._ledger() as ledger:
            return read_bill(ledger, run_id)

    def usages(self, run_id: str) -> Sequence[Usage]:
        """Returns what a run's attempts have used."""
        with self._ledger() as ledger:
            return ledger.usages(run_id=run_id)

    def awarded_gb(self, run_id: str) -> Mapping[str, float]:
        """Returns the memory that a run's first auction gave to each step: a lease may grow."""
        with self._ledger() as ledger:
            steps = ledger.auctions(run_id)[-1].report["steps"]
        return {step["step"]: step["memory_gb"] for step in steps}

    def reports(self, run_id: str) -> Sequence[Mapping[str, Any]]:
        """Returns what a run's auctions said, newest first."""
        with self._ledger() as ledger:
            return [auction.report for auction in ledger.auctions(run_id)]

    def curve(self, node: str) -> UsageCurve:
        """Returns what the newest attempt of a step has used over time."""
        with self._ledger() as ledger:
            (curve,) = ledger.curves(StepIdentity(node=node), limit=1)
        return curve

    def _ledger(self) -> closing[SqlLedger]:
        settings = instance_settings(self.instance)
        return closing(open_instance_ledger(settings, str(self.home)))

    def record(self, run_id: str) -> Record:
        """Returns what a run left behind."""
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        events: dict[str, list[str]] = defaultdict(list)
        failures: dict[str, list[str]] = defaultdict(list)
        logs: dict[str, list[str]] = defaultdict(list)
        output: dict[str, tuple[str, str]] = {}
        materializations, checks = [], []
        for entry in self.entries(run_id):
            event = entry.dagster_event
            if event is None:
                line = entry.user_message.replace(run_id, "run")
                logs[entry.step_key or ""].append(f"{entry.level} {line}")
                continue
            kind = event.event_type_value
            if kind == "LOGS_CAPTURED":
                data = event.logs_captured_data
                output[data.step_keys[0]] = self._output(run_id, data.file_key)
            if event.step_key is None or kind in _OWN:
                continue
            events[event.step_key].append(kind)
            if kind in ("STEP_FAILURE", "STEP_UP_FOR_RETRY"):
                failures[event.step_key].append(_told(event.event_specific_data))
            elif kind == "ASSET_MATERIALIZATION":
                materializations.append(_materialized(event))
            elif kind == "ASSET_CHECK_EVALUATION":
                checks.append(_checked(event.asset_check_evaluation_data))
        return Record(
            status=run.status.value,
            events=dict(events),
            failures=dict(failures),
            values=self._values(run_id),
            materializations=sorted(materializations, key=str),
            checks=sorted(checks, key=str),
            logs=dict(logs),
            output=output,
        )

    def _output(self, run_id: str, file_key: str) -> tuple[str, str]:
        manager = self.instance.compute_log_manager
        data = manager.get_log_data(manager.build_log_key_for_run(run_id, file_key))
        # Dagster's own lines are on stderr too, with their ids and times.
        told = (data.stderr or b"").decode().splitlines()
        mine = [line for line in told if line.startswith("err:")]
        return (data.stdout or b"").decode(), "\n".join(mine)

    def _values(self, run_id: str) -> Mapping[str, object]:
        values: dict[str, object] = {}
        storage = self.home / "storage"
        for path in sorted(storage.rglob("*")):
            parts = path.relative_to(storage).parts
            is_of_another = len(parts[0]) == 36 and parts[0] != run_id
            if path.is_file() and not is_of_another and "compute_logs" not in parts:
                values["/".join(parts).replace(run_id, "run")] = pickle.loads(path.read_bytes())
        return values


def _told(data: Any) -> str:
    error = data.error
    cause = error.cause if error is not None and error.cause is not None else error
    words = f"{cause.cls_name}: {cause.message}" if cause is not None else ""
    if words.startswith("ChildProcessCrashException"):
        return "ChildProcessCrashException"  # of which multiprocess says no more
    return re.sub(r"\s+", " ", words)


def _metadata(metadata: Mapping[str, Any]) -> Mapping[str, object]:
    kept = {k: v.value for k, v in metadata.items() if not k.startswith("cu/")}
    return {
        k: v if isinstance(v, (int, float, bool)) else str(v)
        for k, v in kept.items()
        if k != "path"
    }


def _materialized(event: Any) -> object:
    made = event.step_materialization_data.materialization
    return event.step_key, made.asset_key.to_user_string(), made.partition, _metadata(made.metadata)


def _checked(data: Any) -> object:
    return (
        data.asset_key.to_user_string(),
        data.check_name,
        data.passed,
        data.blocking,
        data.severity.value,
        _metadata(data.metadata),
    )
