"""`cu-market pse show --picture`: what a first size costs and how often it fails, risks marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cu_market.domain.problem import InvalidInputError, Problem

FORMATS = (".png", ".svg")


def draw_trade_off(steps: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Writes one panel a step that has a forecast.

    Raises:
        InvalidInputError: the file's name ends in neither .png nor .svg.
    """
    if path.suffix.lower() not in FORMATS:
        problem = Problem(
            where="--picture", value=str(path), what="neither PNG nor SVG", remedy="end it in .png"
        )
        raise InvalidInputError([problem])
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    known = [step for step in steps if step["trade_off"]]
    figure = Figure(figsize=(6.5, 3.2 * max(1, len(known))), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    for place, step in enumerate(known, 1):
        _fill(figure.add_subplot(len(known), 1, place), step)
    figure.savefig(path)


def _fill(axes: Any, step: Mapping[str, Any]) -> None:
    rows = step["trade_off"]
    sizes = [row["first_bytes"] / 2**20 for row in rows]
    axes.plot(sizes, [row["cost_ratio"] for row in rows], ".-")
    axes.set(title=step["step"], xlabel="first size [MiB]", ylabel="expected cost / need")
    failing = axes.twinx()
    failing.plot(sizes, [100 * r["failure_probability"] for r in rows], "--", color="tab:red")
    failing.set_ylabel("runs short [%]", color="tab:red")
    failing.set_ylim(0, None)
    for row, size in zip(rows, sizes, strict=True):
        if row["risks"]:
            axes.axvline(size, color="grey", linewidth=0.8)
            said = ", ".join(row["risks"])
            axes.annotate(said, (size, axes.get_ylim()[1]), rotation=90, va="top", ha="right")
