"""Tells MLflow of every version: an experiment a code location, a run a training, the aliases.

SQLite under the Dagster home unless MLFLOW_TRACKING_URI says otherwise; no server is started. When
MLflow is away or not installed, versions stay marked as untold and are told with the next ones.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cu_market.domain.usage import Usage
from cu_market.pse.champion.state import ModelState
from cu_market.tracking.registry import ModelVersion, Registry

logger = logging.getLogger(__name__)

REMOTE_SECONDS = "5"
"""How long a tracking server is waited for, and once only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What is told of a training beside the version itself.

    Attributes:
        frame: the training data, a pandas.DataFrame.
        tried: the other candidates and their loss.
        pictures: PNG by file name.
    """

    frame: Any = None
    tried: Sequence[tuple[ModelState, float]] = ()
    pictures: Mapping[str, bytes] | None = None


def tracking_uri(home: str | Path) -> str:
    """Returns where MLflow keeps its figures."""
    chosen = os.environ.get("MLFLOW_TRACKING_URI", "").strip()
    return chosen or f"sqlite:///{Path(home) / 'cu-market' / 'mlflow.db'}"


def tell(home: str | Path, registry: Registry, story: Story | None = None) -> str | None:
    """Tells MLflow of all versions that it does not know, and of the aliases.

    Args:
        home: the Dagster home.
        registry: the code location's versions.
        story: of the newest version.

    Returns:
        why it could not be told, or None.
    """
    try:
        _tell(home, registry, story)
    except Exception as error:
        logger.warning("MLflow was not told", extra={"action": "mlflow"}, exc_info=True)
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return None


def _tell(home: str | Path, registry: Registry, story: Story | None) -> None:
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", REMOTE_SECONDS)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    import mlflow
    from mlflow import MlflowClient

    mlflow.set_tracking_uri(tracking_uri(home))
    client = MlflowClient()
    name = f"cu_market.{registry.location or 'default'}"
    experiment = _experiment(client, home, name)
    versions = registry.versions()
    for version in versions:
        if version.mlflow_run_id is not None:
            continue
        told = story if version is versions[-1] else None
        run_id = _log_version(mlflow, client, experiment, version, told)
        _register(client, name, version, run_id)
        registry.keep(replace(version, mlflow_run_id=run_id))
    for alias, number in registry.aliases().items():
        client.set_registered_model_alias(name, alias, str(number))


def _experiment(client: Any, home: str | Path, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    artifacts = None
    # Not asked of the environment: MLflow 3.17 writes the URI that it is given into it.
    if tracking_uri(home).startswith("sqlite:"):
        artifacts = (Path(home) / "cu-market" / "mlflow-artifacts" / name).absolute().as_uri()
    return str(client.create_experiment(name, artifact_location=artifacts))


def _log_version(
    mlflow: Any, client: Any, experiment: str, version: ModelVersion, story: Story | None
) -> str:
    tags = {"digest": version.state.digest, "version": str(version.version)}
    commit = git_commit()
    if commit:
        tags["mlflow.source.git.commit"] = commit
    with mlflow.start_run(experiment_id=experiment, run_name=version.name, tags=tags) as run:
        mlflow.log_params({"family": version.state.family, **version.state.parameters})
        mlflow.log_metrics({k: float(v) for k, v in version.figures.items()})
        mlflow.log_dict(version.to_record(), "model/model.json")
        if story is not None:
            _log_story(mlflow, experiment, version, story)
        return str(run.info.run_id)


def _log_story(mlflow: Any, experiment: str, version: ModelVersion, story: Story) -> None:
    if story.frame is not None:
        # As floats: MLflow warns of integer columns, which could not hold a missing value.
        numbers = story.frame.select_dtypes("number").columns
        frame = story.frame.astype(dict.fromkeys(numbers, "float64"))
        data = mlflow.data.from_pandas(
            frame,
            name=f"usage of {version.location}",
            # Ours: MLflow's own is of pandas calls that pandas 3 warns of (MLflow 3.17).
            digest=version.details["data_digest"],
        )
        mlflow.log_input(data, context="training")
        mlflow.log_dict(json.loads(frame.head(3).to_json(orient="split")), "input_example.json")
        signature = mlflow.models.infer_signature(frame.head(3))
        mlflow.log_dict(signature.to_dict(), "signature.json")
    with tempfile.TemporaryDirectory() as folder:
        for name, picture in (story.pictures or {}).items():
            path = Path(folder) / name
            path.write_bytes(picture)
            mlflow.log_artifact(str(path), "pictures")
    best: dict[float, tuple[ModelState, float]] = {}
    for state, loss in story.tried:
        window = state.parameters["window"]
        if window not in best or loss < best[window][1]:
            best[window] = (state, loss)
    for window, (state, loss) in sorted(best.items()):
        name = f"{state.family}, window {window:g}"
        with mlflow.start_run(experiment_id=experiment, run_name=name, nested=True):
            mlflow.log_params({"family": state.family, **state.parameters})
            if loss != float("inf"):
                mlflow.log_metric("training_relative_wastage", loss)


def _register(client: Any, name: str, version: ModelVersion, run_id: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    made = client.create_model_version(
        name, source=source, run_id=run_id, tags={"digest": version.state.digest}
    )
    if int(made.version) != version.version:
        logger.warning(
            "MLflow counts another version",
            extra={"action": "mlflow", "ours": version.version, "theirs": made.version},
        )


def git_commit() -> str:
    """Returns the commit of the working directory, or empty where there is none."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""


def data_digest(usages: Sequence[Usage]) -> str:
    """Returns a digest of the attempts that a model was trained on."""
    import hashlib

    text = "\n".join(
        f"{u.run_id} {u.step_key} {u.attempt} {u.measurement.peak_memory_bytes}" for u in usages
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]
