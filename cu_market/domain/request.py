"""What a step asks of the market."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from cu_market.domain.inputs import InputData
from cu_market.domain.problem import require
from cu_market.domain.resources import ResourceVector
from cu_market.domain.scaling import Scaling


class Sizing(StrEnum):
    """Where a request's size came from."""

    OVERRIDE = "override"
    DECLARED = "declared"
    DEFAULT = "default"
    FORECAST = "forecast"
    LEARNED_BOUND = "learned bound"
    BORROWED = "borrowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """Three points of a distribution, in the unit its field names.

    Attributes:
        p10: one in ten is below.
        p50: the median.
        p95: one in twenty is above.
    """

    p10: int
    p50: int
    p95: int

    def __post_init__(self) -> None:
        require(
            0 <= self.p10 <= self.p50 <= self.p95,
            "Quantiles",
            (self.p10, self.p50, self.p95),
            "not rising from 0",
            "give p10 <= p50 <= p95",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepIdentity:
    """What history is kept by: stable across runs, jobs and sub-selections.

    Attributes:
        code_location: name of the Dagster code location, empty where there is none.
        node: sorted asset keys joined by ``+`` (parts of a key by ``/``), else the op's node
            handle; never the step key, which a sub-selection or a mapping index changes.
        partition: partition key, or empty.
    """

    code_location: str = ""
    node: str
    partition: str = ""

    def __str__(self) -> str:
        place = f"{self.code_location}:" if self.code_location else ""
        return f"{place}{self.node}" + (f"@{self.partition}" if self.partition else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Where a request must be served, since others that it stays together with are there.

    Attributes:
        location: a CU's location.
        by: steps that are there, or go there with it; it may be one of them.
    """

    location: str
    by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceRequest:
    """One step's (or a class of steps') demand, as the mission's Resource_Request and more.

    Attributes:
        request_id: unique in an auction; the step key for a step.
        timestamp: when it is wanted.
        cu_type: the class of CU: ``cpu``, or the GPU's name.
        quantity: how many at once; 1 for a step.
        duration_ms: expected milliseconds on the reference machine (p50).
        needs: what each must have.
        gpu_type: GPU's name, or None for none or any.
        sizing: where the size came from.
        reason: the same in words: ``forecast p95 1.2 GiB of 7 attempts``.
        identity: what history is kept by.
        duration_quantiles_ms: milliseconds, where a forecast knows them.
        memory_quantiles: bytes, where a forecast knows them.
        scaling: how its time depends on cores and speed, where that was measured; it takes
            duration_ms on the cores that it needs.
        depends_on: request_ids that must end first.
        earliest_start_ms: milliseconds after the auction's time, before dependencies.
        latest_finish_ms: milliseconds after the auction's time, or None.
        max_price_microusd_per_hour: a bid above it is refused, or None.
        value_of_time_microusd_per_hour: what an hour of delay costs.
        providers: only these, or empty for any.
        locations: only these, or empty for any.
        together: requests of one run with the same name are served in one location; empty: alone.
        kept: where that is, once others of them have begun or a plan has settled it; else None.
        priority: Dagster's step priority; larger first.
        run_priority: of its run, among those of its account; plans do not look at it.
        interruptible: whether it may run where it can be revoked.
        retry_must_fit: only where, once revoked, it could run again before its latest end.
        inputs: what it reads of steps before it, where that is known.
        external: waits for a remote system; not learned from.
        run_id: whose it is: requests of one run share a finish. Empty where there is one run only.
    """

    request_id: str
    timestamp: datetime
    cu_type: str = "cpu"
    quantity: int = 1
    duration_ms: int
    needs: ResourceVector
    gpu_type: str | None = None
    sizing: Sizing = Sizing.DEFAULT
    reason: str = ""
    identity: StepIdentity | None = None
    duration_quantiles_ms: Quantiles | None = None
    memory_quantiles: Quantiles | None = None
    scaling: Scaling | None = None
    depends_on: tuple[str, ...] = ()
    earliest_start_ms: int = 0
    latest_finish_ms: int | None = None
    max_price_microusd_per_hour: int | None = None
    value_of_time_microusd_per_hour: int = 0
    providers: tuple[str, ...] = ()
    locations: tuple[str, ...] = ()
    together: str = ""
    kept: Kept | None = None
    priority: int = 0
    run_priority: int = 0
    interruptible: bool = True
    retry_must_fit: bool = True
    inputs: tuple[InputData, ...] = ()
    external: bool = False
    run_id: str = ""
    labels: tuple[tuple[str, str], ...] = field(default=())

    def __post_init__(self) -> None:
        where = f"ResourceRequest {self.request_id!r}"
        require(bool(self.request_id), "ResourceRequest.request_id", "", "empty", "name it")
        require(self.quantity >= 1, f"{where}.quantity", self.quantity, "below 1", "ask for one")
        require(
            self.duration_ms >= 0, f"{where}.duration_ms", self.duration_ms, "negative", "give >= 0"
        )
        require(
            self.timestamp.tzinfo is not None,
            f"{where}.timestamp",
            self.timestamp,
            "has no time zone",
            "give an aware UTC time",
        )

    @property
    def own_name(self) -> str:
        """What it is called within its run: among several runs' its id begins with its run's."""
        return self.request_id.removeprefix(f"{self.run_id}/") if self.run_id else self.request_id

    @property
    def duration_seconds(self) -> float:
        """Expected seconds on the reference machine."""
        return self.duration_ms / 1000

    def duration_on(self, cpu_millis: int, performance_millis: int) -> int:
        """Returns expected milliseconds on a CU, without its start-up; rounded up.

        Where nothing is known of how its time scales, all of it is taken to be one core's work.

        Args:
            cpu_millis: milli-cores that a lease gives it there.
            performance_millis: the CU's speed in thousandths of the reference's.
        """
        if self.scaling is None:
            return -(-self.duration_ms * 1000 // performance_millis)
        return self.scaling.duration_ms(cpu_millis, performance_millis)

    def to_record(self) -> dict[str, object]:
        """Returns the request under the mission's names, ready for JSON or a table."""
        return {
            "timestamp": self.timestamp.isoformat(),
            "cu_type": self.cu_type,
            "quantity": self.quantity,
            "duration_seconds": self.duration_seconds,
            "step": self.request_id,
            "cpu_cores": self.needs.cpu_millis / 1000,
            "memory_gb": self.needs.memory_bytes / 10**9,
            "gpu_type": self.gpu_type,
            "gpu_count": self.needs.gpu_count,
            "together": self.together,
            "sizing": str(self.sizing),
            "reason": self.reason,
        }
