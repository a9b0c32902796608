"""`cu-market simulate`: recorded workflows replayed through the planner, policy beside policy."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cu_market.cli.options import Json
from cu_market.cli.output import make_console, make_table, write_json
from cu_market.domain.problem import InvalidInputError, Problem

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cu_market.sim.setting import Outcome
    from cu_market.sim.study import Case


def simulate(
    workflows: Annotated[
        list[Path], typer.Argument(metavar="WORKFLOW.json...", help="WfFormat 1.5 files.")
    ],
    catalog: Annotated[list[Path], typer.Option("--catalog", help="Price catalogue; repeatable.")],
    policy: Annotated[
        list[str] | None, typer.Option("--policy", help="Only these; repeatable.")
    ] = None,
    deadline_factor: Annotated[
        float, typer.Option(min=0.1, help="Deadline, times the static machine's finish.")
    ] = 1.0,
    spot: Annotated[Path | None, typer.Option(help="Spot trace.")] = None,
    spot_price_ratio: Annotated[
        float, typer.Option(min=0, max=1, help="Spot price, where the catalogue has none.")
    ] = 0.35,
    runtime_error: Annotated[float, typer.Option(min=0, help="Sigma of the forecast.")] = 0.0,
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
    as_json: Json = False,
) -> None:
    """Replay recorded workflows on virtual time through the planner, policy beside policy."""
    documents = simulate_documents(
        workflows,
        catalog,
        policy or (),
        spot=spot,
        schedule_out=schedule_out,
        picture_out=picture_out,
        seconds=seconds,
        options={
            "deadline_factor": deadline_factor,
            "runtime_error": runtime_error,
            "replays": replays,
            "seed": seed,
            "spot_permille": round(1000 * spot_price_ratio),
        },
    )
    if as_json:
        write_json(documents[0] if len(documents) == 1 else documents)
        return
    console = make_console()
    for document in documents:
        console.print(simulate_table(document))


def simulate_documents(
    workflows: Sequence[Path],
    catalogs: Sequence[Path],
    policies: Sequence[str],
    *,
    spot: Path | None,
    schedule_out: Path | None,
    picture_out: Path | None,
    seconds: float,
    options: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Returns one document a workflow; writes schedules where asked.

    Args:
        workflows: WfFormat files.
        catalogs: price catalogues.
        policies: names; all where there are none.
        spot: a trace, or None for on demand only.
        schedule_out: folder for DIR/workflow/policy.csv, or None.
        picture_out: folder for DIR/workflow/policy.png and cost-finish.png, or None.
        seconds: limit of each plan.
        options: further fields of the study's Case.

    Raises:
        InvalidInputError: a file or a policy cannot be used.
    """
    from cu_market.cli.simulate_pictures import write_pictures
    from cu_market.dnm.schedule import Budget
    from cu_market.market.solver.process import SolverProcess
    from cu_market.sim.inputs import read_kinds, read_machines, read_spot, read_workflow
    from cu_market.sim.study import POLICIES, Case, study_with_outcomes

    wrong = sorted(set(policies) - set(POLICIES))
    if wrong:
        remedy = f"one of {', '.join(POLICIES)}"
        raise InvalidInputError(
            [
                Problem(where="--policy", value=n, what="no such policy", remedy=remedy)
                for n in wrong
            ]
        )
    solver, documents = SolverProcess(), []
    try:
        solver.warm()  # it is ready when the files are read: no plan's seconds go into its start
        machines = read_machines(catalogs)
        trace = None if spot is None else read_spot(spot)
        for path in workflows:
            tasks = read_workflow(path)
            case = Case(
                name=path.stem,
                tasks=tasks,
                kinds=read_kinds(path),
                machines=machines,
                trace=trace,
                **options,
            )
            document, outcomes = study_with_outcomes(
                case,
                policies or POLICIES,
                solver=solver,
                budget=Budget(limit_seconds=seconds),
                clock=time.perf_counter,
            )
            documents.append(document)
            if schedule_out is not None:
                _write_schedules(schedule_out / path.stem, case, outcomes)
            if picture_out is not None:
                write_pictures(picture_out / path.stem, document, outcomes)
    finally:
        solver.close()
    return documents


def simulate_table(document: Mapping[str, Any]) -> RenderableType:
    """Returns one workflow's policies as a table, the cheapest first."""
    columns = ("policy", "cost", "p95", "finish s", "p95 s", "late", "failed", "moves")
    ordered = sorted(document["policies"].items(), key=lambda each: each[1]["cost_usd"])
    rows = [
        (
            name,
            f"${figures['cost_usd']:.4f}",
            f"${figures['cost_usd_p95']:.4f}",
            f"{figures['finish_seconds']:.1f}",
            f"{figures['finish_seconds_p95']:.1f}",
            f"{100 * figures['late_ratio']:.1f} %",
            f"{figures['failed_attempts']:.2f}",
            f"{figures['moves']:.1f}",
        )
        for name, figures in ordered
    ]
    title = (
        f"{document['workflow']}: deadline {document['deadline_seconds']:.1f} s, bound "
        f"${document['lower_bound_usd']:.4f}, gap {100 * document['gap_ratio']:.1f} %"
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
                task = tasks[stay.task_id]
                writer.writerow(
                    [
                        *(stay.task_id, stay.cu_id, stay.machine),
                        "spot" if stay.is_spot else "on demand",
                        *(stay.start_ms / 1000, stay.end_ms / 1000),
                        *(task.cpu_millis / 1000, task.memory_bytes),
                    ]
                )
