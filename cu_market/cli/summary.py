"""What the demo prints: pool, runs, steps, bill, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cu_market.cli.explain import steps_table
from cu_market.cli.output import make_console, make_table
from cu_market.cli.pool import pool_table
from cu_market.domain.units import MICROUSD, format_usd
from cu_market.market.report import verdict

if TYPE_CHECKING:
    from rich.console import RenderableType

PICTURES = ("pool", "steps", "bill")


def print_summary(document: Mapping[str, Any], pictures: Path | None = None) -> None:
    """Prints the demo's five blocks; with pictures, also writes the tables as SVG files there."""
    first, last = document["runs"][0], document["runs"][-1]
    blocks: dict[str, list[RenderableType | str]] = {
        "pool": [pool_table(document["pool"])],
        "runs": [_runs_table(document["runs"])],
        "steps": _steps(first, "Run 1"),
        "last": _steps(last, f"Run {len(document['runs'])}") if last is not first else [],
        "bill": _bill(document),
        "next": _next(document),
    }
    console = make_console()
    for name, block in blocks.items():
        for shown in block:
            console.print(shown, markup=False)
        if pictures is not None and name in PICTURES:
            shown_again = blocks["last"] or block if name == "steps" else block
            _write_picture(shown_again, pictures / f"{name}.svg", name)


def _write_picture(block: Sequence[RenderableType | str], path: Path, name: str) -> None:
    """Writes what a block prints as an SVG file."""
    import io

    from rich.console import Console

    path.parent.mkdir(parents=True, exist_ok=True)
    console = Console(record=True, width=170, file=io.StringIO(), highlight=False)
    for shown in block:
        console.print(shown, markup=False)
    console.save_svg(str(path), title=f"cu-market demo: {name}")


def _runs_table(runs: Sequence[Mapping[str, Any]]) -> RenderableType:
    rows = []
    for number, run in enumerate(runs, 1):
        sized = ", ".join(f"{count} {name}" for name, count in sorted(run["sizing"].items()))
        ratio = run["saving"] and run["saving"]["ratio"]
        rows.append(
            (
                str(number),
                run["run_id"],
                sized,
                f"{run['bill']['wall_seconds']:.1f}",
                format_usd(run["bill"]["cost_microusd"]),
                "" if ratio is None else f"{ratio:.2f}",
            )
        )
    columns = ("run", "id", "steps sized by", "seconds", "cost", "cost / at run 1's sizes")
    return make_table("The runs", columns, rows, right=columns[3:])


def _steps(run: Mapping[str, Any], title: str) -> list[RenderableType | str]:
    billed = {line["name"]: line for line in run["billed"]}
    auction = run["auctions"][-1]  # the first held: the whole run's
    table = steps_table(auction["steps"], billed, f"{title}, step by step")
    later = len(run["auctions"]) - 1
    again = [f"{later} later auction(s) of this run: cu-market explain {run['run_id']}"]
    return [table, verdict(auction), *(again if later else [])]


def _bill(document: Mapping[str, Any]) -> list[RenderableType | str]:
    """Returns the bill by run, step and provider, and the two comparisons."""
    runs = document["runs"]
    numbers = [f"run {number}" for number in range(1, len(runs) + 1)]
    names = list(dict.fromkeys(line["name"] for run in runs for line in run["bill"]["by_step"]))
    providers = list(
        dict.fromkeys(line["name"] for run in runs for line in run["bill"]["by_provider"])
    )
    rows = [(name, *(_cost(run["bill"]["by_step"], name) for run in runs)) for name in names]
    rows.append(("", *("" for _ in runs)))
    rows += [
        (f"provider {name}", *(_cost(run["bill"]["by_provider"], name) for run in runs))
        for name in providers
    ]
    if any(run["bill"]["rentals"] for run in runs):
        rests = (sum(line["rest_usd"] for line in run["bill"]["rentals"]) for run in runs)
        shared = (format_usd(round(rest * MICROUSD)) for rest in rests)
        rows.append(("rented CUs, on no step's bill", *shared))
    rows.append(("the run", *(format_usd(run["bill"]["cost_microusd"]) for run in runs)))
    shown: list[RenderableType | str] = [
        make_table("The bill", ("step", *numbers), rows, right=numbers)
    ]
    last = runs[-1]
    if last["saving"] and document["ratio"] is not None:
        usd = round(last["saving"]["at_first_sizes_usd"] * MICROUSD)
        shown.append(
            f"Learning: run {len(runs)} cost {format_usd(last['bill']['cost_microusd'])}; at run "
            f"1's sizes, in its own time, it would have cost {format_usd(usd)}: "
            f"{document['ratio']:.2f}x (wanted: at most {document['bar_ratio']:g}x)."
            f"{_against_first(runs)}"
        )
    if last["static"]:
        static = last["static"]
        shown.append(
            f"One static machine ({static['resource_id']}, "
            f"{format_usd(round(static['price_per_hour'] * MICROUSD))} an hour), kept from the "
            f"run's first lease to its last end ({static['wall_seconds']:.1f} s), would have cost "
            f"{format_usd(round(static['cost_usd'] * MICROUSD))}."
        )
    return shown


def _cost(lines: Sequence[Mapping[str, Any]], name: str) -> str:
    return next((format_usd(line["cost_microusd"]) for line in lines if line["name"] == name), "")


def _next(document: Mapping[str, Any]) -> list[RenderableType | str]:
    last = document["runs"][-1]["run_id"][:8]
    home = document["home"]
    return [
        f"\nThe whole demo took {document['seconds']:.1f} s. Its runs, ledger and results are in "
        f"{home}; the next demo starts afresh there.",
        f"See them in Dagster's UI:  make up   (or: cu-market up --home {home})",
        f"Then ask about one step:   cu-market explain {last} <step> --home {home}",
    ]


def _against_first(runs: Sequence[Mapping[str, Any]]) -> str:
    """Returns what the last run cost and took beside the first as it really went."""
    first, last = runs[0]["bill"], runs[-1]["bill"]
    if not first["cost_microusd"]:
        return ""
    change = 100 * (last["cost_microusd"] / first["cost_microusd"] - 1)
    text = (
        f" Run 1 as it went: {format_usd(first['cost_microusd'])} in "
        f"{first['wall_seconds']:.1f} s; run {len(runs)}: {change:+.0f} %, in "
        f"{last['wall_seconds']:.1f} s"
    )
    return text + (", since its steps took longer." if change > 0 else ".")
