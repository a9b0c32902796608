"""The learned predictor: borrow at first, then a mixture of experts, sized by expected cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cu_market.domain.spec import Risk
from cu_market.pse.ladder.program import Floats
from cu_market.pse.models.attitude import ATTITUDES, plan_sizes
from cu_market.pse.models.calibration import Calibrations
from cu_market.pse.models.censoring import with_running
from cu_market.pse.models.experts import COUNT, Answers, ask_experts
from cu_market.pse.models.history import FIRST_LOSS, History
from cu_market.pse.models.lending import Lender, Lenders, lender_of
from cu_market.pse.models.mixture import (
    Pool,
    effective_size,
    expert_weights,
    losses_of,
    pool_experts,
    pooled,
    widened,
    with_tail,
)
from cu_market.pse.protocols.predictor import UNKNOWN, Interval, Outcome, Prediction, Question

UNDECLARED_BYTES = 8e9
"""What stands for a preset where nobody asked for anything."""

TAIL_DIVISOR = 6.0
"""The memory's tail has mass 1 / (TAIL_DIVISOR n_eff + 1)."""

HEADROOM_OVER_PRESET = 1.1
"""Nothing above the preset is foreseen, unless this much above the largest peak is more."""

MEMORY_WIDTH, MEMORY_DOUBT = 0.1, 1.0
RUNTIME_WIDTH, RUNTIME_DOUBT = 0.5, 4.0
"""Standard deviation of the logarithm, and count of samples, of the doubt in a short history."""


DOUBT_POWER = 2.0

RUNTIME_RECENCY = 0.97
"""Each runtime weighs this much of the next newer one."""

UNKNOWN_DURATION_MS = 600_000.0
"""What a process that has never completed is taken to last."""


@dataclass(slots=True)
class LearnedPredictor:
    """A Predictor that keeps one bounded history per process.

    Attributes:
        elsewhere: lenders learned from other traces, a list a trace.
        risk: how a failed attempt is weighed.
        ttf: how much of its time a failed attempt takes.
    """

    elsewhere: Sequence[Sequence[Lender]] = ()
    risk: Risk = Risk.BALANCED
    ttf: float = 1.0
    histories: dict[str, History] = field(default_factory=dict)
    # What was handed out, until its task ends: an interval is judged by what was known when its
    # task began. One made anew at its end would know of all that ended meanwhile, and look too
    # good; that is done only for tasks that nobody has asked about.
    _issued: dict[Question, tuple[Interval, Interval] | None] = field(default_factory=dict)
    _memory: Calibrations = field(default_factory=Calibrations)
    _runtime: Calibrations = field(default_factory=Calibrations)
    _lenders: Lenders = field(init=False)

    def __post_init__(self) -> None:
        self._lenders = Lenders(self.elsewhere)

    def predict(self, question: Question) -> Prediction:
        """Returns the ladder and the intervals for a task about to start."""
        history = self.histories.get(question.process)
        if history is None:
            return self._borrowed(question)
        x, preset = input_of(question), preset_of(question)
        memory = memory_pool(history, x, preset)
        runtime = runtime_pool(history, x, question.running_ms)
        expected, lasting = interval(memory), seconds(runtime)
        self._issued[question] = expected, lasting
        return Prediction(
            ladder=self._ladder(memory, preset, history.total, runtime.mean),
            memory=self._memory.adjust(question.process, expected),
            runtime=self._runtime.adjust(question.process, lasting),
            history_count=history.total,
        )

    def learn(self, question: Question, outcome: Outcome) -> None:
        """Takes in a completed task: first how well each expert foresaw it, then the task."""
        history = self.histories.setdefault(question.process, History())
        x, preset = input_of(question), preset_of(question)
        peak, runtime = max(outcome.peak_bytes, 1.0), outcome.runtime_ms + 1
        is_asked = question in self._issued
        issued = self._issued.pop(question, None)
        if not is_asked and len(history):
            memory = memory_pool(history, x, preset)
            issued = interval(memory), seconds(runtime_pool(history, x, question.running_ms))
        if issued is not None:
            self._memory.learn(question.process, issued[0], peak)
            self._runtime.learn(question.process, issued[1], outcome.runtime_ms / 1000)
        if len(history):
            memory_loss = losses_of(memory_answers(history, x, preset), peak)
            runtime_loss = losses_of(runtime_answers(history, x), runtime)
        else:
            memory_loss = runtime_loss = np.full(COUNT, FIRST_LOSS)
        history.add(x, peak, runtime, preset, memory_loss, runtime_loss)
        self._lenders.update(
            lender_of(
                question.process, history.peaks, history.x, history.presets, history.requested
            )
        )

    def lenders(self) -> list[Lender]:
        """Returns what other traces can borrow of what has been learned here."""
        return self._lenders.own()

    def _borrowed(self, question: Question) -> Prediction:
        preset = preset_of(question)
        self._issued[question] = None
        values, masses = self._lenders.borrow(question.process, preset, input_of(question))
        pool = pooled(values, masses, masses)
        ladder = self._ladder(pool, preset, 0, UNKNOWN_DURATION_MS)
        return Prediction(ladder=ladder, memory=interval(pool), runtime=UNKNOWN, history_count=0)

    def _ladder(
        self, memory: Pool, preset: float, known: int, duration_ms: float
    ) -> tuple[float, ...]:
        attitude = ATTITUDES[self.risk]
        ladder = plan_sizes(memory, attitude, duration_ms=duration_ms, ttf=self.ttf)
        if known >= attitude.min_history or ladder[0] >= preset:
            return ladder
        return (preset, *(rung for rung in ladder if rung > preset))


