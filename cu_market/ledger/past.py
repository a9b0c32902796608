"""SQL of what attempts used: history by identity, rows by run, delivered speed by CU."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, Select, bindparam, func, select, tuple_

from cu_market.domain.request import StepIdentity
from cu_market.domain.usage import Usage
from cu_market.ledger.records import usage_from
from cu_market.ledger.schema import USAGES

_CHUNK = 5_000
"""Identities a statement: 15,000 bound values, where SQLite takes 32,766 and PostgreSQL 32,767."""

_NEWEST_FIRST = (
    USAGES.c.ended_at.desc(),
    USAGES.c.run_id.desc(),
    USAGES.c.step_key.desc(),
    USAGES.c.attempt.desc(),
)
_IDENTITY = (USAGES.c.code_location, USAGES.c.node, USAGES.c.partition_key)
_DELIVERED = (
    select(USAGES.c.delivered_millis)
    .where(
        USAGES.c.resource_id == bindparam("b_resource_id"), USAGES.c.delivered_millis.is_not(None)
    )
    .order_by(*_NEWEST_FIRST)
    .limit(bindparam("b_limit"))
)


def history(
    connection: Connection, identities: Iterable[StepIdentity], limit: int
) -> dict[StepIdentity, Sequence[Usage]]:
    """Returns the newest attempts of each identity, newest first.

    One statement ranks the attempts of all of them (of each 5,000), over the identity's index.
    """
    wanted = sorted({(each.code_location, each.node, each.partition) for each in identities})
    found: dict[StepIdentity, list[Usage]] = defaultdict(list)
    for start in range(0, len(wanted), _CHUNK):
        query = _ranked(wanted[start : start + _CHUNK], limit)
        for row in connection.execute(query):
            usage = usage_from(row)
            found[usage.identity].append(usage)
    return dict(found)


def _ranked(wanted: Sequence[tuple[str, str, str]], limit: int) -> Select[tuple[object, ...]]:
    rank = func.row_number().over(partition_by=_IDENTITY, order_by=_NEWEST_FIRST).label("place")
    ranked = select(USAGES, rank).where(tuple_(*_IDENTITY).in_(wanted)).subquery()
    return select(ranked).where(ranked.c.place <= limit).order_by(ranked.c.place)


def find_usages(connection: Connection, run_id: str | None, limit: int | None) -> list[Usage]:
    """Returns usage rows, newest first."""
    query = select(USAGES).order_by(*_NEWEST_FIRST)
    if run_id is not None:
        query = query.where(USAGES.c.run_id == run_id)
    if limit is not None:
        query = query.limit(max(0, limit))
    return [usage_from(row) for row in connection.execute(query)]


def delivered(connection: Connection, limit: int) -> dict[str, Sequence[int]]:
    """Returns the newest known delivered_millis per resource_id, newest first.

    One short query per CU, of which there are few, instead of ranking all of the past.
    """
    found: dict[str, Sequence[int]] = {}
    for resource_id in connection.scalars(select(USAGES.c.resource_id).distinct()).all():
        values = {"b_resource_id": resource_id, "b_limit": max(0, limit)}
        shares = [
            int(value) for value in connection.scalars(_DELIVERED, values) if value is not None
        ]
        if shares:
            found[resource_id] = shares
    return found
