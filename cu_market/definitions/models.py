"""From usage to a champion: trained on the past, judged on what was held back, published."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pandas as pd
from pydantic import Field

from cu_market import compute
from cu_market.definitions.frames import frame_of, usages_of
from cu_market.definitions.home import home_of, opened_ledger, registry_of
from cu_market.definitions.pictures import (
    before_and_after,
    markdown,
    predicted_against_actual,
    wastage_over_time,
)
from cu_market.domain.usage import Ending, Usage
from cu_market.pse.champion.evaluation import by_location, compare, figures, score_all
from cu_market.pse.champion.training import DEFAULT_STATE, GRID, Training, train
from cu_market.tracking.mirror import Story, data_digest, tell
from cu_market.tracking.promotion import promote
from cu_market.tracking.registry import CHALLENGER, CHAMPION, ModelVersion, Registry

LEAST_ATTEMPTS = 5
"""Good ends of a code location before a model of it is trained."""

NEWEST = 20_000
GROUP = "predictive_scaling"
SIZE = compute(cpu=1, memory="512MiB")


class TrainingConfig(dg.Config):
    """How models are trained.

    Attributes:
        headroom_base_ratios: what is tried; left out: the usual ones.
        windows: the same for the window.
    """

    headroom_base_ratios: list[float] = Field(default_factory=list)
    windows: list[float] = Field(default_factory=list)

    def grid(self) -> Mapping[str, tuple[float, ...]] | None:
        """Returns the values to try by parameter, or None for all families' usual ones."""
        chosen = {"headroom_base_ratio": self.headroom_base_ratios, "window": self.windows}
        said = {name: tuple(values) for name, values in chosen.items() if values}
        return {**GRID, **said} if said else None


