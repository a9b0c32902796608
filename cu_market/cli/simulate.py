"""`cu-market simulate`: what was recorded, replayed through the planner, policy beside policy."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cu_market.cli.deployment import open_deployment
from cu_market.cli.exits import NothingFoundError
from cu_market.cli.homes import find_home
from cu_market.cli.options import Home, Json
from cu_market.cli.output import make_console, make_error_console, make_table, write_json
from cu_market.domain.problem import InvalidInputError, Problem

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from cu_market.sim.case import Case
    from cu_market.sim.recorded import Recorded
    from cu_market.sim.setting import Outcome


def simulate(
    catalog: Annotated[list[Path], typer.Option("--catalog", help="Price catalogues.")],
    workflows: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[WORKFLOW.json...]", help="WfFormat 1.5 files."),
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option("--run", help="A past run of --home, as measured: id, beginning or 'last'."),
    ] = None,
    policy: Annotated[list[str] | None, typer.Option("--policy", help="Only these.")] = None,
    deadline_factor: Annotated[
        float, typer.Option(min=0.1, help="Deadline, times the static machine's finish.")
    ] = 1.0,
    spot: Annotated[Path | None, typer.Option(help="Spot trace.")] = None,
    spot_price_ratio: Annotated[
        float, typer.Option(min=0, max=1, help="Spot price, where the catalogue has none.")
    ] = 0.35,
    runtime_error: Annotated[
        float, typer.Option(min=0, help="Sigma of the market's forecasts of durations.")
    ] = 0.0,
    memory_error: Annotated[
        float, typer.Option(min=0, help="The same, of memory: what outgrows its size starts again.")
    ] = 0.0,
    replays: Annotated[int, typer.Option(min=1, help="Of each policy.")] = 100,
    seconds: Annotated[float, typer.Option(min=0.1, help="Limit of each plan.")] = 5.0,
    seed: Annotated[int, typer.Option(help="Of errors and trace offsets.")] = 0,
    schedule_out: Annotated[
        Path | None, typer.Option(help="Folder for schedules: DIR/workflow/policy.csv.")
    ] = None,
    picture_out: Annotated[
        Path | None,
        typer.Option(help="Folder for pictures: DIR/workflow/policy.png and cost-finish.png."),
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Replay recorded workflows, or runs that were, on virtual time, policy beside policy."""
    files, catalog, policy = _told_apart(workflows or [], catalog, policy or [])
    recorded = read_recorded(files, run or (), home)
    documents: list[dict[str, Any]] = []
    console, told = make_console(), make_error_console()
    for document in simulate_documents(
        recorded,
        catalog,
        policy,
        spot=spot,
        schedule_out=schedule_out,
        picture_out=picture_out,
        seconds=seconds,
        options={
            "deadline_factor": deadline_factor,
            "runtime_error": runtime_error,
            "replays": replays,
            "seed": seed,
            "memory_error": memory_error,
        },
        spot_price_ratio=spot_price_ratio,
        told=told,
    ):
        documents.append(document)
        if not as_json:
            console.print(simulate_table(document))
            for note in document["notes"]:
                console.print(note, markup=False)
    if as_json:
        write_json(documents[0] if len(documents) == 1 else documents)


def _told_apart(
    files: Sequence[Path], catalogs: Sequence[Path], policies: Sequence[str]
) -> tuple[list[Path], list[Path], list[str]]:
    """Returns workflows, catalogues and policies where an option was given several values at once:
    ``--catalog a.csv b.csv`` leaves ``b.csv`` among the workflows."""
    from cu_market.sim.study import POLICIES

    more = [path for path in files if path.suffix.lower() == ".csv"]
    names = [str(path) for path in files if str(path) in POLICIES and not path.exists()]
    workflows = [path for path in files if path not in more and str(path) not in names]
    return workflows, [*catalogs, *more], [*policies, *names]


