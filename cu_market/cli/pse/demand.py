"""`cu-market pse demand`: what will be asked of the market in the next hours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cu_market.cli.deployment import Deployment
from cu_market.cli.exits import NothingFoundError
from cu_market.cli.output import make_table
from cu_market.cli.pse.show import bars
from cu_market.market.ahead.future import future_demand
from cu_market.pse.demand.expected import demand_by_hour

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN = 40


def demand_document(deployment: Deployment, hours: int) -> dict[str, Any]:
    """Returns requests and their sum by the hour.

    Raises:
        NothingFoundError: nothing is expected.
    """
    from dagster import DagsterInstance

    with DagsterInstance.from_config(str(deployment.home)) as instance:
        requests = future_demand(instance, deployment.ledger, deployment.settings, hours=hours)
    if not requests:
        raise NothingFoundError(
            f"nothing is expected in the next {hours} h: no schedule that has launched before is "
            "on, nothing waits, and nobody has launched anything an hour ago or earlier"
        )
    by_hour = [
        {
            "hour": row.hour.isoformat(),
            "cu_type": row.cu_type,
            "quantity": row.quantity,
            "core_hours": row.core_hours,
            "core_hours_p10": row.core_hours_p10,
            "core_hours_p90": row.core_hours_p90,
            "gb_hours": row.gb_hours,
        }
        for row in demand_by_hour(requests)
    ]
    return {
        "hours": hours,
        "requests": [each.to_record() for each in requests],
        "by_hour": by_hour,
    }


def demand_tables(document: Mapping[str, Any]) -> list[RenderableType | str]:
    """Returns the hours, and the first requests."""
    hours = document["by_hour"]
    rows = [
        (
            row["hour"][:16],
            row["cu_type"],
            f"{row['quantity']:.1f}",
            f"{row['core_hours']:.3f}",
            f"{row['core_hours_p10']:.3f} to {row['core_hours_p90']:.3f}",
            f"{row['gb_hours']:.3f}",
        )
        for row in hours[:SHOWN]
    ]
    columns = ("hour", "CU type", "CUs", "core-hours", "10-90 %", "GB-hours")
    requests = [
        (
            str(each["timestamp"])[:16],
            f"{each['job']}: {each['step']}",
            each["cu_type"],
            f"{each['quantity_p10']} to {each['quantity_p90']}",
            f"{each['duration_seconds']:.1f}",
            f"{each['cpu_cores']:g} cores, {each['memory_gb']:.2f} GB",
            each["source"],
        )
        for each in document["requests"][:SHOWN]
    ]
    names = ("timestamp", "step", "CU type", "quantity", "seconds", "size", "by")
    return [
        f"core-hours: {bars([row['core_hours'] for row in hours])}",
        make_table(f"Demand of the next {document['hours']} h", columns, rows, right=columns[2:]),
        make_table(
            f"Requests: the first {len(requests)} of {len(document['requests'])}", names, requests
        ),
    ]