@dg.asset(group_name=GROUP, op_tags=SIZE)
def usage_history(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
    """What the newest attempts of all steps used: one row an attempt."""
    with opened_ledger(context.instance) as ledger:
        frame = frame_of(ledger.usages(limit=NEWEST))
    newest = frame["ended_at"].max() if len(frame) else None
    return dg.MaterializeResult(
        value=frame,
        metadata={
            "dagster/row_count": len(frame),
            "steps": int(frame.groupby(["code_location", "node"]).ngroups) if len(frame) else 0,
            "newest": str(newest),
        },
    )


@dg.asset(group_name=GROUP, op_tags=SIZE)
def training_frame(usage_history: pd.DataFrame) -> dg.MaterializeResult[Any]:
    """The attempts that teach something: external, lost and interrupted ones are left out."""
    teaching = (str(Ending.OK), str(Ending.ERROR), str(Ending.OUT_OF_MEMORY))
    is_kept = ~usage_history["external"].astype(bool) & usage_history["ending"].isin(teaching)
    kept = usage_history[is_kept].reset_index(drop=True)
    return dg.MaterializeResult(
        value=kept,
        metadata={"dagster/row_count": len(kept), "left_out": len(usage_history) - len(kept)},
    )


@dg.asset(group_name=GROUP, op_tags=SIZE)
def step_models(
    context: dg.AssetExecutionContext, config: TrainingConfig, training_frame: pd.DataFrame
) -> dg.MaterializeResult[Any]:
    """A challenger of each code location's champion: its version's number by location."""
    versions: dict[str, int] = {}
    for location, usages in by_location(usages_of(training_frame)).items():
        if sum(u.ending is Ending.OK for u in usages) < LEAST_ATTEMPTS:
            continue
        champion = _incumbent(context.instance, location, usages)
        training = train(usages, grid=config.grid())
        version = _challenge(context.instance, location, usages, training, champion)
        versions[location] = version.version
    names = [f"{location or 'default'}@{number}" for location, number in versions.items()]
    return dg.MaterializeResult(value=versions, metadata={"challengers": names})


def _incumbent(
    instance: dg.DagsterInstance, location: str, usages: Sequence[Usage]
) -> ModelVersion:
    """Returns the champion; where there is none yet, the default is kept and published as such.

    It is what sizes the steps already: so there is always somebody to be better than, to watch for
    drift, and to go back to.
    """
    registry = registry_of(instance, location)
    champion = registry.alias(CHAMPION)
    if champion is not None:
        return champion
    state = replace(DEFAULT_STATE, trained_on=len(usages))
    version = _keep(instance, registry, usages, Training(state=state, tried=()), None)
    with opened_ledger(instance) as ledger:
        return promote(registry, ledger, version.version, now=datetime.now(UTC))


def _challenge(
    instance: dg.DagsterInstance,
    location: str,
    usages: Sequence[Usage],
    training: Training,
    champion: ModelVersion,
) -> ModelVersion:
    """Keeps a challenger beside its champion."""
    registry = registry_of(instance, location)
    version = _keep(instance, registry, usages, training, champion)
    registry.set_aliases({**registry.aliases(), CHALLENGER: version.version})
    return version


def _keep(
    instance: dg.DagsterInstance,
    registry: Registry,
    usages: Sequence[Usage],
    training: Training,
    champion: ModelVersion | None,
) -> ModelVersion:
    """Keeps a version with its figures on what was held back, and tells MLflow."""
    held = score_all(training.state.forecaster(), usages, held_back=True)
    models = {"challenger": score_all(training.state.forecaster(), usages)}
    details: dict[str, Any] = {
        "data_digest": data_digest(usages),
        "code_versions": sorted({u.code_version for u in usages if u.code_version}),
    }
    if champion is not None:
        theirs = score_all(champion.state.forecaster(), usages, held_back=True)
        details["comparison"] = compare(theirs, held).to_record()
        models = {"champion": score_all(champion.state.forecaster(), usages), **models}
    version = registry.add(
        training.state,
        created_at=datetime.now(UTC),
        figures={f"held_back_{k}": v for k, v in figures(held).items()},
        details=details,
    )
    story = Story(
        frame=frame_of(usages).astype({"started_at": "str", "ended_at": "str"}),
        tried=training.tried,
        pictures={
            "before_and_after.png": before_and_after(models),
            "predicted_against_actual.png": predicted_against_actual(models["challenger"]),
            "wastage.png": wastage_over_time(models["challenger"]),
        },
    )
    tell(home_of(instance), registry, story)
    return version


@dg.asset(group_name=GROUP, op_tags=SIZE)
def evaluation(
    context: dg.AssetExecutionContext, step_models: dict[str, int], training_frame: pd.DataFrame
) -> dg.MaterializeResult[Any]:
    """Each challenger against its champion on held-back attempts: whether it is better, by what."""
    verdicts: dict[str, dict[str, Any]] = {}
    pictures: dict[str, Any] = {}
    usages = by_location(usages_of(training_frame))
    for location, number in step_models.items():
        registry = registry_of(context.instance, location)
        challenger, champion = registry.version(number), registry.alias(CHAMPION)
        assert champion is not None, "step_models keeps one before it challenges it"
        new = score_all(challenger.state.forecaster(), usages[location], held_back=True)
        old = score_all(champion.state.forecaster(), usages[location], held_back=True)
        found = compare(old, new)
        verdict: dict[str, Any] = {"version": number, "champion": champion.version, **figures(new)}
        verdict |= found.to_record()
        verdict["is_promoted"] = found.is_better
        verdict["reason"] = (
            f"{found.difference:+.3f} of the need ({found.low:+.3f} to {found.high:+.3f}) "
            f"on {found.attempts} held-back attempts"
        )
        models = {
            "before": score_all(champion.state.forecaster(), usages[location]),
            "after": score_all(challenger.state.forecaster(), usages[location]),
        }
        verdicts[location] = verdict
        name = location or "default"
        pictures[f"{name}: before and after"] = markdown(name, before_and_after(models))
        pictures[f"{name}: calibration"] = markdown(name, predicted_against_actual(models["after"]))
        pictures[f"{name}: wastage"] = markdown(name, wastage_over_time(models["after"]))
    return dg.MaterializeResult(
        value=verdicts, metadata={"verdicts": dg.MetadataValue.json(verdicts), **pictures}
    )


@dg.asset(group_name=GROUP, op_tags=SIZE)
def champion(
    context: dg.AssetExecutionContext, evaluation: dict[str, dict[str, Any]]
) -> dg.MaterializeResult[Any]:
    """Which version sizes each code location's steps from now on; better challengers take over."""
    now, champions = datetime.now(UTC), {}
    with opened_ledger(context.instance) as ledger:
        for location, verdict in evaluation.items():
            registry = registry_of(context.instance, location)
            if verdict["is_promoted"]:
                promote(registry, ledger, verdict["version"], now=now)
            current = registry.alias(CHAMPION)
            champions[location] = current.version if current else None
            context.log.info(
                f"{location or 'default'}: version {verdict['version']} is "
                f"{'promoted' if verdict['is_promoted'] else 'not promoted'}: {verdict['reason']}"
            )
            tell(home_of(context.instance), registry)
    return dg.MaterializeResult(
        value=champions,
        metadata={
            "champions": dg.MetadataValue.json(champions),
            "promoted": [name for name, v in evaluation.items() if v["is_promoted"]],
        },
    )
