"""Thirty runs under the real daemon: drift is noticed, learned from, tracked, promoted, undone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from daemon import running_daemon, wait_for
from dagster import AssetKey, DagsterEventType, DagsterInstance, DagsterRunStatus, RunsFilter

from cu_market.dagster_compat.submission import submit_job
from cu_market.definitions.triggers import UNFINISHED
from cu_market.deo.settings import instance_settings
from cu_market.ledger.sql import SqlLedger
from cu_market.market.opening import open_instance_ledger
from cu_market.pse.champion.state import DEFAULT_PARAMETERS, ModelState, location_identity
from cu_market.tracking.mirror import tracking_uri
from cu_market.tracking.promotion import promote
from cu_market.tracking.registry import CHAMPION, PREVIOUS, Registry, models_folder

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.by_hand,
]

JOB = Path(__file__).with_name("growing_job.py")
RUNS, DRIFT_AT, MOST_RUNS = 30, 20, 48
CONFIG = """
telemetry: {enabled: false}
run_launcher:
  module: cu_market
  class: MarketRunLauncher
  config:
    market:
      providers: {local: {cores: 2, memory: 3GiB}}
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config: {max_concurrent_runs: 3, dequeue_interval_seconds: 1}
"""
WORKSPACE = f"""
load_from:
  - python_file: {{relative_path: {JOB}, location_name: growing, attribute: defs}}
  - python_module:
      {{module_name: cu_market.definitions.definitions, location_name: cu_market, attribute: defs}}
