"""A vector of resources: what a step needs, a CU has, or a pool can still give."""

from __future__ import annotations

from dataclasses import dataclass

from cu_market.domain.problem import require


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceVector:
    """Milli-cores, bytes of memory and a count of GPUs. Never negative.

    Attributes:
        cpu_millis: thousandths of a core.
        memory_bytes: bytes.
        gpu_count: whole GPUs.
    """

    cpu_millis: int = 0
    memory_bytes: int = 0
    gpu_count: int = 0

    def __post_init__(self) -> None:
        for name, value in self.items():
            require(
                isinstance(value, int) and value >= 0,
                f"ResourceVector.{name}",
                value,
                "not a whole number of at least 0",
                "give a whole number",
            )

    def items(self) -> tuple[tuple[str, int], ...]:
        """Returns (dimension, amount) pairs in a fixed order."""
        return (
            ("cpu_millis", self.cpu_millis),
            ("memory_bytes", self.memory_bytes),
            ("gpu_count", self.gpu_count),
        )

    def fits_in(self, other: ResourceVector) -> bool:
        """Whether every amount here is at most the other's."""
        return not self.exceeds(other)

    def exceeds(self, other: ResourceVector) -> tuple[str, ...]:
        """Returns the dimensions in which this is more than the other, in order."""
        return tuple(name for name, value in self.items() if value > getattr(other, name))

    def __add__(self, other: ResourceVector) -> ResourceVector:
        return ResourceVector(**{n: v + getattr(other, n) for n, v in self.items()})

    def minus(self, other: ResourceVector) -> ResourceVector:
        """Returns the difference, cut at zero."""
        return ResourceVector(**{n: max(0, v - getattr(other, n)) for n, v in self.items()})

    def times(self, count: int) -> ResourceVector:
        """Returns count of these together."""
        return ResourceVector(**{n: v * count for n, v in self.items()})

    def copies_in(self, total: ResourceVector) -> int:
        """Returns how many of these a total holds; none where this is nothing."""
        counts = [getattr(total, n) // v for n, v in self.items() if v]
        return min(counts, default=0)

    def share_permille(self, total: ResourceVector) -> int:
        """Returns this as a share of a total, of what is scarcest, in thousandths, rounded down."""
        shares = (1000 * v // getattr(total, n) for n, v in self.items() if getattr(total, n))
        return max(shares, default=0)

    def largest(self, other: ResourceVector) -> ResourceVector:
        """Returns the larger amount of each dimension."""
        return ResourceVector(**{n: max(v, getattr(other, n)) for n, v in self.items()})
