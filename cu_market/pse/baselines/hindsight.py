"""The best constant ladder per process, chosen by looking at what will be replayed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from cu_market.pse.ladder.program import plan_ladder
from cu_market.pse.protocols.predictor import Outcome, Prediction, Question


@dataclass(slots=True)
class BestConstant:
    """For every task of a process the same ladder: that of least wastage over all of them.

    A bound for every method that does not look at the input; nobody can have it in life.

    Attributes:
        future: (process, peak bytes, runtime in ms) of every task that will be replayed.
        ttf: how much of its time a failed attempt takes.
    """

    future: Iterable[tuple[str, float, float]]
    ttf: float = 1.0
    _ladders: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        samples: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        for process, peak, runtime in self.future:
            samples[process].append((peak, runtime))
        for process, pairs in samples.items():
            values = np.asarray([peak for peak, _ in pairs], dtype=np.float64)
            peaks, inverse = np.unique(values, return_inverse=True)
            times = np.bincount(inverse, weights=[runtime for _, runtime in pairs])
            self._ladders[process] = plan_ladder(peaks, times.astype(np.float64), ttf=self.ttf)

    def predict(self, question: Question) -> Prediction:
        """Returns the process's ladder."""
        return Prediction(ladder=self._ladders[question.process])

    def learn(self, question: Question, outcome: Outcome) -> None:
        """Learns nothing: it has seen everything."""
