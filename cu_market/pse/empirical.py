"""The first forecaster: a step will be as it has been, with headroom for what few attempts hide."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt

from cu_market.domain.features import NO_FEATURES, StepFeatures
from cu_market.domain.request import Quantiles, StepIdentity
from cu_market.domain.scaling import Scaling
from cu_market.domain.spec import Risk
from cu_market.domain.usage import Usage
from cu_market.pse.cores import useful_cores
from cu_market.pse.distribution import Distribution
from cu_market.pse.evidence import (
    OLD_CODE_RATIO,
    Evidence,
    Observation,
    gather_evidence,
    reference_duration_ms,
)
from cu_market.pse.filling import filled_bytes
from cu_market.pse.forecast import OOM_FACTOR, Forecast, round_memory
from cu_market.pse.scaling import fit_scaling

LONGEST_HEADROOM = 1.0
"""However wild a history is, twice its largest peak is enough to try; a retry doubles again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmpiricalForecaster:
    """Weighted sample of past attempts; h = base / sqrt(n) + spread_share x spread.

    n is the effective number of attempts of the present code; spread is (max - mean) / max of
    their peaks (the median of two would be one of them, and hide a growth). The figures behind
    the values are in docs/decisions/0005-tags-and-sizing.md.

    Attributes:
        headroom_base_ratio: headroom above a single attempt's peak.
        spread_share: how much of the spread seen is added.
        duration_base_ratio: the same as headroom_base_ratio, for the duration's p95.
    """

    headroom_base_ratio: float = 0.20
    spread_share: float = 0.5
    duration_base_ratio: float = 0.5

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
        """Returns the forecast, or None where no attempt teaches anything. See Forecaster."""
        evidence = gather_evidence(history, code_version, identity=identity, features=features)
        seen = evidence.ended or evidence.failed
        if not seen and not evidence.lower_bound_bytes:
            return None
        peaks = evident_peaks(evidence)
        knowledge = knowledge_of(seen)
        headroom = self._headroom(peaks, knowledge)
        cores = useful_cores(seen) if seen else 0
        scaling = fit_scaling(evidence.ended)
        lasting = _durations_on(cores, scaling)
        duration = _sample(evidence, lasting) or Distribution.of([(1, 1.0)])
        return Forecast(
            identity=identity,
            memory_sample=peaks,
            memory=peaks.with_tail(headroom).quantiles(),
            cpu_ms=_quantiles(evidence, lambda u: u.measurement.cpu_ms),
            duration_ms=duration.with_tail(self.duration_base_ratio / sqrt(knowledge)).quantiles(),
            read_bytes=_quantiles(evidence, lambda u: u.measurement.read_bytes),
            written_bytes=_quantiles(evidence, lambda u: u.measurement.written_bytes),
            useful_cpu_millis=cores,
            attempts=len(evidence.ended),
            of_others=sum(each.usage.identity != identity for each in evidence.ended),
            scaling=scaling,
            headroom_ratio=headroom,
            lower_bound_bytes=evidence.lower_bound_bytes,
            filled_bytes=filled_bytes(
                [each.usage for each in evidence.ended], evidence.ended_for_memory
            ),
        )

    def _headroom(self, peaks: Distribution, knowledge: float) -> float:
        spread = max(0.0, peaks.largest - peaks.mean) / max(1, peaks.largest)
        wanted = self.headroom_base_ratio / sqrt(knowledge) + self.spread_share * spread
        return min(LONGEST_HEADROOM, wanted)


def next_after_oom(
    limit_bytes: int,
    used_bytes: int,
    forecast: Forecast | None = None,
    *,
    risk: Risk = Risk.BALANCED,
    largest_bytes: int | None = None,
) -> int:
    """Returns the size for the attempt that follows one ended for memory.

    The next rung of the forecast's ladder. Without one twice what was reached, unless history knows
    of larger peaks: then what it takes to be safe, but at least a quarter more than was reached.
    Where the largest CU has less than that but more than the limit, all of it; where it has no more
    than the limit, the size that would be needed, so that the market can say that nobody has it.

    Args:
        limit_bytes: the size it had.
        used_bytes: what it was seen to use.
        forecast: what history knows, or None.
        risk: whose ladder is climbed.
        largest_bytes: memory of the largest CU there is, or None where unknown.
    """
    reached = max(limit_bytes, used_bytes)
    wanted = OOM_FACTOR * reached
    rung = forecast.next_rung(reached, risk) if forecast is not None else None
    if rung is not None:
        wanted = rung
    elif forecast is not None and forecast.attempts and forecast.memory_sample.largest > reached:
        wanted = max(forecast.allocation_bytes(Risk.SAFE), reached + reached // 4)
    size = round_memory(wanted)
    if largest_bytes is not None and limit_bytes < largest_bytes < size:
        return largest_bytes
    return size


def _durations_on(cores: int, scaling: Scaling | None) -> Callable[[Usage], int]:
    """Returns what gives an attempt's milliseconds, undisturbed, had it run on so many cores."""

    def lasting(usage: Usage) -> int:
        taken = reference_duration_ms(usage.measurement)
        if scaling is None or not scaling.parallel_ms:
            return taken
        there, here = scaling.duration_ms(usage.cpu_millis), scaling.duration_ms(cores)
        return max(1, taken * here // max(1, there))

    return lasting


def evident_peaks(evidence: Evidence) -> Distribution:
    """Returns peaks in bytes; what was outgrown counts as twice that, until it is forgotten."""
    pairs = _pairs(evidence, lambda u: u.measurement.peak_memory_bytes)
    pairs += [(OOM_FACTOR * size, weight) for size, weight in evidence.outgrown_bytes]
    return Distribution.of(pairs or [(OOM_FACTOR * evidence.lower_bound_bytes, 1.0)])


def _pairs(evidence: Evidence, amount: Callable[[Usage], int]) -> list[tuple[int, float]]:
    """Returns (amount, weight) of good ends, and of failed attempts that had already used more.

    A failed attempt says only that at least so much is used: below what good ends show, nothing.
    """
    pairs = [(amount(seen.usage), seen.weight) for seen in evidence.ended]
    most = max((value for value, _ in pairs), default=-1)
    failed = ((amount(seen.usage), seen.weight) for seen in evidence.failed)
    return pairs + [(value, weight) for value, weight in failed if value > most]


def _sample(evidence: Evidence, amount: Callable[[Usage], int]) -> Distribution | None:
    pairs = _pairs(evidence, amount)
    return Distribution.of(pairs) if pairs else None


def _quantiles(evidence: Evidence, amount: Callable[[Usage], int]) -> Quantiles:
    sample = _sample(evidence, amount)
    return sample.quantiles() if sample else Quantiles(p10=0, p50=0, p95=0)


def knowledge_of(seen: Sequence[Observation]) -> float:
    """Returns how many attempts of the present code these are worth; at least a quarter of one."""
    if not seen:
        return OLD_CODE_RATIO
    sizes = Distribution.of((age, each.weight) for age, each in enumerate(seen))
    undiscounted = (e.weight / e.likeness for e in seen)
    share = sum(each.weight for each in seen) / sum(undiscounted)
    return max(OLD_CODE_RATIO, sizes.effective_size * share)
