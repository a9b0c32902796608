"""How a step's time depends on the CU that it runs on, by Amdahl's law.

    T(c, s) = waiting + (serial + parallel / c) / s

with c the cores it may use, s the CU's speed, and the three parts milliseconds on the reference
machine with one core. Waiting (for disks, for other systems) is not quicker on a quicker CU.
"""

from __future__ import annotations

from dataclasses import dataclass

from cu_market.domain.problem import require
from cu_market.domain.units import MILLIS


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """The three parts of a step's time.

    Attributes:
        waiting_ms: without any CPU.
        serial_ms: CPU time of what one core does at a time.
        parallel_ms: CPU time of what cores share.
        most_millis: milli-cores beyond which no gain is believed, since so many were never seen
            in use; at least 1000.
    """

    waiting_ms: int
    serial_ms: int
    parallel_ms: int = 0
    most_millis: int = MILLIS

    def __post_init__(self) -> None:
        parts = (self.waiting_ms, self.serial_ms, self.parallel_ms)
        require(min(parts) >= 0, "Scaling", parts, "a negative part", "give milliseconds >= 0")
        require(
            self.most_millis >= MILLIS,
            "Scaling.most_millis",
            self.most_millis,
            "below one core",
            "give at least 1000",
        )

    def duration_ms(self, cpu_millis: int, performance_millis: int = MILLIS) -> int:
        """Returns milliseconds on a CU, rounded up.

        Less than one core counts as one: such a lease shares a core, and may use all of it.

        Args:
            cpu_millis: milli-cores that the step may use there.
            performance_millis: the CU's speed in thousandths of the reference's.
        """
        cores = min(max(cpu_millis, MILLIS), self.most_millis)
        busy = self.serial_ms * cores + self.parallel_ms * MILLIS  # times cores
        return self.waiting_ms - (-busy * MILLIS // (cores * performance_millis))

    def rebased(self, duration_ms: int, cpu_millis: int) -> Scaling:
        """Returns this with all parts changed alike, so that it takes so long on so many cores."""
        had = self.duration_ms(cpu_millis)
        if had <= 0 or had == duration_ms:
            return self
        serial = self.serial_ms * duration_ms // had
        parallel = self.parallel_ms * duration_ms // had
        cores = min(max(cpu_millis, MILLIS), self.most_millis)
        busy = -(-(serial * cores + parallel * MILLIS) // cores)
        return Scaling(
            waiting_ms=max(0, duration_ms - busy),  # with what rounding has taken off the others
            serial_ms=serial,
            parallel_ms=parallel,
            most_millis=self.most_millis,
        )
