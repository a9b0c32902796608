"""`cu-market ledger`: allocations as the ledger has them, newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cu_market.cli.deployment import find_run, open_deployment
from cu_market.cli.exits import NothingFoundError
from cu_market.cli.homes import find_home
from cu_market.cli.options import Home, Json
from cu_market.cli.output import make_console, make_table, write_json
from cu_market.domain.allocation import AllocationState
from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.domain.units import MICROUSD, format_bytes, format_usd

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cu_market.ledger.interface import Ledger


def ledger(
    run: Annotated[
        str | None, typer.Option("--run", help="Only this run: id, its beginning, or 'last'.")
    ] = None,
    state: Annotated[
        list[str] | None, typer.Option("--state", help="Only rows in this state; repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many rows.")] = 50,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List the ledger's allocations: who holds or held what, its state, its cost."""
    parse_states(state or ())
    with open_deployment(find_home(home)) as deployment:
        run_id = find_run(deployment.ledger, run) if run else None
        document = ledger_document(
            deployment.ledger, run_id=run_id, states=state or (), limit=limit
        )
    if not document["allocations"]:
        remedy = "leave out --state" if state else "run something: cu-market demo, or a job"
        raise NothingFoundError(f"the ledger has no such rows: {remedy}")
    if as_json:
        write_json(document)
    else:
        make_console().print(ledger_table(document))


def parse_states(said: Sequence[str]) -> list[AllocationState] | None:
    """Returns the states that were named, in any case; None for all.

    Raises:
        InvalidInputError: every unknown name.
    """
    known = {state.value for state in AllocationState}
    wrong = [name for name in said if name.upper() not in known]
    if wrong:
        remedy = f"one of {', '.join(sorted(known))}"
        raise InvalidInputError(
            [Problem(where="--state", value=n, what="no such state", remedy=remedy) for n in wrong]
        )
    return [AllocationState(name.upper()) for name in said] or None


def ledger_document(
    ledger: Ledger, *, run_id: str | None, states: Sequence[str], limit: int
) -> dict[str, Any]:
    """Returns the rows, newest award first.

    Raises:
        InvalidInputError: an unknown state.
    """
    rows = ledger.allocations(run_id=run_id, states=parse_states(states), limit=limit)
    return {
        "allocations": [
            {
                **row.to_record(),
                "auction_id": row.auction_id,
                "awarded_at": row.awarded_at.isoformat(),
                "leased_at": row.leased_at and row.leased_at.isoformat(),
                "ended_at": row.ended_at and row.ended_at.isoformat(),
            }
            for row in rows
        ]
    }


def ledger_table(document: Mapping[str, Any]) -> RenderableType:
    """Returns the rows as a table."""
    rows = [_row(row) for row in document["allocations"]]
    columns = (
        "run",
        "step",
        "att.",
        "state",
        "CU",
        "cores",
        "memory",
        "price/h",
        "held s",
        "cost",
        "awarded at (UTC)",
    )
    return make_table("Allocations, newest first", columns, rows, right=columns[5:10])


def _row(row: Mapping[str, Any]) -> Sequence[str]:
    cost, seconds = row["cost_usd"], row["duration"]
    return (
        row["run_id"][:8],
        row["step"],
        str(row["attempt"]),
        row["state"],
        row["resource_id"],
        f"{row['cpu_cores']:g}",
        format_bytes(round(row["memory_gb"] * 10**9)),
        format_usd(round(row["price_per_hour"] * MICROUSD)),
        "" if seconds is None else f"{seconds:.2f}",
        "" if cost is None else format_usd(round(cost * MICROUSD)),
        row["awarded_at"][:19].replace("T", " "),
    )
