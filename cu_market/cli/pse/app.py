"""`cu-market pse`: each command's work is in a module of its own, imported when it runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

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
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document and nothing else.")
    ] = False,
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
