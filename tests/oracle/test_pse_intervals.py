"""Our 10-90 % intervals beside each process's own quantiles: calibrated, and no wider."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from cu_market.pse.protocols.compare import (
    COLD,
    OURS,
    WARM,
    Setting,
    lenders_of_trace,
    methods,
    replay,
)
from cu_market.pse.protocols.predictor import Interval, Outcome, Prediction, Question
from cu_market.pse.protocols.replay import Replay
from cu_market.pse.protocols.score import Summary, summarize
from cu_market.pse.traces.nextflow import parse_nextflow
from cu_market.pse.traces.task import Task

TRACES = ("rnaseq", "eager", "methylseq")


class OwnQuantiles:
    """Foresees the 10, 50 and 90 % points of what the process's completed tasks used."""

    def __init__(self) -> None:
        self._peaks: dict[str, list[float]] = defaultdict(list)
        self._seconds: dict[str, list[float]] = defaultdict(list)

    def predict(self, question: Question) -> Prediction:
        peaks = self._peaks[question.process]
        if not peaks:
            return Prediction(ladder=(1e12,))
        memory = quantiles(peaks)
        runtime = quantiles(self._seconds[question.process])
        return Prediction(ladder=(1e12,), memory=memory, runtime=runtime, history_count=len(peaks))

    def learn(self, question: Question, outcome: Outcome) -> None:
        self._peaks[question.process].append(outcome.peak_bytes)
        self._seconds[question.process].append(outcome.runtime_ms / 1000)


def quantiles(amounts: list[float]) -> Interval:
    p10, p50, p90 = np.quantile(amounts, [0.1, 0.5, 0.9])
    return Interval(p10=float(p10), p50=float(p50), p90=float(p90))


def tasks_of(name: str) -> tuple[Task, ...]:
    folder = os.environ.get("CU_MARKET_DATA")
    if not folder:
        pytest.skip("CU_MARKET_DATA names no folder with the traces")
    path = Path(folder) / "nextflow-traces" / f"{name}.csv"
    return tuple(parse_nextflow(path.read_text(), name).tasks)


def mean_of(replays: list[Replay], figure: str) -> float:
    summaries: list[Summary] = [summarize(each.tasks, min_history=1) for each in replays]
    return fmean(float(getattr(summary, figure)) for summary in summaries)


@pytest.mark.parametrize("protocol", [WARM, COLD])
@pytest.mark.parametrize("name", TRACES)
def test_intervals_are_calibrated_and_no_wider_than_the_processs_own_quantiles(
    name: str, protocol: str
) -> None:
    others = [lenders_of_trace(tasks_of(other)) for other in TRACES if other != name]
    elsewhere = tuple(others) if protocol == COLD else ()
    setting = Setting(protocol=protocol, elsewhere=elsewhere)
    ours = replay(tasks_of(name), methods(setting)[OURS], setting, time.perf_counter)
    own = replay(tasks_of(name), lambda _: OwnQuantiles(), setting, time.perf_counter)
    for amount in ("memory", "runtime"):
        assert 0.76 <= mean_of(ours, f"{amount}_coverage") <= 0.86
        figure = f"{amount}_pinball"
        print(name, protocol, figure, mean_of(ours, figure), mean_of(own, figure))
        assert mean_of(ours, figure) <= mean_of(own, figure)
