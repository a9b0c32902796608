"""One replay's outcome, and the stopwatch around its calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cu_market.pse.protocols.predictor import Outcome, Prediction, Predictor, Question
from cu_market.pse.protocols.score import Replayed

Clock = Callable[[], float]
"""Seconds from any start, rising; handed in, since this room knows no clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A replayed trace.

    Attributes:
        seed: of the order, 0 where the order is the trace's own.
        tasks: in the order they were asked about.
        prediction_seconds, update_seconds: of each call.
    """

    seed: int
    tasks: tuple[Replayed, ...]
    prediction_seconds: tuple[float, ...]
    update_seconds: tuple[float, ...]


@dataclass(slots=True)
class Watched:
    """A predictor with a stopwatch around it."""

    predictor: Predictor
    clock: Clock
    predicted: list[float] = field(default_factory=list)
    learned: list[float] = field(default_factory=list)

    def predict(self, question: Question) -> Prediction:
        """Returns the predictor's answer."""
        began = self.clock()
        answer = self.predictor.predict(question)
        self.predicted.append(self.clock() - began)
        return answer

    def learn(self, question: Question, outcome: Outcome) -> None:
        """Tells the predictor."""
        began = self.clock()
        self.predictor.learn(question, outcome)
        self.learned.append(self.clock() - began)

    def replay(self, seed: int, tasks: list[Replayed]) -> Replay:
        """Returns what was watched, with the tasks."""
        return Replay(
            seed=seed,
            tasks=tuple(tasks),
            prediction_seconds=tuple(self.predicted),
            update_seconds=tuple(self.learned),
        )
