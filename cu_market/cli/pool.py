"""`cu-market pool`: who offers what, at what price, and how much of it is free."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cu_market.cli.deployment import Deployment, open_deployment
from cu_market.cli.homes import find_home
from cu_market.cli.options import Home, Json
from cu_market.cli.output import make_console, make_table, write_json
from cu_market.domain.units import MICROUSD, format_bytes, format_usd

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cu_market.domain.profile import ResourcePool
    from cu_market.ral.asking import Answer
    from cu_market.ral.provider import Provider


DEADLINE_SECONDS = 20.0
"""For all providers together. A person may wait for longer than an auction does."""


def pool(home: Home = None, as_json: Json = False) -> None:
    """Show every provider, its state, its CUs: price, room in all, free room, measured speed."""
    with open_deployment(find_home(home)) as deployment:
        document = pool_document(deployment)
    if as_json:
        write_json(document)
    else:
        console = make_console()
        console.print(pool_table(document))
        for line in pool_notices(document):
            console.print(line, markup=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a provider says when it is looked at.

    Attributes:
        pool: its CUs.
        seconds: that it took to say so.
        notice: what it says of itself.
        words: by capacity, what bounds its room, where it tells.
    """

    pool: ResourcePool
    seconds: float = 0.0
    notice: str = ""
    words: Mapping[str, str] = field(default_factory=dict)


def _look(provider: Provider) -> Look:
    began = time.monotonic()
    pool = provider.pool()
    seconds = time.monotonic() - began
    describe = getattr(provider, "describe", None)
    words = {} if describe is None else describe()
    notice = notice_of(provider, datetime.now(UTC))
    return Look(pool=pool, seconds=seconds, notice=notice, words=words)


def state_of(answer: Answer[Look], bid_deadline_seconds: float) -> str:
    """Returns whether a provider takes part in auctions, and why not where it does not."""
    if answer.reply is None:
        return f"not answering: {answer.silence}"
    seconds = answer.reply.seconds
    if seconds > bid_deadline_seconds:
        return (
            f"slow: answered in {seconds:.1f} s, auctions wait {bid_deadline_seconds:g} s "
            "(bid_deadline_seconds)"
        )
    return f"answering, in {seconds:.2f} s"


def pool_document(deployment: Deployment) -> dict[str, Any]:
    """Returns every provider, its state, its CUs, and the room of the capacities they are cut from.

    One that does not answer is listed with what it said instead, and no CUs.
    """
    from cu_market.domain.profile import ResourcePool
    from cu_market.market.scores import measured_scores
    from cu_market.pse.performance import PRIOR_MILLIS
    from cu_market.ral.asking import ask_all

    delivered = deployment.ledger.delivered()
    scores = measured_scores(deployment.ledger)
    providers = []
    asked = deployment.providers()
    answers = ask_all(asked, _look, deadline_seconds=DEADLINE_SECONDS)
    for provider in asked:
        answer = answers[provider.name]
        seen = answer.reply or Look(pool=ResourcePool(profiles=(), capacities={}))
        pool = seen.pool
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
                    "performance_score": scores.get(profile.cu_id, PRIOR_MILLIS) / 1000,
                    "measurements": len(measured),
                }
            )
        providers.append(
            {
                "provider": provider.name,
                "state": state_of(answer, deployment.settings.bid_deadline_seconds),
                "is_answering": answer.reply is not None,
                "room": dict(seen.words),
                "is_elastic": provider.capabilities.elastic,
                "quotes_only": provider.capabilities.quotes_only,
                "notice": seen.notice,
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
    """Returns each provider's state, a line each, and what it says of its room and prices."""
    lines = []
    for provider in document["providers"]:
        name = provider["provider"]
        lines.append(f"{name}: {provider['state']}")
        lines += [f"  {capacity_id}: {words}" for capacity_id, words in provider["room"].items()]
        if provider["notice"]:
            lines.append(f"  {provider['notice']}")
    return lines


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
