"""What a simulation came to, as tables: one a workflow to be read, one a schedule in a file."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cu_market.cli.output import make_table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cu_market.sim.case import Case
    from cu_market.sim.setting import Outcome


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


def forecast_line(forecast: Mapping[str, Any]) -> str:
    """Returns what the market's forecasts were worth, in one line."""
    recordings = forecast["recordings"]
    line = (
        f"forecasts by {recordings} recording{'s' * (recordings != 1)}: "
        f"{forecast['known_tasks']} tasks known by their kind, {forecast['borrowed_tasks']} by "
        f"others, {forecast['unknown_tasks']} unknown; forecast over recorded time "
        f"{forecast['duration_ratio_p50']:.3g} (p5 {forecast['duration_ratio_p5']:.3g}, "
        f"p95 {forecast['duration_ratio_p95']:.3g})"
    )
    if forecast["memory_ratio_p50"] is not None:
        line += f"; reserved over recorded memory {forecast['memory_ratio_p50']:.3g}"
    if forecast["outgrown_tasks"]:
        line += f"; {forecast['outgrown_tasks']} outgrow what is reserved"
    return line


def write_schedules(folder: Path, case: Case, outcomes: Mapping[str, Outcome]) -> None:
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
