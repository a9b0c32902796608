"""What is expected of a step, as distributions, and the contract of whoever expects it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from cu_market.domain.features import NO_FEATURES, StepFeatures
from cu_market.domain.request import Quantiles, StepIdentity
from cu_market.domain.scaling import Scaling
from cu_market.domain.spec import Risk
from cu_market.domain.units import MIB, format_bytes
from cu_market.domain.usage import Usage
from cu_market.pse.distribution import Distribution

MEMORY_STEP_BYTES = 16 * MIB
"""Sizes are multiples of it: finer ones would be noise."""

MEMORY_FLOOR_BYTES = 64 * MIB
"""No forecast asks for less: an interpreter's own allocations move by tens of MiB."""

OOM_FACTOR = 2
"""How much more a step gets after it was ended for memory."""

NEXT_RUNG_RATIO = 1.1
"""A step that was ended for memory gets at least this much of what it had."""

RISK_RATIO = {Risk.COST: 0.9, Risk.BALANCED: 0.98, Risk.SAFE: 1.0}
"""Which quantile of the peaks seen each risk starts from."""

RISK_HEADROOM = {Risk.COST: 0.5, Risk.BALANCED: 1.0, Risk.SAFE: 1.5}
"""How much of the headroom each risk adds."""


def round_memory(size: float) -> int:
    """Returns bytes rounded up to MEMORY_STEP_BYTES, at least MEMORY_FLOOR_BYTES."""
    steps = -(-int(-(-size // 1)) // MEMORY_STEP_BYTES)
    return max(MEMORY_FLOOR_BYTES, steps * MEMORY_STEP_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a step is expected to use.

    Attributes:
        identity: whose.
        memory_sample: peak private bytes seen or borrowed, without any headroom.
        memory: bytes, tail included.
        cpu_ms: CPU-milliseconds.
        duration_ms: milliseconds on the reference machine with its CPU time undisturbed.
        read_bytes, written_bytes: bytes.
        useful_cpu_millis: milli-cores it makes use of, rounded to what is worth asking for.
        attempts: how many ended attempts (ok) informed it; 0 where only a bound is known.
        of_others: how many of these were other partitions'.
        borrowed_from: of how many other steps it was borrowed, 0 where the step's own past speaks.
        driver: what its memory was seen to follow, in words; empty for nothing.
        scaling: how its time depends on cores and speed, or None where unknown.
        headroom_ratio: how much above the sample a size has to be: shrinks with attempts, grows
            with their spread and with a change of code.
        lower_bound_bytes: the largest size under which it was ended for memory and has not since
            shown that less is enough; 0 where there is none.
        filled_bytes: the least size that sufficed for a step that fills whatever it is given, 0 for
            other steps; see cu_market.pse.filling.
        ladders: for each risk the sizes to try, rising, planned by expected cost; empty where
            sizes are the sample's quantiles with headroom.
        peaks: bytes, the distribution that the ladders were planned over; None without ladders.
    """

    identity: StepIdentity
    memory_sample: Distribution
    memory: Quantiles
    cpu_ms: Quantiles
    duration_ms: Quantiles
    read_bytes: Quantiles
    written_bytes: Quantiles
    useful_cpu_millis: int
    attempts: int
    of_others: int = 0
    borrowed_from: int = 0
    driver: str = ""
    scaling: Scaling | None = None
    headroom_ratio: float
    lower_bound_bytes: int = 0
    filled_bytes: int = 0
    ladders: tuple[tuple[Risk, tuple[int, ...]], ...] = ()
    peaks: Distribution | None = None

    @property
    def floor_bytes(self) -> int:
        """Bytes that the learned lower bound asks for, 0 where there is none."""
        if not self.lower_bound_bytes:
            return 0
        rung = self.next_rung(self.lower_bound_bytes)
        return round_memory(OOM_FACTOR * self.lower_bound_bytes) if rung is None else rung

    def ladder(self, risk: Risk) -> tuple[int, ...]:
        """Returns the planned sizes under a risk, or nothing where none are planned."""
        return dict(self.ladders).get(risk, ())

    def next_rung(self, reached_bytes: int, risk: Risk = Risk.BALANCED) -> int | None:
        """Returns the risk's ladder's next size that is well above what was not enough, or None."""
        least = round_memory(reached_bytes * NEXT_RUNG_RATIO)
        return next((size for size in self.ladder(risk) if size >= least), None)

    def allocation_bytes(self, risk: Risk = Risk.BALANCED) -> int:
        """Returns the bytes to ask for.

        quantile(risk) x (1 + headroom x share(risk)), rounded up, and never below what a learned
        lower bound asks for. With ladders the first rung instead; for a step that fills what it is
        given the least that sufficed.
        """
        if self.filled_bytes:
            return max(round_memory(self.filled_bytes), self.floor_bytes)
        if ladder := self.ladder(risk):
            return max(ladder[0], self.floor_bytes)
        base = self.memory_sample.quantile(RISK_RATIO[risk])
        size = base * (1 + RISK_HEADROOM[risk] * self.headroom_ratio)
        return max(round_memory(size), self.floor_bytes)

    def in_words(self) -> str:
        """Returns ``p50 410.0 MiB, p95 520.0 MiB of 3 attempts``, and what else it rests on."""
        p50, p95 = format_bytes(self.memory.p50), format_bytes(self.memory.p95)
        if self.borrowed_from:
            return f"p50 {p50}, p95 {p95}, from {self.borrowed_from} other steps of the location"
        noun = "attempt" if self.attempts == 1 else "attempts"
        said = f"p50 {p50}, p95 {p95} of {self.attempts} {noun}"
        if self.of_others:
            said += f", {self.of_others} of them other partitions'"
        if self.driver:
            said += f", following {self.driver}"
        if self.filled_bytes:
            said += f", which fill what they are given: {format_bytes(self.filled_bytes)} sufficed"
        return said


class Forecaster(Protocol):
    """Whoever turns history into forecasts. Pure: same input, same forecast."""

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
        """Returns what to expect of the step's next attempt, or None where nothing is known.

        Args:
            identity: the step.
            history: its attempts, newest first, after them other partitions' where they are few.
            code_version: of the code that is about to run, or None where unknown.
            input_bytes: of its inputs as measured when upstream wrote them, or None.
            features: what else is known of its work.
            running_ms: for how long others of it have been running: while only the quick ones of
                many have ended, those that ended are a biased sample.
        """
