"""What a simulation came to, drawn: a Gantt chart by CU for each policy; cost against finish."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cu_market.sim.setting import Outcome

MOST_LABELLED = 40
"""Of more CUs, none is named: the names would lie on one another."""

ON_DEMAND, SPOT, LOST = "tab:blue", "tab:green", "tab:red"


def write_pictures(
    folder: Path, document: Mapping[str, Any], outcomes: Mapping[str, Outcome]
) -> list[Path]:
    """Writes policy.png of each policy's first replay, and cost-finish.png; returns their paths.

    Raises:
        ImportError: matplotlib is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, outcome in outcomes.items():
        written.append(folder / f"{name}.png")
        draw_schedule(written[-1], f"{document['workflow']}: {name}", outcome)
    written.append(folder / "cost-finish.png")
    draw_costs(written[-1], document)
    return written


def draw_schedule(path: Path, title: str, outcome: Outcome) -> None:
    """Draws one bar a stay, one row a CU in the order of first starts; what was lost in red."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    rows: dict[str, int] = {}
    for stay in outcome.stays:
        rows.setdefault(stay.cu_id, len(rows))
    figure = Figure(figsize=(9, min(40.0, 1.6 + 0.22 * len(rows))))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for stay in outcome.stays:
        colour = LOST if stay.has_failed else SPOT if stay.is_spot else ON_DEMAND
        axes.barh(
            rows[stay.cu_id],
            (stay.end_ms - stay.start_ms) / 1000,
            left=stay.start_ms / 1000,
            height=0.8,
            color=colour,
            alpha=0.6,
            edgecolor="white",
            linewidth=0.4,
        )
    axes.set_yticks(
        range(len(rows)), list(rows) if len(rows) <= MOST_LABELLED else [""] * len(rows)
    )
    axes.invert_yaxis()
    axes.set_xlabel("seconds after the start")
    axes.set_title(f"{title}, ${outcome.cost_microusd / 1e6:.4f}, {outcome.finish_ms / 1000:.0f} s")
    told = {"on demand": ON_DEMAND, "spot": SPOT, "lost": LOST}
    axes.legend(handles=[Patch(color=c, alpha=0.6, label=n) for n, c in told.items()], fontsize=7)
    figure.tight_layout()
    figure.savefig(path)


def draw_costs(path: Path, document: Mapping[str, Any]) -> None:
    """Draws each policy's mean cost and finish, bars to their p95; the deadline and the bound."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5))
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, figures in sorted(document["policies"].items()):
        finish, cost = figures["finish_seconds"], figures["cost_usd"]
        axes.errorbar(
            finish,
            cost,
            xerr=[[0], [max(0.0, figures["finish_seconds_p95"] - finish)]],
            yerr=[[0], [max(0.0, figures["cost_usd_p95"] - cost)]],
            fmt="o",
            capsize=2,
            label=name,
        )
    axes.axvline(document["deadline_seconds"], color="grey", linestyle="--", label="deadline")
    axes.axhline(document["lower_bound_usd"], color="grey", linestyle=":", label="lower bound")
    axes.set_xlabel("finish in seconds")
    axes.set_ylabel("cost in USD")
    axes.set_yscale("log")
    axes.set_title(document["workflow"])
    axes.legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path)
