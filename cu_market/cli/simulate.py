"""`cu-market simulate`: what was recorded, replayed through the planner, policy beside policy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cu_market.cli.options import Home, Json
from cu_market.cli.output import make_console, make_error_console, write_json
from cu_market.cli.simulate_documents import simulate_documents
from cu_market.cli.simulate_sources import read_sources, tell_apart
from cu_market.cli.simulate_tables import forecast_line, simulate_table


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
    history: Annotated[
        list[Path] | None,
        typer.Option(
            help="WfFormat files that the market has seen before: its forecasts are learned from "
            "them, in this order, in the place of errors."
        ),
    ] = None,
    history_run: Annotated[
        list[str] | None,
        typer.Option("--history-run", help="The same: past runs of --home, after the files."),
    ] = None,
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
    files, catalog, policy = tell_apart(workflows or [], catalog, policy or [])
    recorded, seen = read_sources(
        files,
        run or (),
        home,
        history=history or (),
        history_runs=history_run or (),
        errors={"--runtime-error": runtime_error, "--memory-error": memory_error},
    )
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
        history=seen,
        told=told,
    ):
        documents.append(document)
        if not as_json:
            console.print(simulate_table(document))
            if "forecast" in document:
                console.print(forecast_line(document["forecast"]), markup=False)
            for note in document["notes"]:
                console.print(note, markup=False)
    if as_json:
        write_json(documents[0] if len(documents) == 1 else documents)
