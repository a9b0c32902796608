"""Which of the many voices decides a step's size.

For each of cores, memory and duration, the first that says something:

1. the launch's override (``cu/for.<op or asset>``),
2. the op's rule for the partition (``cu/partitions``),
3. with ``cu/sizing`` auto and enough history, the forecast,
4. the op's tags, then its Kubernetes requests,
5. the job's and the run's tags,
6. what other steps of the code location have shown, for a step that has never ended well,
7. the defaults.

Under ``cu/risk: cost`` the sixth comes before the fourth for memory: where what others asked for
has been more than they needed, a new step's tag is taken to be so, too.

Two floors lie under all of them: ``cu/min_*``; and, unless ``cu/sizing`` is fixed, the size that
an attempt ended for memory has shown to be needed.
"""

from __future__ import annotations

from dataclasses import dataclass

from cu_market.domain.request import Quantiles, Sizing
from cu_market.domain.resources import ResourceVector
from cu_market.domain.spec import ComputeSpec, Defaults, Risk, SizingMode
from cu_market.domain.units import format_bytes, millis_to_cores
from cu_market.pse.forecast import Forecast

MIN_ATTEMPTS = 1
"""How many good ends make enough history, unless configured otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizedStep:
    """A step's size, and why.

    Attributes:
        needs: what it must have.
        duration_ms: expected milliseconds on the reference machine.
        sizing: where the memory came from.
        reason: the same in words, with the cores' where they came from elsewhere.
        gpu_type: the GPU's name, or None for none or any.
        spec: everything that was said about the step, merged: price, providers and the like.
        memory_quantiles: bytes, where a forecast is known (used or not).
        duration_quantiles_ms: milliseconds, where a forecast is known.
        forecast: what history knows, where that is enough and may be used, or what was borrowed.
    """

    needs: ResourceVector
    duration_ms: int
    sizing: Sizing
    reason: str
    gpu_type: str | None
    spec: ComputeSpec
    memory_quantiles: Quantiles | None = None
    duration_quantiles_ms: Quantiles | None = None
    forecast: Forecast | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """One voice's word on one dimension."""

    amount: int
    sizing: Sizing
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Voices:
    """Everyone who may speak of a step, the most particular first."""

    override: ComputeSpec
    partition: ComputeSpec
    op: ComputeSpec
    job: ComputeSpec
    defaults: Defaults
    forecast: Forecast | None
    borrowed: Forecast | None

    def answer(
        self,
        field: str,
        forecast: int | None,
        borrowed: int | None = None,
        *,
        is_borrowed_first: bool = False,
    ) -> _Answer:
        """Returns the first word said on a field of ComputeSpec."""
        for spec, sizing in ((self.override, Sizing.OVERRIDE), (self.partition, Sizing.DECLARED)):
            if getattr(spec, field) is not None:
                return _said(spec, field, sizing)
        if self.forecast is not None and forecast is not None:
            words = f"forecast: {self.forecast.in_words()}"
            return _Answer(amount=forecast, sizing=Sizing.FORECAST, reason=words)
        lent: _Answer | None = None
        if self.borrowed is not None and borrowed is not None:
            words = f"borrowed: {self.borrowed.in_words()}"
            lent = _Answer(amount=borrowed, sizing=Sizing.BORROWED, reason=words)
        if lent is not None and is_borrowed_first:
            return lent
        for spec in (self.op, self.job):
            if getattr(spec, field) is not None:
                return _said(spec, field, Sizing.DECLARED)
        if lent is not None:
            return lent
        amount = getattr(self.defaults, field)
        return _Answer(amount=amount, sizing=Sizing.DEFAULT, reason="default")


def _said(spec: ComputeSpec, field: str, sizing: Sizing) -> _Answer:
    amount = getattr(spec, field)
    words = spec.origin(field) or f"{field}={amount}"
    return _Answer(amount=amount, sizing=sizing, reason=f"{sizing}: {words}")


def everything_said(
    declared: ComputeSpec,
    *,
    partition: str = "",
    override: ComputeSpec | None = None,
    job: ComputeSpec | None = None,
) -> ComputeSpec:
    """Returns what is said of a step by anybody, the most particular first; as size_step."""
    rule = declared.partition_rule(partition) or ComputeSpec()
    return (override or ComputeSpec()).merged_over(rule).merged_over(declared).merged_over(job)


