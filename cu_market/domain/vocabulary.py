"""Every tag that the market knows, in one table.

The reference page (docs/tags.md) is written from this table, and a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cu_market.domain.spec import Interruptible, Mode, OnMarketFailure, OnOom, Risk, SizingMode
from cu_market.domain.tag_values import (
    CONFIDENCE,
    CORES,
    COUNT,
    DURATION,
    FLAG,
    MEMORY,
    MONEY,
    MONEY_OR_ZERO,
    NAME,
    NAMES,
    WHOLE,
    ValueKind,
    choice,
)

PREFIX = "cu/"
OVERRIDE_PREFIX = "cu/for."
PARTITIONS_TAG = "cu/partitions"
KUBERNETES_TAG = "dagster-k8s/config"
DAGSTER_PRIORITY_TAG = "dagster/priority"


class Place(StrEnum):
    """Where a tag may stand. Dagster copies a job's tags into each of its runs."""

    OP = "op"
    JOB = "job"
    RUN = "run"


_STEP = (Place.OP, Place.JOB, Place.RUN)
_RUN = (Place.JOB, Place.RUN)


@dataclass(frozen=True, slots=True, kw_only=True)
class TagRule:
    """One tag.

    Attributes:
        name: the tag's key.
        argument: its name in compute() and in the value of ``cu/for.``; empty where it has none.
        field: the field of ComputeSpec or RunSpec that takes it.
        kind: how its value is read and written.
        unit: of the value in the tag.
        meaning: one sentence.
        example: a value.
        places: where it may stand.
    """

    name: str
    argument: str
    field: str
    kind: ValueKind
    unit: str
    meaning: str
    example: str
    places: tuple[Place, ...]


def _rule(
    places: tuple[Place, ...],
    name: str,
    argument: str,
    field: str,
    kind: ValueKind,
    unit: str,
    meaning: str,
    example: str,
) -> TagRule:
    return TagRule(
        name=PREFIX + name,
        argument=argument,
        field=field,
        kind=kind,
        unit=unit,
        meaning=meaning,
        example=example,
        places=places,
    )


# fmt: off
STEP_TAGS: tuple[TagRule, ...] = (
    _rule(_STEP, "cpu_cores", "cpu", "cpu_millis", CORES, "cores",
          "Cores that the step can use.", "2"),
    _rule(_STEP, "memory_gb", "memory", "memory_bytes", MEMORY, "GB (10^9 bytes)",
          "Memory that the step needs at its peak.", "8.589934592"),
    _rule(_STEP, "gpu_type", "gpu", "gpu_type", NAME, "name",
          "The GPU that the step needs; one of them unless `cu/gpu_count` says more.", "A100"),
    _rule(_STEP, "gpu_count", "gpu_count", "gpu_count", COUNT, "GPUs",
          "How many GPUs the step needs.", "2"),
    _rule(_STEP, "duration_seconds", "duration", "duration_ms", DURATION, "seconds",
          "How long the step takes on the reference machine.", "300"),
    _rule(_STEP, "max_price_usd_per_hour", "max_price", "max_price_microusd_per_hour", MONEY,
          "dollars an hour", "A dearer bid is refused.", "0.5"),
    _rule(_STEP, "provider", "provider", "providers", NAMES, "names",
          "Only these providers may run the step.", "local,cloud"),
    _rule(_STEP, "location", "location", "locations", NAMES, "names",
          "The step may run only in these locations.", "eu-west-1"),
    _rule(_STEP, "together", "together", "together", NAME, "name",
          "Steps of one run that say the same name run in one location: for those that hand data"
          " to each other through files of one machine. Steps of different runs are never tied.",
          "scratch"),
    _rule(_STEP, "sizing", "sizing", "sizing", choice(SizingMode), "choice",
          "`auto` lets a forecast with enough history replace the declared size; `fixed` takes it"
          " literally.", "fixed"),
    _rule(_STEP, "on_oom", "on_oom", "on_oom", choice(OnOom), "choice",
          "`retry` auctions a step that was ended for memory again, with more; `fail` does not.",
          "fail"),
    _rule(_STEP, "risk", "risk", "risk", choice(Risk), "choice",
          "How much a failed attempt weighs against memory held for nothing.", "safe"),
    _rule(_STEP, "external", "external", "external", FLAG, "truth",
          "The step only waits for a remote system: nothing is learned from it.", "true"),
    _rule(_STEP, "interruptible", "interruptible", "interruptible", choice(Interruptible),
          "choice", "Whether the step may be ended to run again: on a CU that can be revoked, or"
          " for one that is much cheaper. `true` (as when nothing is said) where a retry would"
          " still end before the deadline, `always`, or `false`.", "false"),
    _rule(_STEP, "min_cpu_cores", "min_cpu", "min_cpu_millis", CORES, "cores",
          "Never fewer cores, whatever else says so.", "0.5"),
    _rule(_STEP, "min_memory_gb", "min_memory", "min_memory_bytes", MEMORY, "GB (10^9 bytes)",
          "Never less memory, whatever else says so.", "1"),
)
"""Tags that speak of a step; on a job or run they are what its steps are unless they say so."""

RUN_TAGS: tuple[TagRule, ...] = (
    _rule(_RUN, "deadline_seconds", "", "deadline_ms", DURATION, "seconds",
          "When the run should have ended, counted from its launch.", "3600"),
    _rule(_RUN, "deadline_confidence", "", "deadline_confidence_permille", CONFIDENCE,
          "share of cases", "In how many of all cases the plan is to keep the deadline, by the"
          " forecasts' spread; `0.5` counts on every step's median.", "0.9"),
    _rule(_RUN, "budget_usd", "", "budget_microusd", MONEY, "dollars",
          "What the run may cost: it is planned within it, and nothing more is bought that would"
          " pass it.", "1.50"),
    _rule(_RUN, "account", "", "account", NAME, "name",
          "Who pays: accounts share a pool that is too small by their weights.", "research"),
    _rule(_RUN, "priority", "", "priority", WHOLE, "whole number",
          "Of the runs of one account that wait for the same room, the one with the largest takes"
          " what becomes free: read again while steps wait. Only a run launched with as large a one"
          " moves another's awards. Without it the run's `dagster/priority` counts, else 0.", "10"),
    _rule(_RUN, "mode", "", "mode", choice(Mode), "choice",
          "`recommend` changes nothing and shows what would have been done and saved.",
          "recommend"),
    _rule(_RUN, "value_of_time_usd_per_hour", "", "value_of_time_microusd_per_hour",
          MONEY_OR_ZERO, "dollars an hour", "What an hour of delay costs.", "2"),
    _rule(_RUN, "on_market_failure", "", "on_market_failure", choice(OnMarketFailure), "choice",
          "What the run does when the market cannot answer.", "native"),
)
"""Tags that speak of a run."""

WRITTEN_TAGS: dict[str, str] = {
    "cu/auction_id": "The auction at the run's launch; the awards stand in the ledger.",
    "cu/auction_total_usd": "The expected bill at that auction.",
    "cu/auction_mode": "Reserved: not written.",
    "cu/auction_place": "Reserved: not written.",
    "cu/auction_failure": "Reserved: not written.",
    "cu/bill_usd": "Reserved: not written.",
}
"""Tags that a market launcher writes as it launches a run, and names that are kept for more. They
are ignored when tags are read."""
# fmt: on
