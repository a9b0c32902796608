"""Steps that fill whatever they are given: a JVM with a heap of its limit, a cache.

Sized by what it used plus headroom, such a step is given more from run to run. It is known by its
peaks following its sizes while its work stays the same, and is then given the least that sufficed.
Whether that was right shows: where it is ended for memory under that size, it is no such step.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from cu_market.domain.usage import Usage

LEAST_ATTEMPTS = 4
SIZES_RATIO = 1.3
"""Largest over smallest size: closer ones could not tell."""

WORK_RATIO = 1.25
"""Most over least CPU time: with more work, more memory would be no wonder."""

LEAST_FILLED = 0.7
"""Share of its size that such a step uses at least."""

BAND_RATIO = 0.07
"""How far that share may be from its median."""


def filled_bytes(ended: Sequence[Usage], outgrown: Sequence[int] = ()) -> int:
    """Returns the least size that sufficed for a step that fills what it is given, 0 for others.

    Args:
        ended: attempts that ended well, newest first; those of the newest one's inputs count.
        outgrown: bytes under which attempts were ended for memory.
    """
    alike = [usage for usage in ended if usage.input_bytes == ended[0].input_bytes]
    alike = [usage for usage in alike if _is_size_known(usage)]
    if len(alike) < LEAST_ATTEMPTS:
        return 0
    sizes = [usage.memory_bytes for usage in alike]
    work = [max(1, usage.measurement.cpu_ms) for usage in alike]
    shares = [u.measurement.peak_memory_bytes / max(1, u.memory_bytes) for u in alike]
    usual, least = median(shares), min(sizes)
    is_following = (
        max(sizes) >= SIZES_RATIO * least
        and usual >= LEAST_FILLED
        and all(abs(share - usual) <= BAND_RATIO * usual for share in shares)
        and max(work) <= WORK_RATIO * min(work)
    )
    is_refuted = any(size >= least for size in outgrown)
    return least if is_following and not is_refuted else 0


def _is_size_known(usage: Usage) -> bool:
    """Whether it was recorded what the attempt was given: where not, its peak stands for it in what
    is imported, and every peak follows a size that is itself."""
    return usage.memory_bytes != usage.measurement.peak_memory_bytes
