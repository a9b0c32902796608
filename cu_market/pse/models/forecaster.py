"""The learned Forecaster: a step's history as a mixture of experts, its sizes by expected cost.

What the empirical forecaster says of cores, durations, bytes and bounds stands; the peak's
distribution and the sizes are the mixture's. Attempts of other code weigh a quarter and leave more
doubt; sizes that unresolved attempts outgrew are points of the distribution. Where something known
before the step begins has driven its past (drivers.py), the experts are weighed by how well each
foresaw the newest attempts from it, for its memory and for its time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cu_market.domain.features import NO_FEATURES, StepFeatures
from cu_market.domain.request import StepIdentity
from cu_market.domain.scaling import Scaling
from cu_market.domain.spec import Risk
from cu_market.domain.usage import Usage
from cu_market.pse.empirical import EmpiricalForecaster, evident_peaks, knowledge_of
from cu_market.pse.evidence import Evidence, Observation, gather_evidence, reference_duration_ms
from cu_market.pse.forecast import Forecast, round_memory
from cu_market.pse.ladder.program import Floats
from cu_market.pse.models.attitude import ATTITUDES, peaks_of, plan_sizes
from cu_market.pse.models.censoring import with_running
from cu_market.pse.models.drivers import Driver, find_driver
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
        code_version: str | None = None,
        input_bytes: int | None = None,
        features: StepFeatures = NO_FEATURES,
        running_ms: Sequence[float] = (),
    ) -> Forecast | None:
        """Returns the forecast, or None where no attempt teaches anything. See Forecaster.

        A step that fills what it is given is none of the mixture's: its peaks tell of its sizes.
        """
        found = self.base.forecast(
            identity,
            history,
            code_version=code_version,
            input_bytes=input_bytes,
            features=features,
        )
        if found is None or not found.attempts or found.filled_bytes:
            return found
        evidence = gather_evidence(history, code_version, identity=identity, features=features)
        past = _Past.of(evidence.ended[::-1])
        driver = find_driver(
            past.usages,
            past.peaks,
            input_bytes=input_bytes,
            features=features,
            partition=identity.partition,
        )
        pool = self._memory(evidence, past, driver)
        found = self._lasting(found, past, driver, running_ms)
        return replace(
            found,
            memory=pool.quantiles(),
            ladders=tuple((risk, self._sizes(pool, risk, found)) for risk in Risk),
            peaks=peaks_of(pool),
            driver=driver.name if driver else "",
        )

    def _lasting(
        self, found: Forecast, past: _Past, driver: Driver | None, running_ms: Sequence[float]
    ) -> Forecast:
        """Returns the forecast with its duration following what drives the step, and longer where
        others of it run on."""
        if driver is None and not running_ms:
            return found
        times = past.times_on(found.useful_cpu_millis, found.scaling)
        pool = with_running(_mixture(times, past, driver), running_ms, len(times))
        few = self.base.duration_base_ratio / math.sqrt(len(past.times))
        quantiles = pool.quantiles()
        top = max(quantiles.p95, round(float(pool.values[-1]) * (1 + few)))
        return replace(found, duration_ms=replace(quantiles, p95=top))

    def _sizes(self, pool: Pool, risk: Risk, found: Forecast) -> tuple[int, ...]:
        rungs = plan_sizes(pool, ATTITUDES[risk], duration_ms=float(found.duration_ms.p50))
        return tuple(dict.fromkeys(round_memory(rung) for rung in rungs))

    def _memory(self, evidence: Evidence, past: _Past, driver: Driver | None) -> Pool:
        peaks, belief = past.peaks, past.belief
        pool = _mixture(peaks, past, driver)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Past:
    """Attempts that ended well, oldest first, in arrays of shape (n,).

    Attributes:
        usages: the attempts.
        peaks: bytes, at least 1.
        times: milliseconds undisturbed, at least 1.
        belief: weights, above 0.
    """

    usages: tuple[Usage, ...]
    peaks: Floats
    times: Floats
    belief: Floats

    @classmethod
    def of(cls, ended: Sequence[Observation]) -> _Past:
        usages = tuple(seen.usage for seen in ended)
        peaks = [float(max(1, usage.measurement.peak_memory_bytes)) for usage in usages]
        times = [float(max(1, reference_duration_ms(usage.measurement))) for usage in usages]
        belief = [seen.weight for seen in ended]
        return cls(
            usages=usages,
            peaks=np.asarray(peaks),
            times=np.asarray(times),
            belief=np.asarray(belief),
        )

    def times_on(self, cpu_millis: int, scaling: Scaling | None) -> Floats:
        """Returns the times that the attempts would have taken on so many cores."""
        if scaling is None or not scaling.parallel_ms:
            return self.times
        here = scaling.duration_ms(cpu_millis)
        there = [max(1, scaling.duration_ms(usage.cpu_millis)) for usage in self.usages]
        return np.maximum(1.0, self.times * here / np.asarray(there, dtype=np.float64))


def _mixture(amounts: Floats, past: _Past, driver: Driver | None) -> Pool:
    """Returns the experts' pool of an amount at the driver's, or the past amounts without one."""
    if driver is None:
        answers = ask_experts(np.ones(len(amounts)), amounts, 1.0)
        alone = np.zeros(COUNT)
        alone[0] = 1.0
        return pool_experts(_believed(answers, past.belief), alone, past.times)
    x = driver.x
    first = max(1, len(amounts) - REPLAYED)
    losses = np.stack(
        [
            losses_of(ask_experts(x[:n], amounts[:n], x[n]), amounts[n])
            for n in range(first, len(amounts))
        ]
    )
    weights = expert_weights(x[first:], past.times[first:], losses, driver.at)
    answers = ask_experts(x, amounts, driver.at)
    least = 0.3 * float(amounts.min())
    held = Answers(
        values=np.clip(answers.values, least, _most(driver, amounts)), weights=answers.weights
    )
    return pool_experts(_believed(held, past.belief), weights, past.times)


def _most(driver: Driver, amounts: Floats) -> float:
    """Returns the most that is credible where the driver is.

    A step's input grows from run to run, each the largest so far: growth in proportion is believed,
    where a trace's outliers are held to the fourth root (History.largest_credible_peak).
    """
    beyond = max(0.0, math.log(driver.at / float(driver.x.max())))
    return 1.05 * float(amounts.max()) * math.exp(driver.growth_power * beyond)


def _believed(answers: Answers, belief: Floats) -> Answers:
    weights = answers.weights * belief
    return Answers(values=answers.values, weights=weights / weights.sum(axis=1, keepdims=True))