def read_recorded(
    workflows: Sequence[Path], runs: Sequence[str], said_home: str | None
) -> list[Recorded]:
    """Returns what the files and the runs recorded.

    Raises:
        InvalidInputError: what is wrong with any file; neither a file nor a run.
        NothingFoundError: no such run, or none of its steps was measured.
        LedgerError: the ledger cannot be opened.
    """
    from cu_market.sim.recorded import recorded_file

    found: list[Recorded] = []
    problems: list[Problem] = []
    for path in workflows:
        try:
            found.append(recorded_file(path))
        except InvalidInputError as error:
            problems += error.problems
    if not workflows and not runs:
        what, remedy = "nothing to replay", "give WfFormat files, or --run with a run of this home"
        problems.append(Problem(where="WORKFLOW.json", value="", what=what, remedy=remedy))
    if problems:
        raise InvalidInputError(problems)
    return found + (_measured_runs(find_home(said_home), runs) if runs else [])


def _measured_runs(home: Path, runs: Sequence[str]) -> list[Recorded]:
    from dagster import DagsterInstance

    from cu_market.cli.outlines import read_outline
    from cu_market.sim.recorded import recorded_run

    found = []
    with open_deployment(home) as deployment, DagsterInstance.from_config(str(home)) as instance:
        for said in runs:
            outline = read_outline(instance, said)
            one = recorded_run(outline, deployment.ledger.usages(run_id=outline.run_id))
            if not one.tasks:
                raise NothingFoundError(
                    f"run {outline.run_id}: no step of it was measured to a good end; "
                    "`cu-market ledger` lists the runs that the market ran"
                )
            found.append(one)
    return found


def simulate_documents(
    recorded: Sequence[Recorded],
    catalogs: Sequence[Path],
    policies: Sequence[str],
    *,
    spot: Path | None,
    schedule_out: Path | None,
    picture_out: Path | None,
    seconds: float,
    options: Mapping[str, Any],
    spot_price_ratio: float = 0.35,
    told: Console | None = None,
) -> Iterator[dict[str, Any]]:
    """Yields one document a workflow as soon as it is done; writes schedules where asked.

    Args:
        recorded: what is replayed; all of it is checked before the first is planned.
        catalogs: price catalogues.
        policies: names; all where there are none.
        spot: a trace, or None for on demand only.
        schedule_out: folder for DIR/workflow/policy.csv, or None.
        picture_out: folder for DIR/workflow/policy.png and cost-finish.png, or None.
        seconds: limit of each plan.
        options: further fields of the study's Case.
        spot_price_ratio: spot price over that on demand where the catalogue has none.
        told: shows which one is planned, on a terminal.

    Raises:
        InvalidInputError: a file or a policy cannot be used.
    """
    from cu_market.cli.simulate_pictures import write_pictures
    from cu_market.dnm.schedule import Budget
    from cu_market.market.solver.process import SolverProcess
    from cu_market.sim.case import Case
    from cu_market.sim.inputs import read_sold, read_spot
    from cu_market.sim.recorded import problems_of
    from cu_market.sim.setting import SpotPrices, Traffic
    from cu_market.sim.study import POLICIES, study_with_outcomes

    wrong = sorted(set(policies) - set(POLICIES))
    if wrong:
        remedy = f"one of {', '.join(POLICIES)}"
        raise InvalidInputError(
            [
                Problem(where="--policy", value=n, what="no such policy", remedy=remedy)
                for n in wrong
            ]
        )
    solver = SolverProcess()
    try:
        solver.warm()  # it is ready when the files are read: no plan's seconds go into its start
        sold = read_sold(catalogs)
        machines = tuple(each.machine for each in sold)
        locations = {each.machine.name: each.location for each in sold}
        prices = SpotPrices(
            permille=round(1000 * spot_price_ratio),
            by_type={
                each.machine.name: each.spot_microusd_per_hour
                for each in sold
                if each.spot_microusd_per_hour is not None
            },
        )
        trace = None if spot is None else read_spot(spot)
        problems = [problem for one in recorded for problem in problems_of(one, machines)]
        if not machines:
            problems = [_nothing_eligible(catalogs)]
        if schedule_out is not None or picture_out is not None:
            problems += _same_names(recorded)
        if problems:
            raise InvalidInputError(problems)
        for number, one in enumerate(recorded, start=1):
            case = Case(
                name=one.name,
                tasks=one.tasks,
                kinds=one.kinds,
                machines=machines,
                trace=trace,
                spot=prices,
                peaks=one.peaks,
                traffic=Traffic(moved=one.moved, locations=locations),
                **options,
            )
            doing = f"{number} of {len(recorded)}: {one.name}, {len(one.tasks)} steps ..."
            with told.status(doing) if told is not None else nullcontext():
                document, outcomes = study_with_outcomes(
                    case,
                    policies or POLICIES,
                    solver=solver,
                    budget=Budget(limit_seconds=seconds),
                    clock=time.perf_counter,
                )
            if schedule_out is not None:
                _write_schedules(schedule_out / one.name, case, outcomes)
            if picture_out is not None:
                write_pictures(picture_out / one.name, document, outcomes)
            yield document
    finally:
        solver.close()


