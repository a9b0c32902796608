"""Declared code versions of a run's assets: from its code at hand, or from its code server.

Private: the remote asset graph, which a launcher has without importing user code, and the asset
layer of a job; seen in 1.13.27.
"""

from __future__ import annotations

from collections.abc import Mapping

from dagster import DagsterRun, JobDefinition
from dagster._core.errors import DagsterCodeLocationNotFoundError
from dagster._core.workspace.context import BaseWorkspaceRequestContext


def code_versions_of_job(job: JobDefinition) -> Mapping[str, str]:
    """Returns the declared version by asset key, its parts joined by a slash."""
    nodes = job.asset_layer.asset_graph.asset_nodes
    return {"/".join(node.key.path): node.code_version for node in nodes if node.code_version}


def code_versions_of_workspace(
    workspace: BaseWorkspaceRequestContext | None, run: DagsterRun
) -> Mapping[str, str]:
    """Returns the same from the run's code location; nothing where that is not loaded."""
    origin = run.remote_job_origin
    if workspace is None or origin is None:
        return {}
    try:
        location = workspace.get_code_location(origin.location_name)
    except DagsterCodeLocationNotFoundError:
        return {}
    name = origin.repository_origin.repository_name
    if not location.has_repository(name):
        return {}
    nodes = location.get_repository(name).asset_graph.asset_nodes
    return {"/".join(node.key.path): node.code_version for node in nodes if node.code_version}
