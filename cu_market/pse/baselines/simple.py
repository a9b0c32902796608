"""Rules of one line: what its author asked for, the largest peak, the 95th percentile."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from cu_market.pse.protocols.predictor import Outcome, Prediction, Question

UNDECLARED_BYTES = 8e9
"""Allocation where a trace has no preset and the rule knows nothing else."""


def preset_of(question: Question) -> float:
    """Returns what the task's author asked for."""
    return question.preset_bytes or UNDECLARED_BYTES


@dataclass(slots=True)
class Presets:
    """What its author asked for; doubled after a failure."""

    def predict(self, question: Question) -> Prediction:
        """Returns the preset."""
        return Prediction(ladder=(preset_of(question),))

    def learn(self, question: Question, outcome: Outcome) -> None:
        """Learns nothing."""


@dataclass(slots=True)
class MaxTimes:
    """The largest peak so far times a factor; the preset before; doubled after a failure.

    Attributes:
        factor: 1.1 for a tenth of headroom.
        min_history: completed tasks before it is believed.
        falls_back: whether the preset is tried after a first failure, where it is larger.
    """

    factor: float = 1.1
    min_history: int = 1
    falls_back: bool = False
    _largest: dict[str, float] = field(default_factory=dict)
    _counts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))

    def predict(self, question: Question) -> Prediction:
        """Returns the largest peak times the factor."""
        if (count := self._counts[question.process]) < self.min_history:
            return Prediction(ladder=(preset_of(question),), history_count=count)
        size = self.factor * self._largest[question.process]
        preset = preset_of(question)
        ladder = (size, preset) if self.falls_back and preset > size else (size,)
        return Prediction(ladder=ladder, history_count=count)

    def learn(self, question: Question, outcome: Outcome) -> None:
        """Keeps the largest."""
        process = question.process
        self._counts[process] += 1
        self._largest[process] = max(self._largest.get(process, 0.0), outcome.peak_bytes)


@dataclass(slots=True)
class Percentile:
    """A percentile of the peaks so far; the preset before any, doubled after a failure.

    Attributes:
        ratio: 0.95.
    """

    ratio: float = 0.95
    _peaks: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def predict(self, question: Question) -> Prediction:
        """Returns the percentile, interpolated as numpy does."""
        peaks = self._peaks[question.process]
        if not peaks:
            return Prediction(ladder=(preset_of(question),))
        return Prediction(ladder=(float(np.quantile(peaks, self.ratio)),), history_count=len(peaks))

    def learn(self, question: Question, outcome: Outcome) -> None:
        """Keeps the peak."""
        self._peaks[question.process].append(outcome.peak_bytes)
