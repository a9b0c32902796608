"""What attempts used, in memory: history by identity, rows by run, delivered speed by CU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from cu_market.domain.allocation import Allocation
from cu_market.domain.request import StepIdentity
from cu_market.domain.usage import Usage
from cu_market.ledger.memory.schema import Tables


def history(
    tables: Tables, identities: Iterable[StepIdentity], limit: int
) -> dict[StepIdentity, Sequence[Usage]]:
    """Returns the newest attempts of each identity, newest first."""
    wanted = set(identities)
    found: dict[StepIdentity, list[Usage]] = {}
    for usage in find_usages(tables):
        if usage.identity in wanted and len(found.get(usage.identity, ())) < limit:
            found.setdefault(usage.identity, []).append(usage)
    return dict(found)


def relatives(
    tables: Tables, identities: Iterable[StepIdentity], limit: int
) -> dict[StepIdentity, Sequence[Usage]]:
    """Returns the newest attempts of each step whatever their partition, newest first."""
    wanted = {replace(identity, partition="") for identity in identities}
    found: dict[StepIdentity, list[Usage]] = {}
    for usage in find_usages(tables):
        step = replace(usage.identity, partition="")
        if step in wanted and len(found.get(step, ())) < limit:
            found.setdefault(step, []).append(usage)
    return dict(found)


def find_usages(
    tables: Tables,
    run_id: str | None = None,
    code_location: str | None = None,
    limit: int | None = None,
) -> list[Usage]:
    """Returns usage rows, newest first."""
    found = [
        (usage.ended_at, key, usage)
        for key, usage in tables.usages.items()
        if run_id in (None, key[0]) and code_location in (None, usage.identity.code_location)
    ]
    found.sort(key=lambda each: each[:2], reverse=True)
    newest = [usage for _, _, usage in found]
    return newest if limit is None else newest[: max(0, limit)]


def unstarted(tables: Tables, limit: int) -> list[Allocation]:
    """Returns the leases under which nothing was started, the newest first."""
    found = [
        (row.unstarted_at, key, row)
        for key, row in tables.allocations.items()
        if row.unstarted_at is not None
    ]
    found.sort(key=lambda each: each[:2], reverse=True)
    return [row for _, _, row in found][: max(0, limit)]


def delivered(tables: Tables, limit: int) -> dict[str, Sequence[int]]:
    """Returns the newest known delivered_millis per resource_id, newest first."""
    found: dict[str, list[int]] = {}
    for usage in find_usages(tables):
        share = usage.measurement.delivered_millis
        if share is not None and len(found.get(usage.resource_id, ())) < limit:
            found.setdefault(usage.resource_id, []).append(share)
    return dict(found)