def _nothing_eligible(catalogs: Sequence[Path]) -> Problem:
    return Problem(
        where="--catalog",
        value=", ".join(map(str, catalogs)),
        what="none of its types is eligible: amd64, no accelerator, not t*, generation 5 or later, "
        "ClockMHz present",
        remedy="give a catalogue with the columns Arch and ClockMHz and such types",
    )


def _same_names(recorded: Sequence[Recorded]) -> list[Problem]:
    """Returns a problem for each that would write where one before it has written."""
    seen: set[str] = set()
    found = []
    for one in recorded:
        if one.name in seen:
            what = f"another one is called {one.name}, too, and would be written over"
            remedy = "rename one, or simulate them one by one into folders of their own"
            found.append(Problem(where=one.place, value=one.name, what=what, remedy=remedy))
        seen.add(one.name)
    return found


def simulate_table(document: Mapping[str, Any]) -> RenderableType:
    """Returns one workflow's policies as a table, the cheapest first."""
    columns = (
        *("policy", "cost", "p95", "finish s", "p95 s", "late", "late by s"),
        *("failed", "moves", "egress"),
    )
    ordered = sorted(document["policies"].items(), key=lambda each: each[1]["cost_usd"])
    rows = [
        (
            name,
            f"${figures['cost_usd']:.4f}",
            f"${figures['cost_usd_p95']:.4f}",
            f"{figures['finish_seconds']:.1f}",
            f"{figures['finish_seconds_p95']:.1f}",
            f"{100 * figures['late_ratio']:.1f} %",
            f"{figures['late_seconds']:.1f}",
            f"{figures['failed_attempts']:.2f}",
            f"{figures['moves']:.1f}",
            f"${figures['egress_usd']:.4f}",
        )
        for name, figures in ordered
    ]
    title = f"{document['workflow']}: deadline {document['deadline_seconds']:.1f} s"
    if document["lower_bound_usd"] is not None:
        title += (
            f", bound ${document['lower_bound_usd']:.4f}, gap {100 * document['gap_ratio']:.1f} %"
        )
    return make_table(title, columns, rows, right=columns[1:])


def _write_schedules(folder: Path, case: Case, outcomes: Mapping[str, Outcome]) -> None:
    """Writes each policy's first replay, from which its cost can be computed again."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks = {task.task_id: task for task in case.tasks}
    columns = "step,cu_id,instance_type,location,start_seconds,end_seconds,cpu_cores,memory_bytes"
    for name, outcome in outcomes.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns.split(","))
            for stay in outcome.stays:
                writer.writerow(
                    [
                        stay.task_id,
                        f"{stay.cu_id}/spot" if stay.is_spot else stay.cu_id,
                        stay.machine,
                        case.traffic.locations.get(stay.machine, ""),
                        *(stay.start_ms / 1000, stay.end_ms / 1000),
                        *(tasks[stay.task_id].cpu_millis / 1000, stay.memory_bytes),
                    ]
                )
