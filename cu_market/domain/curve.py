"""What an attempt used over time, in a bounded number of points."""

from __future__ import annotations

from dataclasses import dataclass

from cu_market.domain.problem import require


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageCurve:
    """An attempt's use over time: point i stands for the i-th interval since its start.

    Attributes:
        interval_ms: length of each interval.
        memory_bytes: most private bytes held in it.
        cpu_ms: CPU-milliseconds used until its end.
        io_bytes: bytes read and written until its end.
    """

    interval_ms: int
    memory_bytes: tuple[int, ...] = ()
    cpu_ms: tuple[int, ...] = ()
    io_bytes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        require(
            self.interval_ms > 0,
            "UsageCurve.interval_ms",
            self.interval_ms,
            "not above 0",
            "give ms",
        )
        lengths = {len(self.memory_bytes), len(self.cpu_ms), len(self.io_bytes)}
        require(len(lengths) == 1, "UsageCurve", sorted(lengths), "of unequal length", "one each")

    def __len__(self) -> int:
        return len(self.memory_bytes)

    @property
    def duration_ms(self) -> int:
        """Milliseconds that the points cover."""
        return self.interval_ms * len(self.memory_bytes)

    @property
    def peak_bytes(self) -> int:
        """Most memory at any point, 0 where there is none."""
        return max(self.memory_bytes, default=0)

    def to_record(self) -> dict[str, object]:
        """Returns the curve ready for JSON."""
        return {
            "interval_ms": self.interval_ms,
            "memory_bytes": list(self.memory_bytes),
            "cpu_ms": list(self.cpu_ms),
            "io_bytes": list(self.io_bytes),
        }

    @classmethod
    def from_record(cls, record: dict[str, object]) -> UsageCurve:
        """Returns the curve of a record; the other way of to_record."""
        columns = {}
        for name in ("memory_bytes", "cpu_ms", "io_bytes"):
            values = record.get(name)
            columns[name] = tuple(int(v) for v in values) if isinstance(values, list) else ()
        interval = record.get("interval_ms")
        return cls(interval_ms=interval if isinstance(interval, int) else 0, **columns)
