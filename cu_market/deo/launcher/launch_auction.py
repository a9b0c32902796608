"""The auction that a launch holds: for a run's steps, or for the run as one unit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dagster import DagsterInstance

from cu_market.dagster_compat.code_versions import code_versions_of_workspace
from cu_market.dagster_compat.events import EngineEventData
from cu_market.dagster_compat.executor_config import executor_of
from cu_market.dagster_compat.launcher import LaunchRunContext
from cu_market.dagster_compat.outline import outline_of_snapshot
from cu_market.deo.announcements import auction_event
from cu_market.deo.launcher.queued import queued_outlines
from cu_market.deo.recommendation import (
    is_recommending,
    recommendation_event,
    would_be_refused,
)
from cu_market.deo.settings import MARKET
from cu_market.domain.outline import RunOutline, StepOutline
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.request import StepIdentity
from cu_market.domain.units import MICROUSD, format_usd
from cu_market.market.auction import Market

Announcement = tuple[str, EngineEventData | None, dict[str, str]]
"""The sentence, the tables and the run's tags."""


def auction_for_launch(
    market: Market,
    instance: DagsterInstance,
    context: LaunchRunContext,
    is_wanted: Callable[[], bool],
) -> Announcement:
    """Holds the auction of a run; returns what the run page and the run's tags are told."""
    run = context.dagster_run
    if run.execution_plan_snapshot_id is None:
        return "The run has no execution plan: its steps were not routed.", None, {}
    snapshot = instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
    versions = code_versions_of_workspace(context.workspace, run)
    outline = outline_of_snapshot(run, snapshot, versions)
    if is_recommending(market.settings.mode, outline.tags):
        return _recommend(market, outline, is_wanted)
    executor, branch = executor_of(run, snapshot)
    if executor == MARKET and branch in (None, MARKET):
        cleared = market.clear(
            outline,
            place="launcher",
            is_wanted=is_wanted,
            queued=queued_outlines(instance, run.run_id),
        )
        sentence, data = auction_event(cleared.auction)
        tags = {
            "cu/auction_id": cleared.auction.auction_id,
            "cu/auction_total_usd": f"{cleared.plan.money_microusd / MICROUSD:.6f}",
        }
        return sentence, data, tags
    return _price_as_unit(market, outline, branch or executor, is_wanted)


def _recommend(market: Market, outline: RunOutline, is_wanted: Callable[[], bool]) -> Announcement:
    """Auctions the steps of a run whatever its executor, and leaves the run as it is."""
    try:
        cleared = market.clear(outline, place="launcher", is_wanted=is_wanted)
    except InvalidInputError as error:
        return would_be_refused(error), None, {}
    sentence, data = recommendation_event(cleared.auction)
    return sentence, data, {}


def _price_as_unit(
    market: Market, outline: RunOutline, executor: str, is_wanted: Callable[[], bool]
) -> Announcement:
    unit = StepOutline(
        step_key="run",
        op_name="run",
        identity=StepIdentity(
            code_location=outline.steps[0].identity.code_location if outline.steps else "",
            node=f"job:{outline.job_name}",
        ),
    )
    tags = {k: v for k, v in outline.tags.items() if not k.startswith("cu/for.")}
    quote = market.quote(replace(outline, steps=(unit,), tags=tags), is_wanted=is_wanted)
    award = quote.plan.awards[0]
    return (
        f"This run's steps were not routed: its executor is {executor!r}. As one unit it would "
        f"cost {format_usd(award.price_microusd_per_hour)} an hour on {award.resource_id}.",
        None,
        {},
    )
