"""SQL of what is learned from: curves of attempts, and published forecasts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, delete, insert, or_, select

from cu_market.domain.allocation import AllocationKey
from cu_market.domain.curve import UsageCurve
from cu_market.domain.publication import Publication
from cu_market.domain.request import StepIdentity
from cu_market.domain.usage import Ending, Usage
from cu_market.ledger.records import from_us, to_us, usage_row
from cu_market.ledger.report import report_text
from cu_market.ledger.schema import CURVES, FORECASTS, USAGES

_CHUNK = 300


def keep_curve(
    connection: Connection,
    key: AllocationKey,
    identity: StepIdentity,
    curve: UsageCurve,
    ended_at: datetime,
) -> None:
    """Writes an attempt's curve, over what was written before."""
    run_id, step_key, attempt = key
    is_own = (CURVES.c.run_id == run_id, CURVES.c.step_key == step_key, CURVES.c.attempt == attempt)
    connection.execute(delete(CURVES).where(*is_own))
    row = {
        "run_id": run_id,
        "step_key": step_key,
        "attempt": attempt,
        "ended_at": to_us(ended_at),
        "report": report_text(f"{run_id}/{step_key}", curve.to_record()),
    }
    connection.execute(insert(CURVES), row | _identity_row(identity))


def keep_usages(connection: Connection, usages: Iterable[Usage]) -> int:
    """Writes attempts whose key is not there yet; returns how many."""
    rows = {(u.run_id, u.step_key, u.attempt): usage_row(u) for u in usages}
    known: set[tuple[str, str, int]] = set()
    key = (USAGES.c.run_id, USAGES.c.step_key, USAGES.c.attempt)
    for run_id in sorted({run for run, _, _ in rows}):
        found = connection.execute(select(*key).where(USAGES.c.run_id == run_id))
        known.update((run, step, attempt) for run, step, attempt in found)
    new = [row for name, row in rows.items() if name not in known]
    if new:
        connection.execute(insert(USAGES), new)
    return len(new)


def curves(
    connection: Connection, identity: StepIdentity, limit: int, ended_well: bool
) -> list[UsageCurve]:
    """Returns the newest curves of a step, newest first: of all, or of good ends alone."""
    newest = (CURVES.c.ended_at.desc(), CURVES.c.run_id.desc(), CURVES.c.step_key.desc())
    query = (
        select(CURVES.c.report)
        .where(_is_identity(CURVES, identity))
        .order_by(*newest, CURVES.c.attempt.desc())
        .limit(max(0, limit))
    )
    if ended_well:
        key = ("run_id", "step_key", "attempt")
        is_its_usage = and_(*(USAGES.c[name] == CURVES.c[name] for name in key))
        query = query.join(USAGES, is_its_usage).where(USAGES.c.ending == Ending.OK.value)
    return [UsageCurve.from_record(json.loads(text)) for text in connection.scalars(query)]


def publish(connection: Connection, publications: Iterable[Publication]) -> None:
    """Writes publications, each over what was published for its step before."""
    for each in publications:
        connection.execute(delete(FORECASTS).where(_is_identity(FORECASTS, each.identity)))
        row = {
            "model": each.model,
            "published_at": to_us(each.published_at),
            "report": report_text(f"forecast of {each.identity}", each.state),
        }
        connection.execute(insert(FORECASTS), row | _identity_row(each.identity))


def published(
    connection: Connection, identities: Iterable[StepIdentity] | None
) -> dict[StepIdentity, Publication]:
    """Returns what is published for these steps, or everything."""
    if identities is None:
        rows = connection.execute(select(FORECASTS)).all()
        return {row.identity: row for row in map(_publication, rows)}
    wanted = sorted(set(identities), key=str)
    found: dict[StepIdentity, Publication] = {}
    for start in range(0, len(wanted), _CHUNK):
        chunk = wanted[start : start + _CHUNK]
        is_wanted = or_(*(_is_identity(FORECASTS, each) for each in chunk))
        for row in connection.execute(select(FORECASTS).where(is_wanted)):
            publication = _publication(row)
            found[publication.identity] = publication
    return found


def withdraw(connection: Connection, identities: Sequence[StepIdentity]) -> int:
    """Deletes what is published for these steps; returns how many rows."""
    return sum(
        connection.execute(delete(FORECASTS).where(_is_identity(FORECASTS, each))).rowcount
        for each in identities
    )


def _identity_row(identity: StepIdentity) -> dict[str, str]:
    return {
        "code_location": identity.code_location,
        "node": identity.node,
        "partition_key": identity.partition,
    }


def _is_identity(table: Any, identity: StepIdentity) -> Any:
    return and_(*(table.c[name] == value for name, value in _identity_row(identity).items()))


def _publication(row: Any) -> Publication:
    return Publication(
        identity=StepIdentity(
            code_location=row.code_location, node=row.node, partition=row.partition_key
        ),
        model=row.model,
        published_at=from_us(row.published_at),
        state=json.loads(row.report),
    )
