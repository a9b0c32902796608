"""`cu-market pse show`: what is expected of a step, from which attempts, with a small plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from cu_market.cli.exits import NothingFoundError
from cu_market.cli.output import make_table
from cu_market.domain.request import StepIdentity
from cu_market.domain.scaling import Scaling
from cu_market.domain.spec import Risk
from cu_market.domain.units import format_bytes
from cu_market.domain.usage import GpuScope, Usage
from cu_market.ledger.interface import Ledger
from cu_market.market.demand.champions import published_forecaster
from cu_market.market.demand.past import read_past
from cu_market.pse.champion.state import location_identity
from cu_market.pse.forecast import Forecast
from cu_market.pse.ladder.trade_off import trade_off
from cu_market.pse.models.forecaster import LearnedForecaster

if TYPE_CHECKING:
    from rich.console import RenderableType

NEWEST = 20_000
BARS = " ▁▂▃▄▅▆▇█"
PLOT_POINTS = 60


def show_document(ledger: Ledger, said: str) -> dict[str, Any]:
    """Returns what is expected of the steps that are meant, from which attempts.

    Args:
        ledger: of histories and champions.
        said: a step's node, or ``location:node``, ``node@partition``.

    Raises:
        NothingFoundError: the ledger has no attempt of it.
    """
    steps = _find(ledger, said)
    past = read_past(ledger, steps)
    return {"steps": [_step(ledger, step, past.of(step)) for step in steps if past.of(step)]}


def show_tables(document: Mapping[str, Any]) -> list[RenderableType | str]:
    """Returns, for each step, what is expected, and the attempts that it rests on."""
    shown: list[RenderableType | str] = []
    for step in document["steps"]:
        forecast = step["forecast"]
        shown.append(f"{step['step']}: sized by {step['model']}")
        if forecast:
            shown.append(
                f"  memory {forecast['in_words']}; next asks for "
                + ", ".join(f"{format_bytes(v)} ({k})" for k, v in forecast["allocation"].items())
            )
            shown.append(
                f"  duration p50 {forecast['duration_p50_seconds']:.1f} s, p95 "
                f"{forecast['duration_p95_seconds']:.1f} s; {forecast['useful_cores']:g} cores used"
            )
            if forecast["scaling"]:
                shown.append(f"  {_scaling_words(forecast['scaling'])}")
        if step["trade_off"]:
            shown.append(_trade_off_table(step["trade_off"]))
        shown.append(f"  peaks, oldest first: {step['plot']}")
        if step["curve_plot"]:
            shown.append(f"  newest attempt's memory over time: {step['curve_plot']}")
        columns = ("attempt of", "ended", "peak", "given", "wall s", "CPU s", "GPU", "end")
        rows = [
            (
                attempt["run_id"][:8],
                attempt["ended_at"][:19],
                format_bytes(attempt["peak_memory_bytes"]),
                format_bytes(attempt["memory_bytes"]),
                f"{attempt['wall_seconds']:.2f}",
                f"{attempt['cpu_seconds']:.2f}",
                _gpu_words(attempt),
                attempt["ending"],
            )
            for attempt in step["attempts"][:15]
        ]
        shown.append(make_table("Attempts, newest first", columns, rows, right=columns[2:7]))
    return shown


def _gpu_words(attempt: Mapping[str, Any]) -> str:
    """Returns GPU memory and utilisation; ``all:`` marks figures of the whole device."""
    scope = attempt["gpu_scope"]
    if scope is None:
        return ""
    busy = attempt["gpu_busy_millis"]
    memory = format_bytes(attempt["gpu_peak_bytes"])
    utilisation = "" if busy is None else f", {busy / 10:.0f}%"
    if scope == GpuScope.DEVICE:
        return f"all: {memory}{utilisation}"
    return f"{memory}{utilisation}" + (" (all)" if scope == GpuScope.MIXED else "")


def _scaling_words(scaling: Mapping[str, Any]) -> str:
    """Returns how the step's time is made up, and what other numbers of cores would make of it."""
    by_cores = ", ".join(f"{s:.1f} s on {c}" for c, s in scaling["seconds_by_cores"].items())
    return (
        f"its time: {scaling['waiting_seconds']:.1f} s of waiting, {scaling['serial_seconds']:.1f} "
        f"s of one core, {scaling['parallel_core_seconds']:.1f} core-seconds shared: {by_cores}"
    )


def _scaling_record(scaling: Scaling | None) -> dict[str, Any] | None:
    if scaling is None:
        return None
    shown = [1, 2, 4, 8] if scaling.parallel_ms else [1]
    most = scaling.most_millis // 1000
    return {
        "waiting_seconds": scaling.waiting_ms / 1000,
        "serial_seconds": scaling.serial_ms / 1000,
        "parallel_core_seconds": scaling.parallel_ms / 1000,
        "seconds_by_cores": {
            str(c): scaling.duration_ms(1000 * c) / 1000 for c in shown if c <= max(1, most)
        },
    }