"""


class Deployment:
    """A home with a running daemon."""

    def __init__(self, instance: DagsterInstance, workspace: Any, home: Path) -> None:
        self.instance, self.workspace, self.home = instance, workspace, home
        self.ledger: SqlLedger = open_instance_ledger(instance_settings(instance), str(home))
        self.registry = Registry(models_folder(home), "growing")

    def run_growing(self, first: int, last: int) -> None:
        """Runs them in their order, as fast as the queue takes them."""
        run_ids = [
            submit_job(
                self.instance,
                self.workspace,
                location_name="growing",
                job_name="growing",
                tags={"test/number": str(number)},
            )
            for number in range(first, last + 1)
        ]
        for number, run_id in enumerate(run_ids, first):
            self.wait_for(lambda run_id=run_id: self.is_finished(run_id), f"run {number}")

    def is_finished(self, run_id: str) -> bool:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        assert run.status is not DagsterRunStatus.FAILURE, [
            entry.message for entry in self.instance.all_logs(run_id)
        ][-8:]
        return run.is_finished

    def retrainings(self) -> int:
        done = RunsFilter(job_name="retraining", statuses=[DagsterRunStatus.SUCCESS])
        failed = RunsFilter(job_name="retraining", statuses=[DagsterRunStatus.FAILURE])
        for run in self.instance.get_runs(failed):
            pytest.fail(str([entry.message for entry in self.instance.all_logs(run.run_id)][-8:]))
        return self.instance.get_runs_count(done)

    def answers(self, began_at: datetime) -> list[bool]:
        """Returns, for each retraining for a drift of the step, whether its model was promoted."""
        done = RunsFilter(
            job_name="retraining", statuses=[DagsterRunStatus.SUCCESS], created_after=began_at
        )
        return [
            "growing" in str(self.materialized(run.run_id, "champion")["promoted"].value)
            for run in self.instance.get_runs(done)
            if "growing: fit" in run.tags.get("cu_market/retrain_reason", "")
        ]

    def is_answered(self, began_at: datetime) -> bool:
        """Whether what was trained since then is champion: promoted at once, or from the shadow."""
        champion = self.registry.alias(CHAMPION)
        return any(self.answers(began_at)) or (
            champion is not None and champion.created_at > began_at
        )

    def materialized(self, run_id: str, asset: str) -> Any:
        logs = self.instance.all_logs(run_id, of_type=DagsterEventType.ASSET_MATERIALIZATION)
        (found,) = (
            entry.asset_materialization.metadata
            for entry in logs
            if entry.asset_materialization is not None
            and entry.asset_materialization.asset_key == AssetKey(asset)
        )
        return found

    def is_quiet(self) -> bool:
        return not self.instance.get_runs_count(
            RunsFilter(job_name="retraining", statuses=UNFINISHED)
        )

    def champion(self) -> int | None:
        return self.registry.aliases().get(CHAMPION)

    def published(self) -> str:
        identity = location_identity("growing")
        return self.ledger.published([identity])[identity].model

    @staticmethod
    def wait_for(condition: Callable[[], bool], what: str, seconds: float = 240) -> None:
        wait_for(condition, what, seconds)


@pytest.fixture(scope="module")
def deployment(
    tmp_path_factory: pytest.TempPathFactory, new_storage: Callable[[], str]
) -> Iterator[Deployment]:
    home = tmp_path_factory.mktemp("home")
    (home / "dagster.yaml").write_text(CONFIG + new_storage())
    (home / "workspace.yaml").write_text(WORKSPACE)
    with running_daemon(home) as (instance, workspace):
        turn_on_the_sensor(instance, workspace)
        yield Deployment(instance, workspace, home)


def turn_on_the_sensor(instance: DagsterInstance, workspace: Any) -> None:
    location = workspace.get_code_location("cu_market")
    (repository,) = location.get_repositories().values()
    instance.start_sensor(repository.get_sensor("drift"))


def test_drift_is_noticed_learned_tracked_promoted_and_undone(deployment: Deployment) -> None:
    deployment.run_growing(1, DRIFT_AT - 1)
    deployment.wait_for(lambda: deployment.champion() is not None, "a first champion")
    began_at = datetime.now(UTC)
    deployment.run_growing(DRIFT_AT, RUNS)
    deployment.wait_for(lambda: deployment.answers(began_at), "retraining for the drift")
    last = RUNS
    # The more of the drift is seen, the less doubt there is that what was trained for it is better.
    while not deployment.is_answered(began_at) and last < MOST_RUNS:
        deployment.run_growing(last + 1, last + 3)
        last += 3
        time.sleep(30)  # the sensor's own interval
        deployment.wait_for(deployment.is_quiet, "the retraining under way")
    assert deployment.is_answered(began_at), f"not promoted for the drift by run {last}"
    versions = deployment.registry.versions()
    assert len(versions) >= 2
    tags = [
        run.tags.get("cu_market/retrain_reason", "")
        for run in deployment.instance.get_runs(RunsFilter(job_name="retraining"))
    ]
    assert any("no model yet" in reason for reason in tags)
    # The retraining itself went through the market.
    retrained = deployment.instance.get_runs(RunsFilter(job_name="retraining"))[0]
    assert deployment.ledger.auctions(retrained.run_id)
    assert deployment.published() == f"growing@{deployment.champion()}"
    check_pictures(deployment)
    check_mlflow(deployment)
    check_a_bad_challenger_is_not_promoted(deployment)
    check_a_bad_champion_is_sent_back(deployment, last)


def check_pictures(deployment: Deployment) -> None:
    event = deployment.instance.get_latest_materialization_event(AssetKey("evaluation"))
    assert event is not None
    materialization = event.asset_materialization
    assert materialization is not None
    picture = materialization.metadata["growing: before and after"]
    assert "data:image/png;base64," in str(picture.value)


def check_mlflow(deployment: Deployment) -> None:
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(tracking_uri(deployment.home))
    client = mlflow.MlflowClient()
    for version in deployment.registry.versions():
        assert version.mlflow_run_id is not None
        run = client.get_run(version.mlflow_run_id)
        assert run.data.tags["digest"] == version.state.digest
        assert run.inputs.dataset_inputs
        names = {each.path for each in client.list_artifacts(version.mlflow_run_id, "pictures")}
        assert "pictures/before_and_after.png" in names
    model = client.get_model_version_by_alias("cu_market.growing", CHAMPION)
    assert int(model.version) == deployment.champion()


def check_a_bad_challenger_is_not_promoted(deployment: Deployment) -> None:
    champion, count = deployment.champion(), deployment.retrainings()
    submit_job(
        deployment.instance,
        deployment.workspace,
        location_name="cu_market",
        job_name="retraining",
        run_config={"ops": {"step_models": {"config": {"headroom_base_ratios": [9.0]}}}},
    )
    deployment.wait_for(lambda: deployment.retrainings() > count, "the bad challenger's training")
    newest = deployment.registry.versions()[-1]
    assert newest.state.parameters["headroom_base_ratio"] == 9.0
    assert deployment.champion() == champion


def check_a_bad_champion_is_sent_back(deployment: Deployment, last: int) -> None:
    deployment.wait_for(deployment.is_quiet, "the retraining under way")
    good = deployment.champion()
    bad = deployment.registry.add(
        ModelState(parameters={**DEFAULT_PARAMETERS, "headroom_base_ratio": 9.0}),
        created_at=datetime.now(UTC),
        figures={},
        details={},
    )
    promote(deployment.registry, deployment.ledger, bad.version, now=datetime.now(UTC))
    assert deployment.registry.aliases()[PREVIOUS] == good
    deployment.run_growing(last + 1, last + 4)
    deployment.wait_for(lambda: deployment.champion() == good, "the bad champion sent back")
    assert deployment.published() == f"growing@{good}"
