"""The integer program's data: whole numbers only, ready to cross to another process as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One limit at one moment: sum of amounts[k] * x[columns[k]] <= limit.

    Attributes:
        name: room and moment, for people.
        limit: right-hand side, in the room's unit divided by what all amounts share.
        columns: pairs that would hold room then.
        amounts: what each would hold, above 0.
    """

    name: str
    limit: int
    columns: tuple[int, ...]
    amounts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramData:
    """A selection with the starts given.

    Attributes:
        penalties_microusd: one per request.
        column_requests: request index of each column (pair); ascending.
        column_bids: bid index of each column; ascending within a request.
        column_costs_microusd: money and delay of each column.
        rows: limits.
        incumbent: columns of a known plan.
    """

    penalties_microusd: tuple[int, ...]
    column_requests: tuple[int, ...]
    column_bids: tuple[int, ...]
    column_costs_microusd: tuple[int, ...]
    rows: tuple[Row, ...]
    incumbent: tuple[int, ...] = ()


def to_json(data: ProgramData) -> dict[str, Any]:
    """Returns the data as JSON-ready lists and whole numbers."""
    return asdict(data)


def from_json(value: Mapping[str, Any]) -> ProgramData:
    """Returns the data read back.

    Raises:
        ValueError: something is missing, or not a whole number where one must be.
    """
    try:
        numbers = {
            field.name: tuple(_whole(item) for item in value[field.name])
            for field in fields(ProgramData)
            if field.name != "rows"
        }
        rows = tuple(
            Row(
                name=str(row["name"]),
                limit=_whole(row["limit"]),
                columns=tuple(_whole(item) for item in row["columns"]),
                amounts=tuple(_whole(item) for item in row["amounts"]),
            )
            for row in value["rows"]
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a program's data: {error!r}") from error
    return ProgramData(rows=rows, **numbers)


def dumps(data: ProgramData) -> str:
    """Returns the data as one line of JSON; equal data gives equal text."""
    return json.dumps(to_json(data), separators=(",", ":"), sort_keys=True)


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"not a program's data: {value!r} is not a whole number")
    return value
