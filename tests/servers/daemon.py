"""Dagster's real daemon over a home of a test's own, and the workspace that it serves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRun
from dagster._core.workspace.context import WorkspaceRequestContext

from cu_market.dagster_compat.submission import open_workspace

__all__ = ["running_daemon", "serve_file", "wait_for"]


def serve_file(home: Path, jobs: Path) -> None:
    """Writes the workspace of a home: one file's ``defs``, as code location ``tests``."""
    (home / "workspace.yaml").write_text(
        f"load_from: [{{python_file: {{relative_path: {jobs}, location_name: tests, "
        "attribute: defs}}]\n"
    )


@contextmanager
def running_daemon(
    home: Path, modules: Path | None = None
) -> Iterator[tuple[DagsterInstance, WorkspaceRequestContext]]:
    """Yields a home's instance and workspace while its daemon runs.

    Args:
        home: has a ``dagster.yaml`` and a ``workspace.yaml``; gets a ``daemon.log``.
        modules: a folder of modules that the ``dagster.yaml`` names, or None.
    """
    workspace = str(home / "workspace.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        if modules is not None:
            patch.setenv("PYTHONPATH", str(modules), prepend=os.pathsep)
        with DagsterInstance.get() as instance:
            # Its tables are made here: two processes at once would leave Alembic with two heads.
            instance.get_runs_count()
        with (home / "daemon.log").open("w") as log:
            daemon = subprocess.Popen(
                [Path(sys.executable).with_name("dagster-daemon"), "run", "-w", workspace],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            with DagsterInstance.get() as instance, open_workspace(instance, workspace) as opened:
                try:
                    yield instance, opened
                finally:
                    _end_runs(instance)
        finally:
            daemon.send_signal(signal.SIGINT)
            try:
                daemon.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(daemon.pid, signal.SIGKILL)
                daemon.wait()


def _end_runs(instance: DagsterInstance) -> None:
    """Cancels what a test that has failed leaves behind: its run workers would run on for hours."""

    def unfinished() -> list[DagsterRun]:
        return [run for run in instance.get_runs() if not run.is_finished]

    for run in unfinished():
        instance.run_coordinator.cancel_run(run.run_id)
    deadline = time.monotonic() + 30
    while unfinished() and time.monotonic() < deadline:
        time.sleep(0.1)


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 240) -> None:
    """Returns once a condition holds; fails, naming what was waited for, when it takes longer."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)
