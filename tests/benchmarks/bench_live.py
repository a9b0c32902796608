"""How early a step that outgrows its limit is foreseen, on the demo's own curves.

    .venv/bin/python tests/benchmarks/bench_live.py [--json] [LEDGER_URL]

Replays curves that the market kept of the demo's steps (tests/samples/demo_curves.json, or those of
a ledger). Each of the runs but the last is earlier; the last is replayed, stretched in time by 0.8
to 1.3, scaled by 0.9 to 1.15, with 0.5 % of noise.

With growth: from a moment in its first half on, the step holds ever more, by a line that reaches
the limit (1.25 times the largest earlier peak) 5 to 20 seconds later; or everything is 1.5 to 2.5
times as large, and takes as many times as long. Steps that would hit their limit within 3
seconds are left out: nothing can be foreseen 2 s ahead of them. Without growth: unchanged.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cu_market.domain.curve import UsageCurve
from cu_market.pse.forecast import MEMORY_FLOOR_BYTES
from cu_market.pse.live.matching import memory_at
from cu_market.pse.live.outlook import Watch

SAMPLE = Path(__file__).parents[1] / "samples" / "demo_curves.json"
SAMPLE_MS = 50
LEAD_MS = 2000
HEADROOM = 1.25
SMALLEST_BYTES = 20 * 2**20
NOISE_RATIO = 0.005
CASES = 100


@dataclass(frozen=True)
class Replay:
    """One replay's outcome: when the limit was hit, and when that was first foreseen."""

    step: str
    kind: str
    hit_ms: float | None
    alarm_ms: float | None

    @property
    def is_foreseen(self) -> bool:
        return (
            self.hit_ms is not None
            and self.alarm_ms is not None
            and self.hit_ms - self.alarm_ms >= LEAD_MS
        )


def read_curves(url: str | None) -> dict[str, list[UsageCurve]]:
    """Returns each step's curves, newest first."""
    if url is None:
        return {
            step: [UsageCurve.from_record(record) for record in records]
            for step, records in json.loads(SAMPLE.read_text()).items()
        }
    from cu_market.ledger.sql import open_ledger

    with open_ledger(url) as ledger:
        steps = {usage.identity for usage in ledger.usages()}
        return {step.node: list(ledger.curves(step)) for step in steps}


def curve_of_now(curve: UsageCurve, random: np.random.Generator, kind: str) -> tuple[float, ...]:
    """Returns the replayed attempt's bytes every SAMPLE_MS."""
    stretch, scale = random.uniform(0.8, 1.3), random.uniform(0.9, 1.15)
    if kind == "larger":
        factor = random.uniform(1.5, 2.5)
        stretch, scale = stretch * factor, scale * factor
    duration = curve.duration_ms * stretch
    limit = max(MEMORY_FLOOR_BYTES, HEADROOM * curve.peak_bytes)
    onset = random.uniform(0.1, 0.5) * duration
    reach = random.uniform(5_000, 20_000)
    slope = 0.0
    if kind == "growing":
        slope = max(0.0, limit - scale * memory_at(curve, onset / stretch)) / reach
        duration = onset + 2 * reach
    noise = random.normal(1, NOISE_RATIO, int(duration / SAMPLE_MS) + 1)
    return tuple(
        (scale * memory_at(curve, time / stretch) * noise[n] + slope * max(0.0, time - onset))
        for n, time in enumerate(np.arange(len(noise)) * float(SAMPLE_MS))
    )


def replay(step: str, kind: str, memory: tuple[float, ...], earlier: list[UsageCurve]) -> Replay:
    """Returns what a watch that saw the samples one by one has foreseen."""
    limit = max(MEMORY_FLOOR_BYTES, HEADROOM * max(curve.peak_bytes for curve in earlier))
    watch = Watch(limit_bytes=round(limit), earlier=earlier)
    alarm = None
    for number, held in enumerate(memory):
        time = float(number * SAMPLE_MS)
        if held > limit:
            return Replay(step, kind, time, alarm)
        outlook = watch.sample(time, round(held))
        if alarm is None and outlook is not None and outlook.is_alarm:
            alarm = time
    return Replay(step, kind, None, alarm)


def run(curves: dict[str, list[UsageCurve]]) -> dict[str, float]:
    """Returns shares of foreseen limits and of false alarms."""
    random = np.random.default_rng(7)
    steps = sorted(s for s, c in curves.items() if len(c) > 1 and c[0].peak_bytes > SMALLEST_BYTES)
    found: dict[str, list[Replay]] = defaultdict(list)
    for number in range(CASES):
        step = steps[number % len(steps)]
        newest, *earlier = curves[step]
        for kind in ("growing", "larger", "unchanged"):
            memory = curve_of_now(newest, random, kind)
            outcome = replay(step, kind, memory, earlier)
            is_late = outcome.hit_ms is not None and outcome.hit_ms < LEAD_MS + 1000
            if kind == "unchanged":
                if outcome.hit_ms is None:
                    found[kind].append(outcome)
            elif outcome.hit_ms is not None and not is_late:
                found[kind].append(outcome)
    hits = found["growing"] + found["larger"]
    leads = [r.hit_ms - r.alarm_ms for r in hits if r.hit_ms and r.alarm_ms is not None]
    return {
        "steps": len(steps),
        "growing": len(found["growing"]),
        "growing_foreseen_ratio": _share(found["growing"]),
        "larger": len(found["larger"]),
        "larger_foreseen_ratio": _share(found["larger"]),
        "foreseen_ratio": _share(hits),
        "median_lead_seconds": float(np.median(leads)) / 1000 if leads else 0.0,
        "unchanged": len(found["unchanged"]),
        "false_alarm_ratio": float(
            np.mean([r.alarm_ms is not None for r in found["unchanged"]] or [0.0])
        ),
    }


def _share(replays: list[Replay]) -> float:
    return float(np.mean([r.is_foreseen for r in replays])) if replays else float("nan")


def main() -> None:
    arguments = [a for a in sys.argv[1:] if a != "--json"]
    figures = run(read_curves(arguments[0] if arguments else None))
    if "--json" in sys.argv:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        print(f"{name:26s} {value:.3f}")
    print("bars: foreseen at least 2 s ahead 0.9; false alarms at most 0.02")


if __name__ == "__main__":
    main()
