"""What starts a retraining: the clock, and drift; what changes champions between two."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

import dagster as dg
from dagster import DagsterRunStatus, RunsFilter

from cu_market.definitions.home import OWN_LOCATION, home_of, opened_ledger, registry_of
from cu_market.definitions.models import LEAST_ATTEMPTS
from cu_market.domain.usage import Ending, Usage
from cu_market.ledger.interface import Ledger
from cu_market.pse.champion.drift import find_drift
from cu_market.pse.champion.evaluation import by_location, score_all
from cu_market.tracking.mirror import tell
from cu_market.tracking.promotion import (
    is_worse,
    live_comparison,
    promote,
    rollback,
    shadow_comparison,
)
from cu_market.tracking.registry import CHALLENGER, CHAMPION, ModelVersion, Registry

LOOKED_AT = 2_000
"""Newest attempts that the sensor reads."""

NEVER = datetime.min.replace(tzinfo=UTC)

UNFINISHED = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]

NEW_ATTEMPTS, NEW_RATIO = 3, 0.1
"""A location is not trained anew before so many good ends, and so large a part of those it had,
have come since the last time: a drift that no challenger could answer yet is tried again as more of
it is seen, ever more rarely."""

retraining = dg.define_asset_job(
    "retraining",
    selection=dg.AssetSelection.groups("predictive_scaling"),
    description="Trains, evaluates, and promotes what is better; forecasts steps and demand.",
)

every_night = dg.ScheduleDefinition(
    name="retrain_every_night", job=retraining, cron_schedule="0 3 * * *"
)


@dg.sensor(job=retraining, minimum_interval_seconds=30)
def drift(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
    """Retrains where error, coverage or code has left its band; sends worse champions back, and has
    challengers take over that would have sized better what ran since they were trained.

    The cursor holds each location's newest good end when it was last trained for.
    """
    waiting = RunsFilter(job_name=retraining.name, statuses=UNFINISHED)
    if context.instance.get_runs(waiting, limit=1):
        return dg.SkipReason("a retraining is on its way")
    answered = _read_cursor(context.cursor)
    reasons: list[str] = []
    notes: list[str] = []
    with opened_ledger(context.instance) as ledger:
        for location, usages in by_location(ledger.usages(limit=LOOKED_AT)).items():
            good = [u.ended_at for u in usages if u.ending is Ending.OK and not u.external]
            sent_back = _send_back(context.instance, ledger, location, usages)
            changed = sent_back or _take_over(context.instance, ledger, location, usages)
            if changed:
                notes.append(changed)
                answered[location] = max(good, default=NEVER)  # no new data: nothing to learn from
                continue
            if location == OWN_LOCATION:
                continue  # retraining makes attempts of its own: it would call for itself for ever
            if len(good) < LEAST_ATTEMPTS or _is_too_soon(good, answered.get(location, NEVER)):
                continue
            found = _reasons(context.instance, location, usages)
            if found:
                answered[location] = max(good)
                reasons += [f"{location or 'default'}: {reason}" for reason in found]
    cursor = ";".join(f"{name}={end.isoformat()}" for name, end in sorted(answered.items()))
    if not reasons:
        context.update_cursor(cursor)
        return dg.SkipReason("; ".join(notes) or "every champion is within its band")
    request = dg.RunRequest(
        run_key=f"drift-{cursor}", tags={"cu_market/retrain_reason": "; ".join(reasons)[:190]}
    )
    return dg.SensorResult(run_requests=[request], cursor=cursor)


def _reasons(instance: dg.DagsterInstance, location: str, usages: Sequence[Usage]) -> list[str]:
    registry = registry_of(instance, location)
    champion = registry.alias(CHAMPION)
    if champion is None:
        return ["no model yet"]
    found = find_drift(
        score_all(champion.state.forecaster(), usages),
        trained_on=champion.state.trained_on,
        code_versions=champion.details.get("code_versions", ()),
        trained_at=_answered_at(registry, champion),
    )
    return [f"{each.step} {each.reason}".strip() for each in found]


def _is_too_soon(good: Sequence[datetime], answered: datetime) -> bool:
    """Of the newest attempts only: so what is new is told by when it ended, not by a count."""
    new = sum(end > answered for end in good)
    return new < max(NEW_ATTEMPTS, round(NEW_RATIO * (len(good) - new)))


def _answered_at(registry: Registry, champion: ModelVersion) -> datetime:
    """Returns when the champion was trained, or last found again as the best there is."""
    same = (
        version.created_at
        for version in registry.versions()
        if version.state.family == champion.state.family
        and version.state.parameters == champion.state.parameters
    )
    return max(same)


def _send_back(
    instance: dg.DagsterInstance, ledger: Ledger, location: str, usages: Sequence[Usage]
) -> str:
    """Rolls a champion back whose live error is worse than its predecessor's; says so."""
    registry = registry_of(instance, location)
    found = live_comparison(registry, ledger, usages)
    if found is None or not is_worse(found):
        return ""
    sent_back = registry.alias(CHAMPION)
    chosen = rollback(registry, ledger, now=datetime.now(UTC))
    tell(home_of(instance), registry)
    return (
        f"{sent_back.name if sent_back else location} was sent back for {chosen.name}: it wastes "
        f"{found.difference:+.3f} of the need more on {found.attempts} live attempts"
    )


def _take_over(
    instance: dg.DagsterInstance, ledger: Ledger, location: str, usages: Sequence[Usage]
) -> str:
    """Promotes a challenger that would have sized what ran since better; says so."""
    registry = registry_of(instance, location)
    found = shadow_comparison(registry, usages)
    challenger = registry.alias(CHALLENGER)
    if found is None or not found.is_better or challenger is None:
        return ""
    promote(registry, ledger, challenger.version, now=datetime.now(UTC))
    tell(home_of(instance), registry)
    return (
        f"{challenger.name} took over: it would have wasted {-found.difference:.3f} of the need "
        f"less on {found.attempts} live attempts that it did not size"
    )


def _read_cursor(cursor: str | None) -> dict[str, datetime]:
    """Returns the ends; what cannot be read counts for nothing: it is trained for once more."""
    found = {}
    for part in (cursor or "").split(";"):
        location, _, written = part.rpartition("=")
        with suppress(ValueError):
            end = datetime.fromisoformat(written)
            found[location] = end if end.tzinfo is not None else NEVER
    return found
