"""SQL of what attempts used: history by identity, rows by run, delivered speed by CU."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Select,
    String,
    and_,
    bindparam,
    column,
    func,
    select,
    values,
)

from cu_market.domain.allocation import Allocation
from cu_market.domain.request import StepIdentity
from cu_market.domain.usage import Usage
from cu_market.ledger.records import allocation_from, usage_from
from cu_market.ledger.schema import ALLOCATIONS, USAGES

_CHUNK = 500
"""Identities a statement: 1,500 bound values, far below the limits of both databases."""

_NEWEST_FIRST = (
    USAGES.c.ended_at.desc(),
    USAGES.c.run_id.desc(),
    USAGES.c.step_key.desc(),
    USAGES.c.attempt.desc(),
)
_KEY = (USAGES.c.run_id, USAGES.c.step_key, USAGES.c.attempt)
_IDENTITY = (USAGES.c.code_location, USAGES.c.node, USAGES.c.partition_key)
_STEP = _IDENTITY[:2]
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

    One statement ranks the attempts of all of them (of each 500), found by the identity's index.
    """
    wanted = sorted({(each.code_location, each.node, each.partition) for each in identities})
    found: dict[StepIdentity, list[Usage]] = defaultdict(list)
    for usage in _newest(connection, _IDENTITY, wanted, limit):
        found[usage.identity].append(usage)
    return dict(found)


def relatives(
    connection: Connection, identities: Iterable[StepIdentity], limit: int
) -> dict[StepIdentity, Sequence[Usage]]:
    """Returns the newest attempts of each step whatever their partition, newest first."""
    wanted = sorted({(each.code_location, each.node) for each in identities})
    found: dict[StepIdentity, list[Usage]] = defaultdict(list)
    for usage in _newest(connection, _STEP, wanted, limit):
        found[replace(usage.identity, partition="")].append(usage)
    return dict(found)


def _newest(
    connection: Connection,
    key: Sequence[Column[str]],
    wanted: Sequence[tuple[str, ...]],
    limit: int,
) -> Iterator[Usage]:
    for start in range(0, len(wanted), _CHUNK):
        query = _ranked(key, wanted[start : start + _CHUNK], limit)
        yield from map(usage_from, connection.execute(query))


def _ranked(
    key: Sequence[Column[str]], wanted: Sequence[tuple[str, ...]], limit: int
) -> Select[Any]:
    # A join, not an IN of tuples: for the latter SQLite reads the whole index.
    names = [column(each.name, String) for each in key]
    asked = values(*names, name="asked").data(wanted).cte("asked")
    is_asked = and_(*(each == asked.c[each.name] for each in key))
    place = func.row_number().over(partition_by=list(key), order_by=_NEWEST_FIRST).label("place")
    ranked = select(*_KEY, place).select_from(asked.join(USAGES, is_asked)).subquery()
    is_ranked = and_(*(each == ranked.c[each.name] for each in _KEY))
    return (
        select(USAGES)
        .select_from(ranked.join(USAGES, is_ranked))
        .where(ranked.c.place <= limit)
        .order_by(ranked.c.place)
    )


def find_usages(
    connection: Connection, run_id: str | None, code_location: str | None, limit: int | None
) -> list[Usage]:
    """Returns usage rows, newest first."""
    query = select(USAGES).order_by(*_NEWEST_FIRST)
    if run_id is not None:
        query = query.where(USAGES.c.run_id == run_id)
    if code_location is not None:
        query = query.where(USAGES.c.code_location == code_location)
    if limit is not None:
        query = query.limit(max(0, limit))
    return [usage_from(row) for row in connection.execute(query)]


def unstarted(connection: Connection, limit: int) -> list[Allocation]:
    """Returns the leases under which nothing was started, the newest first."""
    query = (
        select(ALLOCATIONS)
        .where(ALLOCATIONS.c.unstarted_at.is_not(None))
        .order_by(
            ALLOCATIONS.c.unstarted_at.desc(),
            ALLOCATIONS.c.run_id.desc(),
            ALLOCATIONS.c.step_key.desc(),
            ALLOCATIONS.c.attempt.desc(),
        )
        .limit(max(0, limit))
    )
    return [allocation_from(row) for row in connection.execute(query)]


def delivered(connection: Connection, limit: int) -> dict[str, Sequence[int]]:
    """Returns the newest known delivered_millis per resource_id, newest first.

    One short query per CU, of which there are few, instead of ranking all of the past.
    """
    found: dict[str, Sequence[int]] = {}
    for resource_id in connection.scalars(select(USAGES.c.resource_id).distinct()).all():
        bound = {"b_resource_id": resource_id, "b_limit": max(0, limit)}
        shares = [
            int(value) for value in connection.scalars(_DELIVERED, bound) if value is not None
        ]
        if shares:
            found[resource_id] = shares
    return found
