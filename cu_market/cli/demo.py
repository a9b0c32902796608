"""`cu-market demo`: a real pipeline, several times, through a real daemon, queue and launcher."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cu_market.cli.deployment import Deployment, open_deployment
from cu_market.cli.exits import CommandError
from cu_market.cli.explain import explain_document
from cu_market.cli.homes import base_home, locked, prepare_demo_home
from cu_market.cli.options import Json
from cu_market.cli.output import make_error_console, write_json
from cu_market.cli.pool import pool_document
from cu_market.cli.processes import Child, children, ended_by_sigterm

if TYPE_CHECKING:
    from dagster import DagsterInstance
    from rich.progress import Progress as Bar

LOCATION, JOB = "flights", "flights_job"
POLL_SECONDS = 0.2
BAR_RATIO = 0.6
"""The last run should cost at most this share of what it would have at the first run's sizes."""


def demo(
    home: Annotated[
        str | None,
        typer.Option(
            "--home",
            help="Directory with the dagster.yaml to use; the demo works in its subdirectory "
            "'demo'. Left out: $DAGSTER_HOME, else ./dagster_home.",
        ),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option(
            help="Delete what earlier demos left there, so that the first run knows nothing."
        ),
    ] = True,
    runs: Annotated[int, typer.Option(min=1, max=20, help="How many runs.")] = 3,
    timeout: Annotated[int, typer.Option(min=10, help="Seconds until it gives up.")] = 240,
    pictures: Annotated[
        Path | None, typer.Option(help="Also write what is printed as SVG files into here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a real pipeline three times through Dagster's daemon, and print the bills.

    The first run is sized by what its code declares, the later ones by what the first was measured
    to need. Everything stays on this machine.
    """
    from cu_market.cli.summary import print_summary

    base = Path(home).absolute() if home else base_home()
    demo_home = prepare_demo_home(base, is_fresh=fresh)
    document = run_demo(demo_home, count=runs, timeout_seconds=timeout)
    if as_json:
        write_json(document)
    else:
        print_summary(document, pictures)


def run_demo(home: Path, *, count: int, timeout_seconds: int) -> dict[str, Any]:
    """Runs the example count times, one after another; returns all that there is to tell.

    Raises:
        CommandError: a run failed, the daemon ended, or it took longer than allowed.
        InvalidInputError: the home's configuration cannot be used.
    """
    began = time.monotonic()
    os.environ["DAGSTER_HOME"] = str(home)  # code servers that this process starts inherit it
    with ended_by_sigterm(), locked(home), open_deployment(home) as deployment:
        pool = pool_document(deployment)
        workspace = str(home / "workspace.yaml")
        daemon = ("dagster-daemon", ["run", "-w", workspace])
        with children(daemon, home=home) as (child,):
            run_ids = _run_all(home, workspace, child, count, began + timeout_seconds)
        document = _document(deployment, run_ids)
    return {
        "home": str(home),
        "seconds": round(time.monotonic() - began, 2),
        "pool": pool,
        **document,
    }


def _run_all(home: Path, workspace: str, child: Child, count: int, deadline: float) -> list[str]:
    """Submits the job count times, each after the other has ended; returns the runs' ids."""
    from dagster import DagsterInstance
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from cu_market.dagster_compat.submission import open_workspace, submit_job

    console = make_error_console()
    console.print(f"Dagster's daemon starts in {home}; loading the example ...")
    run_ids: list[str] = []
    columns = (TextColumn("{task.description}"), BarColumn(30), TimeElapsedColumn())
    with (
        DagsterInstance.from_config(str(home)) as instance,
        open_workspace(instance, workspace) as context,
        Progress(*columns, console=console) as bar,
    ):
        for number in range(1, count + 1):
            run_id = submit_job(
                instance,
                context,
                location_name=LOCATION,
                job_name=JOB,
                tags={"cu_market/demo_run": str(number)},
            )
            run_ids.append(run_id)
            try:
                _follow(instance, run_id, number, bar, child, deadline)
            except (KeyboardInterrupt, CommandError):
                _cancel(instance, run_id)
                raise
    return run_ids


def _follow(
    instance: DagsterInstance, run_id: str, number: int, bar: Bar, child: Child, deadline: float
) -> None:
    """Shows a run's progress until it has ended.

    Raises:
        CommandError: it failed, the daemon has ended, or time is up.
    """
    from cu_market.dagster_compat.submission import RunReader

    reader = RunReader(instance, run_id)
    total = len(getattr(instance.get_run_by_id(run_id), "step_keys_to_execute", None) or ()) or None
    task = bar.add_task(f"run {number}: queued", total=total)
    while True:
        progress = reader.read()
        running = ", ".join(progress.running[:3]) or progress.status.lower().replace("_", " ")
        bar.update(
            task,
            completed=progress.ended,
            total=max(total or 1, progress.ended + len(progress.running)),
            description=f"run {number} ({run_id[:8]}): {progress.ended} steps done, {running}",
        )
        if progress.is_success:
            bar.update(task, total=progress.ended)
            return
        if progress.is_finished:
            said = "\n  ".join(progress.failures) or "no failure event; see the run's log"
            raise CommandError(f"run {number} ({run_id}) ended as {progress.status}:\n  {said}")
        child.check()
        if time.monotonic() > deadline:
            raise CommandError(
                f"run {number} ({run_id}) is {progress.status} with {progress.ended} steps done "
                f"and time is up; see {child.log_path}, or allow more with --timeout"
            )
        time.sleep(POLL_SECONDS)


def _cancel(instance: DagsterInstance, run_id: str) -> None:
    """Asks a run that still goes on to end, and waits for it a little."""
    run = instance.get_run_by_id(run_id)
    if run is None or run.is_finished:
        return
    try:
        instance.run_coordinator.cancel_run(run_id)
    except Exception as error:  # noqa: BLE001 - whatever happens here, the daemon's group ends next
        make_error_console().print(f"run {run_id} could not be cancelled: {error}", markup=False)
        return
    for _ in range(50):
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return
        time.sleep(POLL_SECONDS)


def _document(deployment: Deployment, run_ids: list[str]) -> dict[str, Any]:
    """Returns the runs' reports, bills and comparisons."""
    from cu_market.market.bill import read_bill
    from cu_market.market.comparison import savings, static_cost

    ledger = deployment.ledger
    first = ledger.allocations(run_id=run_ids[0])
    runs = []
    for run_id in run_ids:
        explained = explain_document(ledger, run_id, None)
        auctions = ledger.auctions(run_id)
        static = static_cost(read_bill(ledger, run_id), auctions)
        rows = ledger.allocations(run_id=run_id)
        saving = savings(rows, first, auctions) if rows and first else None
        runs.append(
            {
                **explained,
                "sizing": _sizing(explained["auctions"]),
                "saving": saving and saving.to_record(),
                "static": static and static.to_record(),
            }
        )
    last = runs[-1]["saving"]
    ratio = last and last["ratio"]
    return {
        "runs": runs,
        "ratio": ratio,
        "bar_ratio": BAR_RATIO,
        "is_bar_met": ratio is not None and ratio <= BAR_RATIO,
    }


def _sizing(auctions: list[Mapping[str, Any]]) -> dict[str, int]:
    """Returns how many steps were sized by what, over all of a run's auctions."""
    counts: dict[str, int] = {}
    for auction in auctions:
        for step in auction["steps"]:
            counts[step["sizing"]] = counts.get(step["sizing"], 0) + 1
    return counts
