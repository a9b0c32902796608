"""The learned Forecaster: a step's history as a mixture of experts, its sizes by expected cost.

What the empirical forecaster says of cores, durations, bytes and bounds stands; the peak's
distribution and the sizes are the mixture's. Attempts of other code weigh a quarter and leave more
doubt; sizes that unresolved attempts outgrew are points of the distribution; with input bytes the
experts are weighed by how well each foresaw the newest attempts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cu_market.domain.request import Quantiles, StepIdentity
from cu_market.domain.spec import ComputeSpec, Risk
from cu_market.domain.usage import Usage
from cu_market.pse.empirical import EmpiricalForecaster, evident_peaks, knowledge_of
from cu_market.pse.evidence import Evidence, Observation, gather_evidence, reference_duration_ms
from cu_market.pse.forecast import Forecast, round_memory
from cu_market.pse.ladder.program import Floats
from cu_market.pse.models.attitude import ATTITUDES, peaks_of, plan_sizes
from cu_market.pse.models.experts import COUNT, Answers, ask_experts
from cu_market.pse.models.mixture import (
    NORMAL_POINTS,
    Pool,
    blended,
    expert_weights,
    losses_of,
    pool_experts,
    with_tail,
)
from cu_market.pse.models.predictor import DOUBT_POWER, MEMORY_DOUBT, TAIL_DIVISOR

REPLAYED = 12
"""On so many of the newest attempts the experts are compared: half a millisecond each."""

STEP_WIDTH = 0.08
"""Standard deviation of the doubt's logarithm: 17 % of headroom after one attempt."""

MIN_INPUTS = 3
"""Distinct input sizes before a line through them is asked anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedForecaster:
    """A Forecaster over the mixture.

    Attributes:
        base: what forecasts everything but memory, and memory where no attempt has ended well.
        doubt: how many attempts' worth of doubt a history starts with.
        width: standard deviation of that doubt, of the logarithm.
    """

    base: EmpiricalForecaster = field(default_factory=EmpiricalForecaster)
    doubt: float = MEMORY_DOUBT
    width: float = STEP_WIDTH

    def forecast(
        self,
        identity: StepIdentity,
        history: Sequence[Usage],
        *,
        declared: ComputeSpec | None = None,
        code_version: str | None = None,
        input_bytes: int | None = None,
    ) -> Forecast | None:
        """Returns the forecast, or None where no attempt teaches anything. See Forecaster.

        A step that fills what it is given is none of the mixture's: its peaks tell of its sizes.
        """
        found = self.base.forecast(
            identity,
            history,
            declared=declared,
            code_version=code_version,
            input_bytes=input_bytes,
        )
        if found is None or not found.attempts or found.filled_bytes:
            return found
        pool = self._memory(gather_evidence(history, code_version), input_bytes)
        ladders = tuple((risk, self._sizes(pool, risk, found)) for risk in Risk)
        p10, p50, p95 = (round(pool.quantile(ratio)) for ratio in (0.1, 0.5, 0.95))
        return replace(
            found,
            memory=Quantiles(p10=p10, p50=p50, p95=p95),
            ladders=ladders,
            peaks=peaks_of(pool),
        )

    def _sizes(self, pool: Pool, risk: Risk, found: Forecast) -> tuple[int, ...]:
        rungs = plan_sizes(pool, ATTITUDES[risk], duration_ms=float(found.duration_ms.p50))
        return tuple(dict.fromkeys(round_memory(rung) for rung in rungs))

    def _memory(self, evidence: Evidence, input_bytes: int | None) -> Pool:
        ended = evidence.ended[::-1]  # oldest first
        peaks = _figures(ended, lambda usage: usage.measurement.peak_memory_bytes)
        times = _figures(ended, lambda usage: reference_duration_ms(usage.measurement))
        belief = np.asarray([seen.weight for seen in ended])
        pool = _mixture(ended, peaks, times, belief, input_bytes)
        # Failed attempts that used more, and sizes outgrown: as the empirical forecaster has them.
        known = evident_peaks(evidence)
        more = [(v, w) for v, w in zip(known.values, known.weights, strict=True) if v > peaks.max()]
        if more:
            values, weights = np.asarray([v for v, _ in more]), np.asarray([w for _, w in more])
            share = float(weights.sum() / (weights.sum() + belief.sum()))
            pool = blended(pool, values.astype(np.float64), weights / weights.sum(), share)
        knowledge = knowledge_of(evidence.ended)
        pool = with_tail(pool, 1 / (TAIL_DIVISOR * knowledge + 1), math.inf)
        width = self.width / math.sqrt(min(1.0, knowledge))
        spread = pool.quantile(0.5) * np.exp(width * NORMAL_POINTS)
        share = self.doubt / (knowledge**DOUBT_POWER + self.doubt)
        return blended(pool, spread, np.full(len(spread), 1 / len(spread)), share)


def _figures(ended: Sequence[Observation], amount: Callable[[Usage], int]) -> Floats:
    return np.asarray([max(1, amount(seen.usage)) for seen in ended], dtype=np.float64)


def _mixture(
    ended: Sequence[Observation],
    peaks: Floats,
    times: Floats,
    belief: Floats,
    input_bytes: int | None,
) -> Pool:
    """Returns the experts' pool at the inputs' size, or the past peaks where none is known."""
    inputs = [seen.usage.input_bytes for seen in ended]
    x = np.asarray([max(1, size or 1) for size in inputs], dtype=np.float64)
    if not input_bytes or None in inputs or len(set(inputs)) < MIN_INPUTS:
        answers = ask_experts(np.ones(len(peaks)), peaks, 1.0)
        alone = np.zeros(COUNT)
        alone[0] = 1.0
        return pool_experts(_believed(answers, belief), alone, times)
    first = max(1, len(peaks) - REPLAYED)
    losses = np.stack(
        [losses_of(ask_experts(x[:n], peaks[:n], x[n]), peaks[n]) for n in range(first, len(peaks))]
    )
    at = float(input_bytes)
    weights = expert_weights(x[first:], times[first:], losses, at)
    answers = ask_experts(x, peaks, at)
    held = Answers(
        values=np.clip(answers.values, 0.3 * float(peaks.min()), _most(x, peaks, at)),
        weights=answers.weights,
    )
    return pool_experts(_believed(held, belief), weights, times)


def _most(x: Floats, peaks: Floats, at: float) -> float:
    """Returns the most that is credible at an input size.

    A step's input grows from run to run, each the largest so far: growth in proportion is believed,
    where a trace's outliers are held to the fourth root (History.largest_credible_peak).
    """
    beyond = max(0.0, math.log(at / float(x.max())))
    return 1.05 * float(peaks.max()) * math.exp(beyond)


def _believed(answers: Answers, belief: Floats) -> Answers:
    weights = answers.weights * belief
    return Answers(values=answers.values, weights=weights / weights.sum(axis=1, keepdims=True))
