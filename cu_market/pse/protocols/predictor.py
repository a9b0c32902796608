"""What a replay asks of a predictor, and what it tells it afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A task about to start, as far as it is known then.

    Attributes:
        process: what it is an instance of.
        input_bytes: of its inputs, or None.
        preset_bytes: what its author asked for, or None.
        at_ms: when it starts.
        running_ms: for each running task of the process, for how long it has been running.
        cpus: cores its author asked for, or None.
    """

    process: str
    input_bytes: float | None = None
    preset_bytes: float | None = None
    at_ms: float = 0.0
    running_ms: tuple[float, ...] = ()
    cpus: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """10, 50 and 90 % points of an amount; NaN where the method foresees none."""

    p10: float
    p50: float
    p90: float


UNKNOWN = Interval(p10=float("nan"), p50=float("nan"), p90=float("nan"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The answer.

    Attributes:
        ladder: rising bytes: the first allocation, and each next one after running out. Above the
            last rung, twice the one before, and so on.
        memory: bytes.
        runtime: seconds.
        history_count: completed tasks of the process it was learned from.
    """

    ladder: tuple[float, ...]
    memory: Interval = UNKNOWN
    runtime: Interval = UNKNOWN
    history_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a task used.

    Attributes:
        peak_bytes: memory.
        runtime_ms: milliseconds.
    """

    peak_bytes: float
    runtime_ms: float


class Predictor(Protocol):
    """Whoever sizes tasks and learns from their ends. Pure: same calls, same answers."""

    def predict(self, question: Question) -> Prediction:
        """Returns the sizes to try and what is expected; learns nothing."""

    def learn(self, question: Question, outcome: Outcome) -> None:
        """Takes in one completed task."""
