"""What a person has said about a step or a run, before anything is decided.

Every field of a ComputeSpec may be None: not said. Specs of several places are merged field by
field, the more particular one over the more general one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from fnmatch import fnmatchcase

from cu_market.domain.request import StepIdentity
from cu_market.domain.units import GIB


class SizingMode(StrEnum):
    """Whether a forecast may replace a declared size."""

    AUTO = "auto"
    FIXED = "fixed"


class OnOom(StrEnum):
    """What follows when a step is ended for memory."""

    RETRY = "retry"
    FAIL = "fail"


class Risk(StrEnum):
    """How much a failed attempt weighs against memory held for nothing."""

    COST = "cost"
    BALANCED = "balanced"
    SAFE = "safe"


class Interruptible(StrEnum):
    """Whether a step may run where it can be revoked: where a retry would still end in time, in any
    case, or never."""

    TRUE = "true"
    ALWAYS = "always"
    FALSE = "false"


class Mode(StrEnum):
    """What the market does with a run."""

    MARKET = "market"
    RECOMMEND = "recommend"


class OnMarketFailure(StrEnum):
    """What a run does when the market cannot answer."""

    NATIVE = "native"
    FAIL = "fail"
    WAIT = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeSpec:
    """What was said about a step, in one place or merged from several; None means not said.

    Attributes:
        cpu_millis: thousandths of a core.
        memory_bytes: bytes.
        gpu_type: the GPU's name.
        gpu_count: whole GPUs.
        duration_ms: milliseconds on the reference machine.
        max_price_microusd_per_hour: dearer bids are refused.
        providers: only these.
        locations: only these.
        together: a name: steps of its run that say it run in one location.
        sizing: whether a forecast may replace the declared size.
        on_oom: what follows when the step is ended for memory.
        risk: how much a failed attempt weighs.
        external: waits for a remote system; never learned from.
        interruptible: whether it may run where it can be revoked.
        min_cpu_millis: never fewer cores, whatever else says so.
        min_memory_bytes: never less memory, whatever else says so.
        partition_rules: sizes of particular partitions, the first match counts.
        origins: (field, words) pairs saying where each value was written, such as
            ``("memory_bytes", "cu/memory_gb=4")``; not part of equality.
    """

    cpu_millis: int | None = None
    memory_bytes: int | None = None
    gpu_type: str | None = None
    gpu_count: int | None = None
    duration_ms: int | None = None
    max_price_microusd_per_hour: int | None = None
    providers: tuple[str, ...] | None = None
    locations: tuple[str, ...] | None = None
    together: str | None = None
    sizing: SizingMode | None = None
    on_oom: OnOom | None = None
    risk: Risk | None = None
    external: bool | None = None
    interruptible: Interruptible | None = None
    min_cpu_millis: int | None = None
    min_memory_bytes: int | None = None
    partition_rules: tuple[PartitionRule, ...] | None = None
    origins: tuple[tuple[str, str], ...] = field(default=(), compare=False)

    def said(self) -> dict[str, object]:
        """Returns the fields that were said, by name, without origins."""
        return {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name != "origins" and getattr(self, f.name) is not None
        }

    def merged_over(self, other: ComputeSpec | None) -> ComputeSpec:
        """Returns this spec with the other's value wherever this one says nothing."""
        if other is None:
            return self
        missing = {n: v for n, v in other.said().items() if getattr(self, n) is None}
        origins = tuple((n, w) for n, w in other.origins if n in missing)
        return replace(self, **missing, origins=self.origins + origins)  # type: ignore[arg-type]

    def origin(self, name: str) -> str:
        """Returns where a field's value was written, or empty."""
        return dict(self.origins).get(name, "")

    def partition_rule(self, partition: str) -> ComputeSpec | None:
        """Returns the first rule whose pattern matches the partition key, or None."""
        if not partition or self.partition_rules is None:
            return None
        return next((r.spec for r in self.partition_rules if r.matches(partition)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionRule:
    """The size of those partitions whose key matches a pattern.

    Attributes:
        pattern: shell-style, case counts: ``2024-*``.
        spec: what is said of them.
    """

    pattern: str
    spec: ComputeSpec

    def matches(self, partition: str) -> bool:
        """Whether the pattern matches the partition key."""
        return fnmatchcase(partition, self.pattern)


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """What a launch says about one op or asset.

    Attributes:
        target: op name, node handle, or asset key with its parts joined by ``.``.
        partition: shell-style pattern of partition keys, or empty for all.
        spec: what is said.
    """

    target: str
    partition: str = ""
    spec: ComputeSpec

    def applies(self, names: Iterable[str], partition: str) -> bool:
        """Whether it speaks of a step known by any of these names, in this partition."""
        if self.target not in names:
            return False
        return not self.partition or fnmatchcase(partition, self.partition)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What was said about a run; None means not said.

    Attributes:
        deadline_ms: milliseconds from the launch until the run should have ended.
        deadline_confidence_permille: in how many of a thousand cases it is planned to have.
        budget_microusd: what the run may cost.
        account: who pays.
        priority: larger first.
        mode: what the market does with the run.
        value_of_time_microusd_per_hour: what an hour of delay costs.
        on_market_failure: what the run does when the market cannot answer.
        step_defaults: step tags written on the job or run: what its steps are unless they say
            otherwise themselves.
        overrides: what the launch says of single ops and assets; sorted, particular ones first.
    """

    deadline_ms: int | None = None
    deadline_confidence_permille: int | None = None
    budget_microusd: int | None = None
    account: str | None = None
    priority: int | None = None
    mode: Mode | None = None
    value_of_time_microusd_per_hour: int | None = None
    on_market_failure: OnMarketFailure | None = None
    step_defaults: ComputeSpec = field(default_factory=ComputeSpec)
    overrides: tuple[Override, ...] = ()

    def override_for(self, names: Iterable[str], partition: str = "") -> ComputeSpec | None:
        """Returns what the launch says of a step, or None.

        Args:
            names: every name the step goes by, see target_names.
            partition: its partition key, or empty. An override for the partition comes before
                one for all partitions, field by field.
        """
        known = frozenset(names)
        found: ComputeSpec | None = None
        for override in self.overrides:
            if override.applies(known, partition):
                found = override.spec if found is None else found.merged_over(override.spec)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """What a step is given when nobody has said anything and nothing is known.

    Attributes:
        cpu_millis: one core.
        memory_bytes: 1 GiB.
        duration_ms: one minute on the reference machine.
    """

    cpu_millis: int = 1000
    memory_bytes: int = GIB
    duration_ms: int = 60_000


def target_names(identity: StepIdentity, *others: str) -> frozenset[str]:
    """Returns the names that ``cu/for.<name>`` may use for a step.

    Args:
        identity: its asset keys (parts joined by ``/``, keys by ``+``) or node handle.
        others: the op's name and handle, the step key.
    """
    keys = identity.node.split("+")
    return frozenset(n for n in (*(key.replace("/", ".") for key in keys), *others) if n)