def _trade_off_table(rows: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Returns what each first allocation costs, and how often it fails, the risks' marked."""
    columns = ("first asked for", "runs short", "cost", "", "chosen by cu/risk")
    most = max(row["cost_ratio"] for row in rows)
    shown = [
        (
            format_bytes(row["first_bytes"]),
            f"{row['failure_probability']:.1%}",
            f"{row['cost_ratio']:.2f}",
            BARS[-1] * round(20 * row["cost_ratio"] / most),
            ", ".join(row["risks"]),
        )
        for row in rows
    ]
    title = "Expected cost of a first size, retries included; 1 = the peak known before"
    return make_table(title, columns, shown, right=columns[:3])


def trade_off_rows(forecast: Forecast) -> list[dict[str, Any]]:
    """Returns one row a first allocation, rising: its cost, its failures, the risks choosing it."""
    chosen = {risk: forecast.allocation_bytes(risk) for risk in Risk}
    peaks = forecast.peaks or forecast.memory_sample.with_tail(forecast.headroom_ratio)
    return [
        {**asdict(choice), "risks": [str(r) for r in Risk if chosen[r] == choice.first_bytes]}
        for choice in trade_off(peaks, chosen.values())
    ]


def bars(values: Sequence[float]) -> str:
    """Returns a line of bars, the largest full."""
    step = max(1, -(-len(values) // PLOT_POINTS))
    held = [max(values[i : i + step]) for i in range(0, len(values), step)]
    most = max(held, default=0) or 1
    return "".join(BARS[round(value / most * (len(BARS) - 1))] for value in held)


def _find(ledger: Ledger, said: str) -> list[StepIdentity]:
    known = {usage.identity for usage in ledger.usages(limit=NEWEST)}
    found = [
        each
        for each in known
        if said in (each.node, f"{each.code_location}:{each.node}", str(each))
        or said == f"{each.node}@{each.partition}"
    ]
    if not found:
        near = sorted({str(each) for each in known if said.lower() in str(each).lower()})[:8]
        listed = ", ".join(near or sorted(map(str, known))[:8]) or "none yet"
        raise NothingFoundError(f"step {said!r}: the ledger has no attempt of it; known: {listed}")
    return sorted(found, key=str)[:20]


def _step(ledger: Ledger, step: StepIdentity, history: Sequence[Usage]) -> dict[str, Any]:
    model = published_forecaster(ledger, [step.code_location]) or LearnedForecaster()
    champion = ledger.published([location_identity(step.code_location)])
    forecast = model.forecast(step, history)
    history = [usage for usage in history if usage.identity == step]
    curves = ledger.curves(step, limit=1)
    return {
        "step": str(step),
        "model": next((p.model for p in champion.values()), "the default forecaster"),
        "forecast": forecast
        and {
            "in_words": forecast.in_words(),
            "memory_p10_bytes": forecast.memory.p10,
            "memory_p50_bytes": forecast.memory.p50,
            "memory_p95_bytes": forecast.memory.p95,
            "duration_p50_seconds": forecast.duration_ms.p50 / 1000,
            "duration_p95_seconds": forecast.duration_ms.p95 / 1000,
            "useful_cores": forecast.useful_cpu_millis / 1000,
            "scaling": _scaling_record(forecast.scaling),
            "driver": forecast.driver,
            "lower_bound_bytes": forecast.lower_bound_bytes,
            "filled_bytes": forecast.filled_bytes,
            "allocation": {str(risk): forecast.allocation_bytes(risk) for risk in Risk},
        },
        "trade_off": trade_off_rows(forecast) if forecast and forecast.attempts else [],
        "plot": bars([u.measurement.peak_memory_bytes for u in reversed(history)]),
        "curve_plot": bars(curves[0].memory_bytes) if curves else "",
        "attempts": [_attempt(usage) for usage in history],
    }


def _attempt(usage: Usage) -> dict[str, Any]:
    return {
        "run_id": usage.run_id,
        "step_key": usage.step_key,
        "attempt": usage.attempt,
        "ended_at": usage.ended_at.isoformat(),
        "code_version": usage.code_version,
        "memory_bytes": usage.memory_bytes,
        "peak_memory_bytes": usage.measurement.peak_memory_bytes,
        "input_bytes": usage.input_bytes,
        "features": usage.features.to_record(),
        "declared_bytes": usage.declared_bytes,
        "wall_seconds": usage.measurement.wall_ms / 1000,
        "cpu_seconds": usage.measurement.cpu_ms / 1000,
        "gpu_peak_bytes": usage.measurement.gpu_peak_bytes,
        "gpu_busy_millis": usage.measurement.gpu_busy_millis,
        "gpu_scope": usage.measurement.gpu_scope,
        "ending": str(usage.ending),
    }
