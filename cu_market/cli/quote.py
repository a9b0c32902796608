"""`cu-market quote`: what a run would cost now and when it would end; nothing is bought."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cu_market.cli.homes import find_home
from cu_market.cli.options import Home, Json
from cu_market.cli.output import make_console, make_table, write_json
from cu_market.cli.pool import notice_of

if TYPE_CHECKING:
    from rich.console import RenderableType


def quote(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run's id, its beginning, or 'last'.")
    ],
    points: Annotated[int, typer.Option(min=5, max=50, help="Of the curve.")] = 7,
    picture: Annotated[
        Path | None, typer.Option(help="Also draw the curve: FILE.svg or FILE.png.")
    ] = None,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Tell what a run would cost if it was launched now and when it would end, and cost against
    deadline.

    Nothing is bought. CUs that are only quoted (price catalogues) count, too. What others have
    leased, and what they wait for, keeps its place.
    """
    from cu_market.market.ends import ends_words

    document = quote_document(find_home(home), run, points=points)
    if picture is not None:
        draw_quote(document, picture)
    if as_json:
        write_json(document)
        return
    console = make_console()
    console.print(quote_table(document))
    console.print(beside_words(document), markup=False)
    if document["deadline"]:
        console.print(ends_words(document["deadline"]).strip(), markup=False)
    for name, notice in document["notices"].items():
        console.print(f"{name}: {notice}", markup=False)


def quote_document(home: Path, said: str, *, points: int) -> dict[str, Any]:
    """Returns the quote of a run that Dagster knows, at today's prices.

    Keys: run_id, job, asked and curve (see Point.to_record), is_late (whether it misses its own
    deadline for what others have and wait for), deadline and steps (as an auction's report has
    them), beside (see Quote.beside), notices (by provider).

    Raises:
        NothingFoundError: no such run, or it has no execution plan.
        InvalidInputError, MarketUnavailableError: as an auction of it.
    """
    from dagster import DagsterInstance

    from cu_market.cli.outlines import read_outline
    from cu_market.deo.launcher.queued import queued_outlines
    from cu_market.deo.settings import instance_settings
    from cu_market.market.opening import close_market, open_market
    from cu_market.market.quote import quote_run

    with DagsterInstance.from_config(str(home)) as instance:
        outline = read_outline(instance, said)
        market = open_market(instance_settings(instance), str(home))
        try:
            queued = queued_outlines(instance, outline.run_id)
            quote = quote_run(market, outline, points=points, queued=queued)
            now = datetime.now(UTC)
            notices = {p.name: notice_of(p, now) for p in market.providers.values()}
        finally:
            close_market(market)
    return {
        "run_id": outline.run_id,
        "job": outline.job_name,
        "asked": quote.asked.to_record(),
        "curve": [point.to_record() for point in quote.curve],
        "is_late": quote.is_late,
        "deadline": quote.cleared.auction.report["deadline"],
        "beside": quote.beside(),
        "steps": quote.cleared.auction.report["steps"],
        "notices": {name: text for name, text in notices.items() if text},
    }


def quote_table(document: Mapping[str, Any]) -> RenderableType:
    """Returns the curve as a table, the run's own terms first."""
    columns = ("by", "cost p50", "cost p95", "ends p50", "ends p95")
    rows = [_row("as asked", document["asked"])]
    rows += [_row(f"{p['deadline_seconds']:.1f} s", p) for p in document["curve"]]
    count = len(document["steps"])
    title = f"{document['job']}, {count} steps: cost against deadline, nothing bought"
    return make_table(title, columns, rows, right=columns[1:])


def beside_words(document: Mapping[str, Any]) -> str:
    """Returns beside whom it was planned, and whether its deadline suffers from that."""
    beside = document["beside"]
    told = {
        "lease": beside["leases"],
        "waiting step": beside["waiting_steps"],
        "queued step": beside["queued_steps"],
    }
    parts = [f"{count} {name}{'s' if count > 1 else ''}" for name, count in told.items() if count]
    words = f"Planned beside {' and '.join(parts)}." if parts else "Nobody else uses the pools now."
    if beside["left_out_steps"]:
        words += f" {beside['left_out_steps']} more waiting steps do not count."
    if document["is_late"]:
        words += " As asked, it misses its deadline because of them."
    return words


def draw_quote(document: Mapping[str, Any], path: Path) -> None:
    """Writes the curve as a picture; its ending says the format.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    points = [p for p in document["curve"] if p["is_feasible"]]
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    deadlines = [p["deadline_seconds"] for p in points]
    axes.step(deadlines, [p["cost_usd_p50"] for p in points], where="post", label="p50")
    axes.step(deadlines, [p["cost_usd_p95"] for p in points], where="post", label="p95", ls="--")
    asked = document["asked"]
    if asked["is_feasible"]:
        axes.plot([asked["deadline_seconds"]], [asked["cost_usd_p50"]], "o", label="as asked")
    axes.set(
        title=f"{document['job']}: cost against deadline", xlabel="deadline, s", ylabel="cost, $"
    )
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path)


def _row(name: str, point: Mapping[str, Any]) -> tuple[str, ...]:
    if not point["is_feasible"]:
        return (name, "not to be had", "", "", "")
    return (
        name,
        f"${point['cost_usd_p50']:.6f}",
        f"${point['cost_usd_p95']:.6f}",
        f"{point['finish_seconds_p50']:.1f} s",
        f"{point['finish_seconds_p95']:.1f} s",
    )
