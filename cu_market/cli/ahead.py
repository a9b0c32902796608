"""`cu-market ahead`: what was bought ahead of need, why, and whether it was used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cu_market.cli.deployment import Deployment, open_deployment
from cu_market.cli.exits import NothingFoundError
from cu_market.cli.homes import find_home
from cu_market.cli.options import Home, Json
from cu_market.cli.output import make_console, make_table, write_json
from cu_market.domain.units import MICROUSD, format_usd

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cu_market.domain.purchase import Purchase

KEPT = 100_000


def ahead(
    job: Annotated[str | None, typer.Option("--job", help="Only for this job.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 50,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """List CUs that were started ahead of need: for which launch, why, and whether it used them."""
    with open_deployment(find_home(home)) as deployment:
        document = ahead_document(deployment, job=job, limit=limit)
    if not document["purchases"]:
        remedy = "it buys once a job has been launched by its schedule and measured"
        if not document["enabled"]:
            remedy = "set ahead: {enabled: true} among the market's settings in dagster.yaml"
        raise NothingFoundError(f"nothing was bought ahead: {remedy}")
    if as_json:
        write_json(document)
        return
    console = make_console()
    for shown in ahead_tables(document):
        console.print(shown, markup=False)


def ahead_document(deployment: Deployment, *, job: str | None, limit: int) -> dict[str, Any]:
    """Returns the newest purchases, and sums over all of them by account.

    Args:
        deployment: whose.
        job: of this job alone, or None.
        limit: most purchases that are listed.
    """
    found = [
        each for each in deployment.ledger.purchases(limit=KEPT) if job is None or each.job == job
    ]
    return {
        "enabled": deployment.settings.ahead.enabled,
        "purchases": [each.to_record() for each in found[:limit]],
        "accounts": _sums(found),
    }


def ahead_tables(document: Mapping[str, Any]) -> list[RenderableType | str]:
    """Returns the purchases, why the newest were made, and the sums."""
    rows = [_row(each) for each in document["purchases"]]
    columns = (
        "started (UTC)",
        "for",
        "by",
        "launch",
        "CU",
        "state",
        "ready s",
        "saves",
        "cost",
        "what became of it",
    )
    sums = [
        (
            each["account"],
            str(each["bought"]),
            str(each["used"]),
            format_usd(round(each["cost_usd"] * MICROUSD)),
            format_usd(round(each["unused_cost_usd"] * MICROUSD)),
        )
        for each in document["accounts"]
    ]
    names = ("account", "bought", "used", "cost", "of it unused")
    newest = document["purchases"][0]
    return [
        make_table("Bought ahead, newest first", columns, rows, right=columns[6:9]),
        f"The newest, for {newest['job']}: {newest['reason']}",
        make_table("By account", names, sums, right=names[1:]),
    ]


def _sums(found: Sequence[Purchase]) -> list[dict[str, Any]]:
    by_account: dict[str, list[Purchase]] = defaultdict(list)
    for each in found:
        by_account[each.account].append(each)
    return [
        {
            "account": account,
            "bought": len(own),
            "used": sum(each.is_used is True for each in own),
            "cost_usd": sum(each.cost_microusd or 0 for each in own) / MICROUSD,
            "unused_cost_usd": sum(each.cost_microusd or 0 for each in own if not each.is_used)
            / MICROUSD,
        }
        for account, own in sorted(by_account.items())
    ]


def _row(each: Mapping[str, Any]) -> Sequence[str]:
    outcome = f"used by run {each['run_id'][:8]}" if each["used"] else each["outcome"]
    cost = each["cost_usd"]
    return (
        each["started_at"][:19].replace("T", " "),
        f"{each['job']}: {each['step']}",
        each["source"],
        each["expected_at"][11:19],
        each["resource_id"],
        each["state"],
        _ready_seconds(each),
        format_usd(round(each["waiting_saved_usd"] * MICROUSD)),
        "" if cost is None else format_usd(round(cost * MICROUSD)),
        outcome or "stands by",
    )


def _ready_seconds(each: Mapping[str, Any]) -> str:
    from datetime import datetime

    if each["ready_at"] is None:
        return ""
    began, ready = (datetime.fromisoformat(each[name]) for name in ("started_at", "ready_at"))
    return f"{(ready - began).total_seconds():.1f}"
