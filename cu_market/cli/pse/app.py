"""`cu-market pse`: each command's work is in a module of its own, imported when it runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cu_market.cli.options import Home, Json
from cu_market.cli.output import make_console, write_json
from cu_market.domain.spec import Risk

pse = typer.Typer(
    help="Forecasts: how good they are, what they rest on, which model makes them.",
    no_args_is_help=True,
)


class Format(StrEnum):
    """What a trace is written in."""

    NEXTFLOW = "nextflow"
    WFFORMAT = "wfformat"


class Protocol(StrEnum):
    """How a trace is replayed."""

    WARM = "warm"
    COLD = "cold"


@pse.command()
def evaluate(
    file: Annotated[Path, typer.Argument(help="A trace.")],
    format: Annotated[
        Format | None, typer.Option(help="Left out: wfformat for .json, else nextflow.")
    ] = None,
    protocol: Annotated[
        Protocol,
        typer.Option(help="warm: three in ten known before; cold: from nothing, in life's order."),
    ] = Protocol.WARM,
    prior: Annotated[
        list[Path] | None, typer.Option(help="A trace to learn from before; repeats.")
    ] = None,
    coarse_bytes: Annotated[
        bool, typer.Option("--coarse-bytes", help="Know input bytes only as a power of two.")
    ] = False,
    risk: Annotated[Risk, typer.Option(help="How a failed attempt is weighed.")] = Risk.BALANCED,
    seeds: Annotated[
        int, typer.Option(min=1, max=5, help="The first so many of 1996, 7, 42, 1, 2.")
    ] = 5,
    ttf: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of its time after which one fails.")
    ] = 1.0,
    attempts_out: Annotated[
        Path | None, typer.Option(help="Write every allocation of ours to this CSV file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Replay a trace: wastage, failures, coverage and speed of ours and of what it replaces."""
    from cu_market.cli.pse.evaluate import evaluate_trace, evaluation_table

    document = evaluate_trace(
        file,
        format=format,
        protocol=protocol,
        priors=prior or (),
        is_coarse=coarse_bytes,
        risk=risk,
        seed_count=seeds,
        ttf=ttf,
        attempts_out=attempts_out,
    )
    if as_json:
        write_json(document)
    else:
        make_console().print(evaluation_table(document))


@pse.command()
def show(
    step: Annotated[
        str, typer.Argument(metavar="STEP", help="Asset key or op; location:STEP, STEP@partition.")
    ],
    picture: Annotated[
        Path | None, typer.Option(help="Also draw what a first size costs, to this PNG or SVG.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Tell what is expected of a step, from which attempts, and what each risk would ask for."""
    from cu_market.cli.deployment import open_deployment
    from cu_market.cli.homes import find_home
    from cu_market.cli.pse.show import show_document, show_tables

    with open_deployment(find_home(home)) as deployment:
        document = show_document(deployment.ledger, step)
    if picture is not None:
        from cu_market.cli.pse.picture import draw_trade_off

        draw_trade_off(document["steps"], picture)
    if as_json:
        write_json(document)
        return
    console = make_console()
    for shown in show_tables(document):
        console.print(shown, markup=False)


@pse.command()
def models(home: Home = None, as_json: Json = False) -> None:
    """List every version of every code location's model, and who is champion."""
    from cu_market.cli.homes import find_home
    from cu_market.cli.pse.models import models_document, models_table

    document = models_document(find_home(home))
    if as_json:
        write_json(document)
    else:
        make_console().print(models_table(document))


@pse.command()
def promote(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="location@version, or a version.")],
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make a version champion: the next launch sizes by it."""
    from cu_market.cli.deployment import open_deployment
    from cu_market.cli.homes import find_home
    from cu_market.cli.pse.models import promote_document

    found = find_home(home)
    with open_deployment(found) as deployment:
        document = promote_document(found, deployment.ledger, model)
    _tell(document, as_json)


@pse.command()
def rollback(
    location: Annotated[
        str | None, typer.Argument(metavar="LOCATION", help="Left out: the only one.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make the champion before this one champion again."""
    from cu_market.cli.deployment import open_deployment
    from cu_market.cli.homes import find_home
    from cu_market.cli.pse.models import rollback_document

    found = find_home(home)
    with open_deployment(found) as deployment:
        document = rollback_document(found, deployment.ledger, location)
    _tell(document, as_json)


@pse.command()
def demand(
    hours: Annotated[int, typer.Option(min=1, max=168, help="How far ahead.")] = 24,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Foretell what will be asked, by schedules, queue, backfills, sensors and people."""
    from cu_market.cli.deployment import open_deployment
    from cu_market.cli.homes import find_home
    from cu_market.cli.pse.demand import demand_document, demand_tables

    with open_deployment(find_home(home)) as deployment:
        document = demand_document(deployment, hours)
    if as_json:
        write_json(document)
        return
    console = make_console()
    for shown in demand_tables(document):
        console.print(shown, markup=False)


@pse.command("import")
def import_history(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Left out: Dagster's own event log.")
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(help="nextflow, wfformat or prometheus; left out: by the file's content."),
    ] = None,
    location: Annotated[
        str, typer.Option(help="Code location that the steps are to belong to.")
    ] = "",
    runs: Annotated[int, typer.Option(min=1, help="Newest runs of the event log.")] = 1000,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Take in what is already known of steps: traces, container metrics, the event log. Once."""
    from cu_market.cli.deployment import open_deployment
    from cu_market.cli.homes import find_home
    from cu_market.cli.pse.importing import import_events, import_file, import_lines, read_source

    source = read_source(format)
    with open_deployment(find_home(home)) as deployment:
        if file is None:
            document = import_events(deployment, runs)
        else:
            document = import_file(deployment, file, source, location)
    if as_json:
        write_json(document)
        return
    for line in import_lines(document):
        make_console().print(line, markup=False)


def _tell(document: dict[str, object], as_json: bool) -> None:
    if as_json:
        write_json(document)
    else:
        make_console().print(f"{document['champion']} is champion now", markup=False)
