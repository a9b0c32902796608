"""Reads a run's outline from its execution plan snapshot: no user code is imported.

Private: ExecutionPlanSnapshot and snapshot_from_execution_plan, which carry tags, asset keys and
dependencies of every step; seen in 1.13.27.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster import DagsterRun
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.snap.execution_plan_snapshot import (
    ExecutionPlanSnapshot,
    ExecutionStepSnap,
    snapshot_from_execution_plan,
)
from dagster._core.storage.tags import PARTITION_NAME_TAG, PRIORITY_TAG

from cu_market.domain.features import NO_FEATURES, StepFeatures, features_of_config
from cu_market.domain.outline import RunOutline, StepOutline
from cu_market.domain.request import StepIdentity

NONE: Mapping[str, str] = {}


def outline_of_plan(
    run: DagsterRun, plan: ExecutionPlan, code_versions: Mapping[str, str] = NONE
) -> RunOutline:
    """Returns the outline of a plan at hand."""
    snapshot = snapshot_from_execution_plan(plan, run.job_snapshot_id or "")
    return outline_of_snapshot(run, snapshot, code_versions)


def outline_of_snapshot(
    run: DagsterRun, snapshot: ExecutionPlanSnapshot, code_versions: Mapping[str, str] = NONE
) -> RunOutline:
    """Returns the outline of a stored plan: the steps that the run executes, dependencies first.

    Args:
        run: whose plan it is.
        snapshot: the plan.
        code_versions: declared versions by asset key; the plan does not carry them.
    """
    wanted = set(snapshot.step_keys_to_execute or [step.key for step in snapshot.steps])
    deps = {key: sorted(up & wanted) for key, up in snapshot.step_deps.items() if key in wanted}
    by_key = {step.key: step for step in snapshot.steps if step.key in wanted}
    location = location_name(run)
    partition = run.tags.get(PARTITION_NAME_TAG, "")
    return RunOutline(
        run_id=run.run_id,
        job_name=run.job_name,
        tags=dict(run.tags),
        steps=tuple(
            _step(
                by_key[key],
                deps[key],
                location,
                partition,
                code_versions,
                _config_features(run.run_config, by_key[key].node_handle_id),
            )
            for key in _topological(deps)
        ),
    )


def location_name(run: DagsterRun) -> str:
    """Returns the run's code location, or empty where none launched it."""
    origin = run.remote_job_origin
    return origin.location_name if origin is not None else ""


def _step(
    snap: ExecutionStepSnap,
    depends_on: list[str],
    location: str,
    partition: str,
    code_versions: Mapping[str, str],
    features: StepFeatures,
) -> StepOutline:
    tags: Mapping[str, str] = snap.tags or {}
    assets = sorted(
        "/".join(output.properties.asset_key.path)
        for output in snap.outputs
        if output.properties is not None and output.properties.asset_key is not None
    )
    return StepOutline(
        step_key=snap.key,
        op_name=snap.node_handle_id.rsplit(".", 1)[-1],
        identity=StepIdentity(
            code_location=location,
            node="+".join(assets) or snap.node_handle_id,
            partition=partition,
        ),
        tags=tags,
        depends_on=tuple(depends_on),
        sources=tuple(
            (handle.step_key, handle.output_name)
            for read in snap.inputs
            for handle in read.upstream_output_handles
            if handle.step_key in depends_on
        ),
        priority=_priority(tags.get(PRIORITY_TAG)),
        code_version="+".join(code_versions[key] for key in assets if key in code_versions),
        features=features,
    )


def _config_features(run_config: Mapping[str, Any], node_handle: str) -> StepFeatures:
    """Returns what the run's config says of a node, under ``ops`` of each graph around it."""
    place: Any = run_config
    for name in node_handle.split("."):
        place = place.get("ops", {}).get(name, {}) if isinstance(place, Mapping) else {}
    config = place.get("config") if isinstance(place, Mapping) else None
    return features_of_config(config) if config else NO_FEATURES


def _priority(value: Any) -> int:
    try:
        return int(value or 0)
    except ValueError:
        return 0  # as Dagster's own executors read it


def _topological(deps: Mapping[str, list[str]]) -> list[str]:
    order: list[str] = []
    placed: set[str] = set()
    waiting = sorted(deps)
    while waiting:
        ready = [key for key in waiting if all(up in placed for up in deps[key])]
        order.extend(ready)
        placed.update(ready)
        waiting = [key for key in waiting if key not in placed]
    return order
