"""From attempts on few and on many cores to how a step's time scales (Amdahl's law).

An attempt of W milliseconds with C milliseconds of CPU time on c cores has shown a parallel part:
one core could not have done C in W, so that

    parallel >= (C - W) / (1 - 1/c)

is the least there must have been, and all that is claimed from one size alone. Attempts of like
work on different cores say more: the slope of W over 1/c, where that is above the least.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cu_market.domain.scaling import Scaling
from cu_market.domain.units import MILLIS
from cu_market.pse.cores import FULL_RATIO, round_cores
from cu_market.pse.evidence import Observation, reference_duration_ms, wanted_cpu_millis

WORK_RATIO = 1.25
"""Most over least CPU time of attempts that count as like work."""

BELIEVED_BEYOND = 2
"""So many times the cores that an attempt kept busy are believed to help."""


@dataclass(frozen=True, slots=True)
class _Seen:
    cores: int
    wall_ms: float
    cpu_ms: float
    weight: float

    @property
    def least_parallel_ms(self) -> float:
        if self.cores == 1:
            return 0.0
        return min(self.cpu_ms, max(0.0, self.cpu_ms - self.wall_ms) / (1 - 1 / self.cores))


def fit_scaling(attempts: Sequence[Observation]) -> Scaling | None:
    """Returns how a step's time scales, or None where no attempt has ended well.

    Args:
        attempts: that ended well.
    """
    seen = [_seen(each) for each in attempts]
    if not seen:
        return None
    total = sum(each.weight for each in seen)
    cpu = sum(each.weight * each.cpu_ms for each in seen) / total
    wall = sum(each.weight * each.wall_ms for each in seen) / total
    least = sum(each.weight * each.least_parallel_ms for each in seen) / total
    inverse = sum(each.weight / each.cores for each in seen) / total
    parallel = min(cpu, max(least, _slope(seen, wall, inverse)))
    serial = max(0.0, cpu - parallel)
    waiting = max(0.0, wall - parallel * inverse - serial)
    return Scaling(
        waiting_ms=round(waiting),
        serial_ms=round(serial),
        parallel_ms=round(parallel),
        most_millis=max(map(_most_millis, attempts)),
    )


def _seen(each: Observation) -> _Seen:
    measured = each.usage.measurement
    wall = reference_duration_ms(measured)
    pools = max(1, -(-each.usage.cpu_millis // MILLIS))
    used = round_cores(MILLIS * measured.cpu_ms // wall) // MILLIS  # more threads than its pools
    return _Seen(
        cores=max(pools, used),
        wall_ms=float(wall),
        cpu_ms=float(measured.cpu_ms),
        weight=each.weight,
    )


def _slope(seen: Sequence[_Seen], wall: float, inverse: float) -> float:
    """Returns the weighted slope of wall time over 1/cores, 0 where it says nothing."""
    work = [max(1.0, each.cpu_ms) for each in seen]
    if max(work) > WORK_RATIO * min(work) or len({each.cores for each in seen}) < 2:
        return 0.0
    spread = sum(each.weight * (1 / each.cores - inverse) ** 2 for each in seen)
    along = sum(each.weight * (1 / each.cores - inverse) * (each.wall_ms - wall) for each in seen)
    return max(0.0, along / spread)


def _most_millis(each: Observation) -> int:
    wanted = wanted_cpu_millis(each.usage)
    whole = max(MILLIS, -(-wanted // MILLIS) * MILLIS)
    is_full = wanted >= FULL_RATIO * each.usage.cpu_millis
    return max(each.usage.cpu_millis, BELIEVED_BEYOND * whole if is_full else whole)