def size_step(
    declared: ComputeSpec,
    *,
    partition: str = "",
    override: ComputeSpec | None = None,
    job: ComputeSpec | None = None,
    forecast: Forecast | None = None,
    borrowed: Forecast | None = None,
    defaults: Defaults | None = None,
    min_attempts: int = MIN_ATTEMPTS,
    largest: ResourceVector | None = None,
) -> SizedStep:
    """Returns a step's size by the precedence that the module's docstring lists.

    Args:
        declared: the op's tags.
        partition: the step's partition key, or empty.
        override: what the launch says of this step, see RunSpec.override_for.
        job: what the run's and the job's tags say of all steps.
        forecast: what history knows, or None.
        borrowed: what other steps have shown, where this one has never ended well, or None.
        defaults: what nobody said.
        min_attempts: how many good ends make enough history.
        largest: the largest CU there is, or None where unknown: headroom is cut at it, never
            what a person wrote or what was measured.
    """
    rule = declared.partition_rule(partition) or ComputeSpec()
    spec = everything_said(declared, partition=partition, override=override, job=job)
    is_fixed = spec.sizing is SizingMode.FIXED
    believed = None if is_fixed or spec.external else forecast
    trusted = believed if believed and believed.attempts >= max(1, min_attempts) else None
    voices = _Voices(
        override=override or ComputeSpec(),
        partition=rule,
        op=declared,
        job=job or ComputeSpec(),
        defaults=defaults or Defaults(),
        forecast=trusted,
        borrowed=None if is_fixed or spec.external or trusted else borrowed,
    )
    memory = _size_memory(voices, spec, believed, largest)
    cores = _size_cores(voices, spec, largest)
    duration = voices.answer(
        "duration_ms",
        _lasting_on(trusted, cores.amount) if trusted else None,
        borrowed.duration_ms.p50 if borrowed else None,
    )
    gpu_count = spec.gpu_count or (1 if spec.gpu_type else 0)
    return SizedStep(
        needs=ResourceVector(
            cpu_millis=cores.amount, memory_bytes=memory.amount, gpu_count=gpu_count
        ),
        duration_ms=duration.amount,
        sizing=memory.sizing,
        reason=_explain(memory, cores),
        gpu_type=spec.gpu_type,
        spec=spec,
        memory_quantiles=forecast.memory if forecast and forecast.attempts else None,
        duration_quantiles_ms=forecast.duration_ms if forecast and forecast.attempts else None,
        forecast=trusted or voices.borrowed,
    )


def _lasting_on(forecast: Forecast, cpu_millis: int) -> int:
    """Returns the forecast duration on the cores that are asked for: it is for the useful ones."""
    duration, scaling = forecast.duration_ms.p50, forecast.scaling
    if scaling is None or not forecast.useful_cpu_millis:
        return duration
    usual = scaling.duration_ms(forecast.useful_cpu_millis)
    return duration * scaling.duration_ms(cpu_millis) // usual if usual else duration


def _size_memory(
    voices: _Voices, spec: ComputeSpec, believed: Forecast | None, largest: ResourceVector | None
) -> _Answer:
    trusted = voices.forecast
    size = trusted.allocation_bytes(spec.risk or Risk.BALANCED) if trusted else None
    if trusted is not None and size is not None and largest is not None:
        known = max(trusted.memory_sample.largest, trusted.lower_bound_bytes + 1)
        size = min(size, max(known, largest.memory_bytes))
    risk = spec.risk or Risk.BALANCED
    lent = voices.borrowed.allocation_bytes(risk) if voices.borrowed else None
    if lent is not None and largest is not None:
        lent = min(lent, largest.memory_bytes)
    answer = voices.answer("memory_bytes", size, lent, is_borrowed_first=risk is Risk.COST)
    if believed is not None and answer.amount < believed.floor_bytes:
        bound, floor = believed.lower_bound_bytes, believed.floor_bytes
        if largest is not None:
            floor = min(floor, max(bound + 1, largest.memory_bytes))
        words = f"{format_bytes(floor)}, ended for memory at {format_bytes(bound)}"
        answer = _raised(answer, floor, Sizing.LEARNED_BOUND, words)
    floor = spec.min_memory_bytes or 0
    return _raised(
        answer, floor, answer.sizing, f"{format_bytes(floor)} by {spec.origin('min_memory_bytes')}"
    )


def _size_cores(voices: _Voices, spec: ComputeSpec, largest: ResourceVector | None) -> _Answer:
    useful = voices.forecast.useful_cpu_millis if voices.forecast else None
    if useful and largest is not None:
        useful = min(useful, max(1, largest.cpu_millis))
    answer = voices.answer("cpu_millis", useful or None)
    floor = spec.min_cpu_millis or 0
    words = f"{millis_to_cores(floor)} cores by {spec.origin('min_cpu_millis')}"
    return _raised(answer, floor, answer.sizing, words)


def _raised(answer: _Answer, floor: int, sizing: Sizing, words: str) -> _Answer:
    """Returns the answer, or the floor if that is above it."""
    if answer.amount >= floor:
        return answer
    reason = f"{answer.reason}; raised to {words.removesuffix(' by ')}"
    return _Answer(amount=floor, sizing=sizing, reason=reason)


def _explain(memory: _Answer, cores: _Answer) -> str:
    """Returns the memory's reason, and the cores' where it is another."""
    if cores.reason == memory.reason or cores.reason == "default":
        return memory.reason
    if cores.reason.startswith(memory.reason + ";") or memory.reason.startswith(cores.reason + ";"):
        return max(memory.reason, cores.reason, key=len)
    return f"{memory.reason} (cores: {cores.reason})"
