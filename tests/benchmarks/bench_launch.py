"""What the market adds to a launch in the daemon: launch_run with it, minus the base launcher.

``python tests/benchmarks/bench_launch.py [--launches 10]``: a job of twenty steps in a real code
server; four providers: this machine and three dearer ones. One JSON line on stdout; the first
launch, which opens the market, is reported apart. Then the same with one provider that never
answers, beside the deadline that its bid had.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from dagster import DagsterInstance, DefaultRunLauncher
from execution import HERE, progress

from cu_market.domain.bid import Bid, Rates
from cu_market.domain.profile import CUProfile, ResourcePool
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GIB
from cu_market.market.settings import MarketSettings
from cu_market.ral.provider import Capabilities, Provider

BUSY_MODULES = ("mlflow", "sklearn", "pulp")


class QuotedProvider(Provider):
    """Offers an elastic CU of a size and price of its configuration; runs nothing."""

    def __init__(self, name: str, cores: int, core_microusd: int) -> None:
        self.name = name
        self.capabilities = Capabilities(elastic=True)
        size = ResourceVector(cpu_millis=1000 * cores, memory_bytes=4 * cores * GIB)
        self._rates = Rates(core_microusd_per_hour=core_microusd, gb_microusd_per_hour=7000)
        self._profile = CUProfile(
            cu_id=f"{name}/elastic",
            provider=name,
            location="elsewhere",
            capacity_id=name,
            cpu_millis=size.cpu_millis,
            memory_bytes=size.memory_bytes,
            price_microusd_per_hour=self._rates.price_microusd_per_hour(size),
        )
        self._size = size

    @classmethod
    def from_config(cls, name: str, config: dict[str, Any]) -> QuotedProvider:
        """Returns a provider of the configured size and price."""
        return cls(name, int(config["cores"]), int(config["core_microusd"]))

    def pool(self) -> ResourcePool:
        """Returns its one CU."""
        return ResourcePool(profiles=(self._profile,), capacities={self.name: self._size})

    def bid(self, requests: Sequence[ResourceRequest], now: datetime) -> Sequence[Bid]:
        """Returns its one offer."""
        return [
            Bid(
                bid_id=f"{self.name}/elastic",
                profile=self._profile,
                price_microusd_per_hour=self._profile.price_microusd_per_hour,
                rates=self._rates,
            )
        ]


class SilentProvider(QuotedProvider):
    """Never answers when asked for a bid."""

    def bid(self, requests: Sequence[ResourceRequest], now: datetime) -> Sequence[Bid]:
        """Waits for what never comes."""
        threading.Event().wait()
        raise AssertionError("nobody sets this event")


def home_with(providers: dict[str, Any]) -> str:
    """Returns a fresh home whose launcher has these providers."""
    home = tempfile.mkdtemp(prefix="cu_market_launch_")
    config = {
        "telemetry": {"enabled": False},
        "run_launcher": {
            "module": "cu_market",
            "class": "MarketRunLauncher",
            "config": {"market": {"providers": providers}},
        },
    }
    Path(home, "dagster.yaml").write_text(json.dumps(config))
    return home


def main() -> None:
    """Prints the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--launches", type=int, default=10)
    launches = parser.parse_args().launches
    quoted = {"kind": "bench_launch:QuotedProvider", "cores": 8}
    providers = {
        "local": {"kind": "local"},
        "near": {**quoted, "core_microusd": 600_000},
        "far": {**quoted, "core_microusd": 900_000},
        "dear": {**quoted, "core_microusd": 9_000_000},
    }
    os.environ["PYTHONPATH"] = str(HERE)
    os.environ["DAGSTER_HOME"] = home_with(providers)
    seconds = measure(launches)
    silent = {**quoted, "kind": "bench_launch:SilentProvider", "core_microusd": 600_000}
    os.environ["DAGSTER_HOME"] = home_with({**providers, "near": silent})
    silent_seconds = measure(3)
    print(
        json.dumps(
            {
                "first_overhead_seconds": round(seconds[0], 4),
                "median_overhead_seconds": round(median(seconds[1:]), 4),
                "launches": launches,
                "silent_provider_first_overhead_seconds": round(silent_seconds[0], 4),
                "silent_provider_overhead_seconds": round(median(silent_seconds[1:]), 4),
                "bid_deadline_seconds": MarketSettings().bid_deadline_seconds,
                "imported": [name for name in BUSY_MODULES if name in sys.modules],
            }
        )
    )


def measure(launches: int) -> list[float]:
    """Launches so many runs; returns the seconds of each beyond the base launcher's."""
    from dagster._core.launcher import LaunchRunContext
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import PythonFileTarget

    base_seconds: list[float] = []
    original = DefaultRunLauncher.launch_run

    def timed(self: DefaultRunLauncher, context: LaunchRunContext) -> None:
        began = time.perf_counter()
        original(self, context)
        base_seconds.append(time.perf_counter() - began)

    DefaultRunLauncher.launch_run = timed  # type: ignore[method-assign]
    found = []
    target = PythonFileTarget(
        python_file=str(HERE / "step_start_job.py"),
        attribute="defs",
        working_directory=str(HERE),
        location_name="bench",
    )
    with (
        DagsterInstance.get() as instance,
        WorkspaceProcessContext(instance, target) as process,
    ):
        for number in range(launches + 1):
            workspace = process.create_request_context()
            run = _create_run(instance, workspace)
            began = time.perf_counter()
            instance.run_launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=workspace))
            found.append(time.perf_counter() - began - base_seconds[-1])
            progress(f"launch {number}: {found[-1]:.3f} s beyond the base launcher's")
            _await_end(instance, run.run_id)
    return found


def _create_run(instance: DagsterInstance, workspace: Any) -> Any:
    location = workspace.get_code_location("bench")
    repository = next(iter(location.get_repositories().values()))
    job = repository.get_full_job("trivial_ops")
    plan = location.get_execution_plan(
        job, run_config={}, step_keys_to_execute=None, known_state=None, instance=instance
    )
    return instance.create_run(
        job_name="trivial_ops",
        run_id=None,
        run_config={},
        status=None,
        tags={},
        root_run_id=None,
        parent_run_id=None,
        step_keys_to_execute=None,
        execution_plan_snapshot=plan.execution_plan_snapshot,
        job_snapshot=job.job_snapshot,
        parent_job_snapshot=job.parent_job_snapshot,
        asset_selection=None,
        asset_check_selection=None,
        resolved_op_selection=None,
        op_selection=None,
        remote_job_origin=job.get_remote_origin(),
        job_code_origin=job.get_python_origin(),
        asset_graph=repository.asset_graph,
    )


def _await_end(instance: DagsterInstance, run_id: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        run = instance.get_run_by_id(run_id)
        if run is not None and run.is_finished:
            return
        time.sleep(0.1)
    raise TimeoutError(f"run {run_id} has not ended within 120 s")


if __name__ == "__main__":
    main()
