"""Declared code versions of a run's assets: from its code at hand, or from its code server. And the
version of all that a worker of a run has loaded.

Private: the remote asset graph, which a launcher has without importing user code, the asset layer
of a job, and a ReconstructableJob's code pointer; seen in 1.13.27.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dagster import DagsterRun, JobDefinition
from dagster._core.definitions.reconstruct import ReconstructableJob
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


def loaded_version(job: ReconstructableJob, declared: Mapping[str, str]) -> str:
    """Returns a digest of what a worker of this run loads: the job and its image as the run names
    them, the file that defines it, declared versions, and this package's version.

    Two run workers of one run, of which it differs, run different code.
    """
    said = [_canonical(job.to_dict()), sorted(declared.items()), version("cu-market")]
    digest = hashlib.sha256(json.dumps(said, default=str).encode())
    digest.update(_source(job.repository.pointer))
    return digest.hexdigest()[:32]


def _source(pointer: Any) -> bytes:
    """Returns the text of the file that a code pointer leads to, which this process has loaded."""
    module = sys.modules.get(getattr(pointer, "module", ""))
    path = getattr(pointer, "python_file", None) or getattr(module, "__file__", None)
    try:
        return Path(path).read_bytes() if path else b""
    except OSError:
        return b""


def _canonical(value: Any) -> Any:
    """Returns packed records with a set's members, whose order is chance, in order."""
    if isinstance(value, Mapping):
        return sorted(
            (key, sorted(part, key=str) if key.endswith("set__") else _canonical(part))
            for key, part in value.items()
        )
    if isinstance(value, list | tuple):
        return [_canonical(part) for part in value]
    return value
