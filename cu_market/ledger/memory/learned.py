"""What is learned from, in memory: curves of attempts, and published forecasts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from cu_market.domain.allocation import AllocationKey
from cu_market.domain.curve import UsageCurve
from cu_market.domain.publication import Publication
from cu_market.domain.request import StepIdentity
from cu_market.domain.usage import Ending, Usage
from cu_market.ledger.memory.schema import Tables
from cu_market.ledger.moves import check_aware
from cu_market.ledger.report import report_text


def keep_curve(
    tables: Tables,
    key: AllocationKey,
    identity: StepIdentity,
    curve: UsageCurve,
    ended_at: datetime,
) -> None:
    """Writes an attempt's curve, over what was written before."""
    check_aware("keep_curve: ended_at", ended_at)
    tables.curves[key] = (ended_at, identity, curve)


def keep_usages(tables: Tables, usages: Iterable[Usage]) -> int:
    """Writes attempts whose key is not there yet; returns how many."""
    new = {(u.run_id, u.step_key, u.attempt): u for u in usages}
    new = {key: usage for key, usage in new.items() if key not in tables.usages}
    tables.usages.update(new)
    return len(new)


def curves(
    tables: Tables, identity: StepIdentity, limit: int, ended_well: bool
) -> list[UsageCurve]:
    """Returns the newest curves of a step, newest first: of all, or of good ends alone."""
    good = {key for key, usage in tables.usages.items() if usage.ending is Ending.OK}
    rows = [
        (at, key, curve)
        for key, (at, who, curve) in tables.curves.items()
        if who == identity and (key in good or not ended_well)
    ]
    rows.sort(key=lambda row: row[:2], reverse=True)
    return [curve for _, _, curve in rows][: max(0, limit)]


def publish(tables: Tables, publications: Iterable[Publication]) -> None:
    """Writes publications, each over what was published for its step before; all or none."""
    rows = [
        replace(each, state=json.loads(report_text(str(each.identity), each.state)))
        for each in publications
    ]
    tables.forecasts.update((row.identity, row) for row in rows)


def published(
    tables: Tables, identities: Iterable[StepIdentity] | None
) -> dict[StepIdentity, Publication]:
    """Returns what is published for these steps, or everything."""
    wanted = set(tables.forecasts if identities is None else identities)
    return {who: row for who, row in tables.forecasts.items() if who in wanted}


def withdraw(tables: Tables, identities: Iterable[StepIdentity]) -> int:
    """Deletes what is published for these steps; returns how many rows."""
    gone = [who for who in set(identities) if tables.forecasts.pop(who, None) is not None]
    return len(gone)
