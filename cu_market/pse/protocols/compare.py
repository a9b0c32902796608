"""Every method on one trace under one protocol, in the figures that `pse evaluate` prints."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from cu_market.domain.spec import Risk
from cu_market.pse.baselines.hindsight import BestConstant
from cu_market.pse.baselines.published import TovarPPM, WittRegression
from cu_market.pse.baselines.simple import MaxTimes, Percentile, Presets
from cu_market.pse.models.lending import Lender, lender_of
from cu_market.pse.models.predictor import UNDECLARED_BYTES, LearnedPredictor
from cu_market.pse.protocols.cold import cold_tasks, replay_cold
from cu_market.pse.protocols.predictor import Predictor
from cu_market.pse.protocols.replay import Clock, Replay
from cu_market.pse.protocols.score import Summary, summarize
from cu_market.pse.protocols.warm import SEEDS, replay_warm
from cu_market.pse.traces.task import Task

OURS = "cu_market"
WARM, COLD = "warm", "cold"

MakePredictor = Callable[[Sequence[Task]], Predictor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a trace is replayed.

    Attributes:
        protocol: WARM or COLD.
        seeds: of the warm protocol; the cold one has a single order, called seed 0.
        risk: ours.
        ttf: how much of its time a failed attempt takes.
        is_coarse: whether the cold protocol knows input bytes only as a power of two.
        elsewhere: lenders of other traces.
    """

    protocol: str = WARM
    seeds: tuple[int, ...] = SEEDS
    risk: Risk = Risk.BALANCED
    ttf: float = 1.0
    is_coarse: bool = False
    elsewhere: tuple[tuple[Lender, ...], ...] = ()


def methods(setting: Setting) -> Mapping[str, MakePredictor]:
    """Returns each method's maker by the name it is printed under, ours first."""
    is_warm = setting.protocol == WARM

    def hindsight(tasks: Sequence[Task]) -> Predictor:
        return BestConstant(
            [
                (task.process, (task.rss_bytes if is_warm else task.peak_rss_bytes) or 0.0,
                 task.realtime_ms or 0.0)
                for task in tasks
            ],
            ttf=setting.ttf,
        )  # fmt: skip

    return {
        OURS: lambda _: LearnedPredictor(
            elsewhere=setting.elsewhere, risk=setting.risk, ttf=setting.ttf
        ),
        "presets": lambda _: Presets(),
        "max_1_1": lambda _: MaxTimes(),
        "max_1_1_after_3": lambda _: MaxTimes(min_history=3, falls_back=True),
        "p95": lambda _: Percentile(),
        "witt_percentile": lambda _: Percentile(),
        "witt_lr": lambda _: WittRegression(),
        "tovar_ppm": lambda _: TovarPPM(),
        "best_constant": hindsight,
    }


def replay(
    tasks: Sequence[Task], make: MakePredictor, setting: Setting, clock: Clock
) -> list[Replay]:
    """Returns a method's replays, one a seed."""
    if setting.protocol == COLD:
        return [replay_cold(tasks, make, clock=clock, ttf=setting.ttf, is_coarse=setting.is_coarse)]
    return [
        replay_warm(tasks, make, seed=seed, clock=clock, ttf=setting.ttf) for seed in setting.seeds
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """A method's figures over its replays; NaN where it foresees nothing of the kind.

    Attributes:
        wastage_gbh_by_seed: GB x hours.
        summaries: one a replay, intervals counted where at least one task had completed.
        ms_per_prediction, ms_per_update: medians over all calls.
    """

    wastage_gbh_by_seed: Mapping[int, float]
    summaries: Sequence[Summary]
    ms_per_prediction: float
    ms_per_update: float

    def mean(self, name: str) -> float:
        """Returns the mean of one of Summary's figures over the replays."""
        return fmean(float(getattr(each, name)) for each in self.summaries)


def figures_of(replays: Sequence[Replay]) -> Figures:
    """Returns a method's figures."""
    summaries = [summarize(each.tasks, min_history=1) for each in replays]
    return Figures(
        wastage_gbh_by_seed={
            each.seed: summary.wastage_gbh for each, summary in zip(replays, summaries, strict=True)
        },
        summaries=summaries,
        ms_per_prediction=_median_ms([s for each in replays for s in each.prediction_seconds]),
        ms_per_update=_median_ms([s for each in replays for s in each.update_seconds]),
    )


def _median_ms(seconds: Sequence[float]) -> float:
    return 1000 * median(seconds) if seconds else math.nan


def lenders_of_trace(tasks: Sequence[Task]) -> tuple[Lender, ...]:
    """Returns what a trace lends to others: each process's ratios of peak to preset."""
    by_process: dict[str, list[Task]] = {}
    for task in cold_tasks(tasks):
        by_process.setdefault(task.process, []).append(task)
    return tuple(_lender(process, rows) for process, rows in by_process.items())


def _lender(process: str, rows: Sequence[Task]) -> Lender:
    presets = np.asarray([task.preset_bytes or UNDECLARED_BYTES for task in rows])
    runtimes = np.asarray([task.realtime_ms or 0.0 for task in rows])
    return lender_of(
        process,
        np.asarray([task.peak_rss_bytes or 1.0 for task in rows]),
        np.asarray([max(task.input_bytes or 1.0, 1.0) for task in rows]),
        presets,
        float(((runtimes + 1000) * presets).sum()),
    )
