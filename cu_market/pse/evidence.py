"""What each attempt in a step's history may be believed for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cu_market.domain.features import StepFeatures
from cu_market.domain.request import StepIdentity
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.pse.partitions import distance

WINDOW = 30
"""How many of the newest attempts count."""

RECENCY_RATIO = 0.9
"""Each attempt weighs this much of the next newer one."""

OLD_CODE_RATIO = 0.25
"""An attempt of other code weighs this much of one of the code that is about to run."""

OTHER_CONFIG_RATIO = 0.5
"""The same for an attempt whose config says something else than what its numbers say."""

OTHER_PARTITION_RATIO = 0.8
OTHER_CATEGORY_RATIO = 0.4
"""The same for an attempt of another partition, of a date or number, or of another category."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One attempt that is learned from.

    Attributes:
        usage: the attempt.
        weight: recency times likeness, above 0.
        likeness: how much an attempt of this code, config and partition counts for what is about
            to run, 1 for one of the very same.
    """

    usage: Usage
    weight: float
    likeness: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A step's history, sorted by what it can teach.

    Attributes:
        ended: attempts that ended well, newest first: amounts.
        failed: attempts that raised, newest first: at least as much would have been used.
        outgrown_bytes: sizes that unresolved attempts outgrew before the newest good end.
        lower_bound_bytes: the largest size outgrown since the newest good end, 0 if none.
        ended_for_memory: sizes of all attempts that were, resolved or not.
    """

    ended: tuple[Observation, ...]
    failed: tuple[Observation, ...]
    outgrown_bytes: tuple[tuple[int, float], ...]
    lower_bound_bytes: int
    ended_for_memory: tuple[int, ...] = ()


def gather_evidence(
    history: Sequence[Usage],
    code_version: str | None,
    *,
    identity: StepIdentity | None = None,
    features: StepFeatures | None = None,
) -> Evidence:
    """Returns what a history can teach.

    Lost, preempted and interrupted attempts and external steps teach nothing. An attempt that was
    ended for memory is resolved once the same run's step has ended well: its true peak is then
    among the amounts. Unresolved, it bounds the need from below.

    Args:
        history: attempts, newest first, those of other partitions after its own.
        code_version: of the code about to run, or None where unknown.
        identity: the step's, or None where all attempts are its own.
        features: of the attempt about to run, or None where unknown.
    """
    digest = features.config_digest if features else ""
    lessons = [u for u in history if not u.external and u.ending in _TEACHING][:WINDOW]
    good = {(u.run_id, u.step_key) for u in lessons if u.ending is Ending.OK}
    ended: list[Observation] = []
    failed: list[Observation] = []
    outgrown: list[tuple[int, float]] = []
    bound = 0
    for age, usage in enumerate(lessons):
        likeness = _likeness(usage, code_version, digest, identity)
        weight = RECENCY_RATIO**age * likeness
        seen = Observation(usage=usage, weight=weight, likeness=likeness)
        if usage.ending is Ending.OK:
            ended.append(seen)
        elif usage.ending is Ending.ERROR:
            failed.append(seen)
        elif (usage.run_id, usage.step_key) not in good:
            size = outgrown_size(usage)
            if ended or (identity is not None and usage.identity != identity):
                outgrown.append((size, weight))
            else:
                bound = max(bound, size)
    return Evidence(
        ended=tuple(ended),
        failed=tuple(failed),
        outgrown_bytes=tuple(outgrown),
        lower_bound_bytes=bound,
        ended_for_memory=tuple(u.memory_bytes for u in lessons if u.ending is Ending.OUT_OF_MEMORY),
    )


def _likeness(
    usage: Usage, code_version: str | None, config_digest: str, identity: StepIdentity | None
) -> float:
    likeness = 1.0
    if code_version is not None and usage.code_version != code_version:
        likeness *= OLD_CODE_RATIO
    theirs = usage.features.config_digest
    if config_digest and theirs and theirs != config_digest:
        likeness *= OTHER_CONFIG_RATIO
    if identity is not None and usage.identity.partition != identity.partition:
        far = distance(identity.partition, usage.identity.partition)
        likeness *= OTHER_CATEGORY_RATIO**far.other_categories
        likeness *= OTHER_PARTITION_RATIO if far.apart else 1.0
    return likeness


_TEACHING = frozenset({Ending.OK, Ending.ERROR, Ending.OUT_OF_MEMORY})


def outgrown_size(usage: Usage) -> int:
    """Returns the bytes that an attempt ended for memory has shown to be too few."""
    return max(usage.memory_bytes, usage.measurement.peak_memory_bytes)


def reference_duration_ms(measurement: Measurement) -> int:
    """Returns milliseconds the attempt would have taken with its CPU time undisturbed.

    busy = min(wall, cpu + waited) is the part in which it wanted the CPU; only that part runs
    faster: wall - busy x (1 - delivered). Wall time where the kernel does not say.
    """
    delivered = measurement.delivered_millis
    if delivered is None or measurement.waited_ms is None:
        return max(1, measurement.wall_ms)
    busy = min(measurement.wall_ms, measurement.cpu_ms + measurement.waited_ms)
    return max(1, measurement.wall_ms - busy * (1000 - delivered) // 1000)


def wanted_cpu_millis(usage: Usage) -> int:
    """Returns the milli-cores that an attempt would have kept busy.

    (cpu + waited) / wall. More threads than cores would make waiting look like want without end,
    so that waiting counts only up to the cores that the attempt's thread pools were set to.
    """
    measured = usage.measurement
    wall_ms = max(1, measured.wall_ms)
    used = 1000 * measured.cpu_ms // wall_ms
    wanted = 1000 * (measured.cpu_ms + (measured.waited_ms or 0)) // wall_ms
    pools = -(-usage.cpu_millis // 1000) * 1000
    return min(wanted, max(used, pools))
