"""Sizing rules from papers, each with the failure handling of its text."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from cu_market.pse.baselines.simple import preset_of
from cu_market.pse.ladder.program import Floats
from cu_market.pse.protocols.predictor import Outcome, Prediction, Question


@dataclass(slots=True)
class _Samples:
    """A process's completed tasks."""

    input_bytes: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    runtimes: list[float] = field(default_factory=list)

    def add(self, question: Question, outcome: Outcome) -> None:
        self.input_bytes.append(question.input_bytes or 0.0)
        self.peaks.append(outcome.peak_bytes)
        self.runtimes.append(outcome.runtime_ms)


@dataclass(slots=True)
class WittRegression:
    """Least squares of the peak on input bytes, plus the residuals' standard deviation.

    Witt, Wagner and Leser, "Feedback-based resource allocation for batch scheduling of scientific
    workflows" (HPCS 2019), offset "LR mean + sigma"; doubled after a failure. At least the smallest
    peak seen, where the line says less; the preset before anything has completed.
    """

    _known: defaultdict[str, _Samples] = field(default_factory=lambda: defaultdict(_Samples))

    def predict(self, question: Question) -> Prediction:
        """Returns the line's value plus sigma."""
        seen = self._known[question.process]
        count = len(seen.peaks)
        if not count:
            return Prediction(ladder=(preset_of(question),))
        x = np.asarray(seen.input_bytes)
        y = np.asarray(seen.peaks)
        intercept, slope = fit_line(x, y)
        sigma = float((y - (intercept + slope * x)).std())
        size = intercept + slope * (question.input_bytes or 0.0) + sigma
        return Prediction(ladder=(max(size, float(y.min())),), history_count=count)

    def learn(self, question: Question, outcome: Outcome) -> None:
        """Keeps the sample."""
        self._known[question.process].add(question, outcome)


def fit_line(x: Floats, y: Floats) -> tuple[float, float]:
    """Returns intercept and slope of least squares; a slope of 0 where x does not vary."""
    centred = x - x.mean()
    spread = float((centred * centred).sum())
    slope = float((centred * (y - y.mean())).sum()) / spread if spread > 0 else 0.0
    return float(y.mean()) - slope * float(x.mean()), slope


@dataclass(slots=True)
class TovarPPM:
    """The first allocation of least expected waste, the largest peak seen for the second.

    Tovar et al., "A job sizing strategy for high-throughput scientific workflows" (IEEE TPDS
    2018), peak probabilities: over peaks y_i with runtimes t_i and a_m = max y,

        argmin over a in {y_i} of  a sum t_i + a_m sum over y_i > a of t_i.

    Doubled when a_m fails, too; the preset before anything has completed.
    """

    _known: defaultdict[str, _Samples] = field(default_factory=lambda: defaultdict(_Samples))

    def predict(self, question: Question) -> Prediction:
        """Returns the two allocations, or one where they are the same."""
        seen = self._known[question.process]
        count = len(seen.peaks)
        if not count:
            return Prediction(ladder=(preset_of(question),))
        order = np.argsort(seen.peaks, kind="stable")
        peaks = np.asarray(seen.peaks)[order]
        times = np.asarray(seen.runtimes)[order]
        # Among equal peaks the last one has all of their time at or below it.
        above = times.sum() - np.cumsum(times)
        costs = peaks * times.sum() + peaks[-1] * above
        first, last = float(peaks[int(costs.argmin())]), float(peaks[-1])
        return Prediction(ladder=(first, last) if last > first else (first,), history_count=count)

    def learn(self, question: Question, outcome: Outcome) -> None:
        """Keeps the sample."""
        self._known[question.process].add(question, outcome)
