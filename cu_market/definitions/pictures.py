"""The assets' pictures: PNG, without pyplot, as Dagster's Markdown and MLflow's artifacts."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from cu_market.domain.units import MIB
from cu_market.pse.champion.evaluation import Scored

if TYPE_CHECKING:
    from cu_market.pse.demand.expected import HourOfDemand


def draw(fill: Callable[[Any], None], size: tuple[float, float] = (7, 3.5)) -> bytes:
    """Returns a picture as PNG; fill is given the axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    fill(figure.add_subplot())
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def markdown(title: str, picture: bytes) -> dg.MarkdownMetadataValue:
    """Returns a picture as metadata."""
    data = base64.b64encode(picture).decode("ascii")
    return dg.MetadataValue.md(f"![{title}](data:image/png;base64,{data})")


def before_and_after(models: Mapping[str, Sequence[Scored]]) -> bytes:
    """Returns what each model would have allocated, over what was used, attempt by attempt."""

    def fill(axes: Any) -> None:
        first = next(iter(models.values()), ())
        peaks = [s.usage.measurement.peak_memory_bytes / MIB for s in first]
        axes.plot(peaks, "k.-", label="used")
        for name, scored in models.items():
            axes.step(
                range(len(scored)),
                [s.allocated_bytes / MIB for s in scored],
                where="mid",
                label=name,
            )
        axes.set(xlabel="attempt", ylabel="memory [MiB]", ylim=(0, None))
        axes.set_title("Allocated before and after, and used")
        axes.legend()

    return draw(fill)


def predicted_against_actual(scored: Sequence[Scored]) -> bytes:
    """Returns predicted p95 over actual peak, both logarithmic."""

    def fill(axes: Any) -> None:
        actual = [max(1, s.usage.measurement.peak_memory_bytes) / MIB for s in scored]
        axes.loglog(actual, [max(1, s.p95_bytes) / MIB for s in scored], ".", alpha=0.6)
        axes.axline((100, 100), (1000, 1000), color="tab:red", linewidth=1)
        axes.set(xlabel="actual peak [MiB]", ylabel="predicted p95 [MiB]")

    return draw(fill, (4.5, 4))


def wastage_over_time(scored: Sequence[Scored]) -> bytes:
    """Returns wastage over what was used, attempt by attempt, failures marked."""

    def fill(axes: Any) -> None:
        times = [s.usage.ended_at for s in scored]
        axes.plot(times, [s.relative_wastage for s in scored], ".-", linewidth=0.7)
        failed = [s for s in scored if s.failures]
        axes.plot(
            [s.usage.ended_at for s in failed],
            [s.relative_wastage for s in failed],
            "rx",
            label="too small at first",
        )
        axes.set(ylabel="wastage / need", ylim=(0, None))
        axes.tick_params(axis="x", rotation=30)
        if failed:
            axes.legend()

    return draw(fill)


def demand_with_band(hours: Sequence[HourOfDemand]) -> bytes:
    """Returns core-hours by hour with their 10-90 % band, a colour a CU type."""

    def fill(axes: Any) -> None:
        for cu_type in sorted({hour.cu_type for hour in hours}):
            rows = [hour for hour in hours if hour.cu_type == cu_type]
            times = [row.hour for row in rows]
            axes.plot(times, [row.core_hours for row in rows], label=cu_type)
            low, high = [r.core_hours_p10 for r in rows], [r.core_hours_p90 for r in rows]
            axes.fill_between(times, low, high, alpha=0.25)
        axes.set(ylabel="core-hours an hour", ylim=(0, None))
        axes.tick_params(axis="x", rotation=30)
        if hours:
            axes.legend()

    return draw(fill)
