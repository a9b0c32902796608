"""`cu-market pool`: who offers what, at what price, and how much of it is free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cu_market.cli.deployment import Deployment
from cu_market.cli.output import make_table
from cu_market.domain.units import MICROUSD, format_bytes, format_usd
from cu_market.pse.performance import performance_millis
from cu_market.ral.provider import Provider

if TYPE_CHECKING:
    from rich.console import RenderableType


def pool_document(deployment: Deployment) -> dict[str, Any]:
    """Returns every provider, its CUs, and the room of the capacities they are cut from."""
    delivered = deployment.ledger.delivered()
    providers = []
    for provider in deployment.providers():
        pool = provider.pool()
        capacities = {}
        for capacity_id, total in pool.capacities.items():
            free = total.minus(deployment.ledger.held(capacity_id))
            capacities[capacity_id] = {"total": dict(total.items()), "free": dict(free.items())}
        profiles = []
        for profile in pool.profiles:
            measured = delivered.get(profile.cu_id, ())
            profiles.append(
                {
                    **profile.to_record(),
                    "capacity_id": profile.capacity_id,
                    "performance_score": performance_millis(measured) / 1000,
                    "measurements": len(measured),
                }
            )
        providers.append(
            {
                "provider": provider.name,
                "is_elastic": provider.capabilities.elastic,
                "quotes_only": provider.capabilities.quotes_only,
                "notice": notice_of(provider, datetime.now(UTC)),
                "profiles": profiles,
                "capacities": capacities,
            }
        )
    return {"home": str(deployment.home), "providers": providers}


def pool_table(document: Mapping[str, Any]) -> RenderableType:
    """Returns the pool as a table, one row a CU."""
    rows = []
    for provider in document["providers"]:
        for profile in provider["profiles"]:
            room = provider["capacities"][profile["capacity_id"]]
            rows.append(_row(provider, profile, room))
    return make_table(
        "The pool: CUs with their price and who offers them",
        (
            "CU",
            "provider",
            "sold",
            "total room",
            "free now",
            "price/h of all",
            "speed (measured)",
            "where",
        ),
        rows,
        right=("price/h of all",),
    )


def _row(
    provider: Mapping[str, Any], profile: Mapping[str, Any], room: Mapping[str, Any]
) -> Sequence[str]:
    count = profile["measurements"]
    return (
        profile["cu_id"],
        provider["provider"],
        _sold(provider),
        _room(room["total"]),
        _room(room["free"]),
        format_usd(round(profile["cost_per_hour"] * MICROUSD)),
        f"{profile['performance_score']:.2f} ({count} steps)" if count else "1.00 (none yet)",
        profile["location"],
    )


def pool_notices(document: Mapping[str, Any]) -> list[str]:
    """Returns what providers say of themselves, one line each: how old their prices are."""
    return [f"{p['provider']}: {p['notice']}" for p in document["providers"] if p["notice"]]


def notice_of(provider: Provider, now: datetime) -> str:
    """Returns what a provider says of itself now; providers need not have a ``notice``."""
    say = getattr(provider, "notice", None)
    return "" if say is None else str(say(now))


def _sold(provider: Mapping[str, Any]) -> str:
    if provider["quotes_only"]:
        return "quoted only"
    return "by the asked size" if provider["is_elastic"] else "whole"


def _room(size: Mapping[str, int]) -> str:
    gpus = f", {size['gpu_count']} GPU" if size["gpu_count"] else ""
    return f"{size['cpu_millis'] / 1000:g} cores, {format_bytes(size['memory_bytes'])}{gpus}"