def input_of(question: Question) -> float:
    """Returns the input bytes as experts take them: at least 1, and 1 where unknown."""
    return max(question.input_bytes or 1.0, 1.0)


def preset_of(question: Question) -> float:
    """Returns what was asked for, or UNDECLARED_BYTES."""
    return question.preset_bytes or UNDECLARED_BYTES


def memory_answers(history: History, x: float, preset: float) -> Answers:
    """Returns the experts' samples of the peak at x, held within what is credible."""
    answers = ask_experts(history.x, history.peaks, x)
    least = 0.3 * float(history.peaks.min())
    most = min(history.largest_credible_peak(x), most_of(history, preset))
    return Answers(values=np.clip(answers.values, least, most), weights=answers.weights)


def most_of(history: History, preset: float) -> float:
    """Returns the most that is foreseen: the preset, or a tenth above the largest peak."""
    return max(preset, HEADROOM_OVER_PRESET * float(history.peaks.max()))


def runtime_answers(history: History, x: float) -> Answers:
    """Returns the experts' samples of the runtime at x, held within a factor of those seen."""
    answers = ask_experts(history.x, history.runtimes, x)
    least, most = 0.3 * float(history.runtimes.min()), 2 * float(history.runtimes.max())
    return Answers(values=np.clip(answers.values, least, most), weights=answers.weights)


def memory_pool(history: History, x: float, preset: float) -> Pool:
    """Returns the peak's distribution at x, in bytes."""
    answers = memory_answers(history, x, preset)
    weights = expert_weights(history.x, history.runtimes, history.memory_losses, x)
    pool = pool_experts(answers, weights, history.runtimes)
    most = most_of(history, preset)
    tail = 1 / (TAIL_DIVISOR * effective_size(answers, weights) + 1)
    return doubted(with_tail(pool, tail, most), history, MEMORY_WIDTH, MEMORY_DOUBT, most)


def runtime_pool(history: History, x: float, running_ms: Sequence[float] = ()) -> Pool:
    """Returns the runtime's distribution at x, in milliseconds plus 1.

    Args:
        history: completed tasks.
        x: input bytes.
        running_ms: for how long others of the process have been running.
    """
    answers = runtime_answers(history, x)
    weights = expert_weights(history.x, history.runtimes, history.runtime_losses, x)
    recent = Answers(values=answers.values, weights=fading(answers.weights))
    pool = pool_experts(recent, weights, np.ones(len(history)))
    pool = doubted(pool, history, RUNTIME_WIDTH, RUNTIME_DOUBT, math.inf)
    return with_running(pool, running_ms, len(history))


def fading(weights: Floats) -> Floats:
    """Returns weights with older tasks weighing less: runtimes drift with a machine's load."""
    age = np.arange(weights.shape[1] - 1, -1, -1)
    faded = weights * RUNTIME_RECENCY**age
    return np.asarray(faded / faded.sum(axis=1, keepdims=True))


def doubted(pool: Pool, history: History, width: float, doubt: float, most: float) -> Pool:
    """Returns the pool with the doubt that a short history leaves."""
    return widened(pool, width, doubt / (len(history) ** DOUBT_POWER + doubt), most)


def interval(pool: Pool) -> Interval:
    """Returns 10, 50 and 90 % of a pool."""
    p10, p50, p90 = (pool.quantile(ratio) for ratio in (0.1, 0.5, 0.9))
    return Interval(p10=p10, p50=p50, p90=p90)


def seconds(pool: Pool) -> Interval:
    """Returns the runtime pool's interval in seconds."""
    p10, p50, p90 = (max(0.0, pool.quantile(ratio) - 1) / 1000 for ratio in (0.1, 0.5, 0.9))
    return Interval(p10=p10, p50=p50, p90=p90)
