"""The assets in one process: trained, promoted only when better, pictured, told to MLflow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from cu_market.definitions import triggers
from cu_market.definitions.checks import bands_hold, champion_is_not_worse_than_the_default
from cu_market.definitions.definitions import defs
from cu_market.definitions.frames import frame_of, usages_of
from cu_market.definitions.models import (
    TrainingConfig,
    champion,
    evaluation,
    step_models,
    training_frame,
    usage_history,
)
from cu_market.definitions.outlook import resource_demand, step_forecasts
from cu_market.definitions.triggers import drift
from cu_market.domain.request import StepIdentity
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.ledger.sql import SqlLedger, open_ledger
from cu_market.market.demand.champions import published_forecaster
from cu_market.pse.champion.state import DEFAULT_PARAMETERS, ModelState, location_identity
from cu_market.pse.champion.training import DEFAULT_STATE
from cu_market.tracking.mirror import tell, tracking_uri
from cu_market.tracking.promotion import (
    is_worse,
    live_comparison,
    promote,
    rollback,
    shadow_comparison,
)
from cu_market.tracking.registry import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    NoSuchModelError,
    Registry,
    models_folder,
)

pytestmark = pytest.mark.integration

MIB = 2**20
T0 = datetime(2026, 1, 1, tzinfo=UTC)
BAD = ModelState(parameters={**DEFAULT_PARAMETERS, "headroom_base_ratio": 9.0})
ASSETS = [
    usage_history,
    training_frame,
    step_models,
    evaluation,
    champion,
    step_forecasts,
    resource_demand,
]


def attempt(number: int, peak_mib: int, since: datetime = T0) -> Usage:
    at = since + timedelta(minutes=number)
    return Usage(
        run_id=f"{since:%Y}-{number:03d}",
        step_key="fit",
        attempt=1,
        identity=StepIdentity(code_location="growing", node="fit"),
        provider="local",
        resource_id="local/standard",
        started_at=at,
        ended_at=at + timedelta(seconds=10),
        cpu_millis=1000,
        memory_bytes=2048 * MIB,
        measurement=Measurement(wall_ms=10_000, cpu_ms=9_000, peak_memory_bytes=peak_mib * MIB),
        ending=Ending.OK,
    )


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.get() as found:
        yield found


@pytest.fixture
def ledger(instance: dg.DagsterInstance) -> Iterator[SqlLedger]:
    folder = Path(instance.root_directory) / "cu-market"
    with open_ledger(f"sqlite:///{folder / 'ledger.db'}") as found:
        yield found


def retrain(instance: dg.DagsterInstance, **config: list[float]) -> dg.ExecuteInProcessResult:
    run_config = dg.RunConfig(ops={"step_models": TrainingConfig(**config)})
    return dg.materialize(ASSETS, instance=instance, run_config=run_config)


@pytest.mark.filterwarnings("default")  # MLflow's and its database's own
def test_a_better_challenger_is_promoted_a_worse_is_not(
    instance: dg.DagsterInstance, ledger: SqlLedger
) -> None:
    ledger.keep_usages([attempt(n, 400) for n in range(20)])
    other = StepIdentity(code_location="another", node="fit")
    ledger.keep_usages([replace(attempt(n, 90), step_key="x", identity=other) for n in range(6)])
    registry = Registry(models_folder(instance.root_directory), "growing")
    identity = location_identity("growing")
    retrain(instance, headroom_base_ratios=[9.0])
    # Worse than the default, which goes on sizing and is champion now.
    assert registry.aliases() == {CHAMPION: 1, CHALLENGER: 2}
    assert registry.version(1).state.parameters == DEFAULT_STATE.parameters
    assert ledger.published([identity])[identity].model == "growing@1"
    promote(registry, ledger, 2, now=T0)
    result = retrain(instance)
    assert registry.aliases() == {CHAMPION: 3, PREVIOUS: 2}
    materialized = result.asset_materializations_for_node("evaluation")[0].metadata
    assert "base64," in str(materialized["growing: before and after"].value)
    retrain(instance, headroom_base_ratios=[9.0])
    assert registry.aliases()[CHAMPION] == 3
    assert ledger.published([identity])[identity].model == "growing@3"
    model = published_forecaster(ledger, ["growing"])
    assert model is not None
    forecast = model.forecast(identity, [attempt(1, 400)])
    assert forecast is not None
    assert forecast.allocation_bytes() < 600 * MIB
    check_mlflow(instance, registry)


def check_mlflow(instance: dg.DagsterInstance, registry: Registry) -> None:
    import mlflow

    mlflow.set_tracking_uri(tracking_uri(instance.root_directory))
    client = mlflow.MlflowClient()
    for version in registry.versions():
        assert version.mlflow_run_id is not None
        run = client.get_run(version.mlflow_run_id)
        assert run.data.tags["digest"] == version.state.digest
        assert run.data.metrics["held_back_attempts"] > 3
        assert run.inputs.dataset_inputs
        names = {each.path for each in client.list_artifacts(version.mlflow_run_id, "pictures")}
        assert "pictures/before_and_after.png" in names
        assert run.info.artifact_uri.startswith(Path(instance.root_directory).as_uri())
        nested = client.search_runs(
            [run.info.experiment_id], f"tags.mlflow.parentRunId = '{version.mlflow_run_id}'"
        )
        assert len(nested) == (0 if version.version == 1 else 3)  # the default: nothing tried
        signature = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/signature.json")
        assert '"long"' not in signature["inputs"]
    assert int(client.get_model_version_by_alias("cu_market.growing", CHAMPION).version) == 3


def test_a_champion_that_got_worse_is_known_and_sent_back(
    instance: dg.DagsterInstance, ledger: SqlLedger
) -> None:
    ledger.keep_usages([attempt(n, 400) for n in range(10)])
    registry = Registry(models_folder(instance.root_directory), "growing")
    with pytest.raises(NoSuchModelError):
        rollback(registry, ledger, now=T0)
    for state in (ModelState(), BAD):
        added = registry.add(state, created_at=T0, figures={}, details={})
        promote(registry, ledger, added.version, now=T0 + timedelta(hours=1))
    assert live_comparison(registry, ledger, ledger.usages()) is None
    later = T0 + timedelta(hours=2)
    ledger.keep_usages([replace(attempt(n, 400, later), run_id=f"later-{n}") for n in range(6)])
    found = live_comparison(registry, ledger, ledger.usages())
    assert found is not None
    assert is_worse(found)
    assert rollback(registry, ledger, now=later).version == 1
    identity = location_identity("growing")
    assert ledger.published([identity])[identity].model == "growing@1"


def test_a_challenger_is_scored_on_what_it_does_not_size_and_takes_over(
    instance: dg.DagsterInstance, ledger: SqlLedger
) -> None:
    ledger.keep_usages([attempt(n, 400) for n in range(10)])
    registry = Registry(models_folder(instance.root_directory), "growing")
    champion, challenger = (
        registry.add(state, created_at=T0 + timedelta(hours=1), figures={}, details={})
        for state in (BAD, ModelState())
    )
    promote(registry, ledger, champion.version, now=T0 + timedelta(hours=1))
    assert shadow_comparison(registry, ledger.usages()) is None  # nobody challenges
    registry.set_aliases({**registry.aliases(), CHALLENGER: challenger.version})
    assert shadow_comparison(registry, ledger.usages()) is None  # nothing has run since
    later = T0 + timedelta(hours=2)
    ledger.keep_usages([replace(attempt(n, 400, later), run_id=f"later-{n}") for n in range(12)])
    found = shadow_comparison(registry, ledger.usages())
    assert found is not None
    assert found.attempts == 12
    assert found.is_better
    with dg.build_sensor_context(instance=instance) as context:
        told = drift(context)
    assert isinstance(told, dg.SkipReason)
    assert "growing@2 took over" in (told.skip_message or "")
    assert registry.aliases() == {CHAMPION: challenger.version, PREVIOUS: champion.version}
    assert shadow_comparison(registry, ledger.usages()) is None


def test_drift_is_noticed_where_there_are_more_attempts_than_the_sensor_reads(
    instance: dg.DagsterInstance, ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triggers, "LOOKED_AT", 40)
    ledger.keep_usages([attempt(n, 400) for n in range(60)])
    registry = Registry(models_folder(instance.root_directory), "growing")
    at = T0 + timedelta(days=1)
    state = replace(ModelState(), trained_on=60)
    version = registry.add(state, created_at=at, figures={}, details={})
    promote(registry, ledger, version.version, now=at)

    def look(cursor: str | None) -> dg.SensorResult | dg.SkipReason:
        with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
            found = drift(context)
        assert isinstance(found, dg.SensorResult | dg.SkipReason)
        return found

    def more(name: str, count: int, hour: int) -> None:
        begin = at + timedelta(hours=hour)
        usages = [replace(attempt(n, 1400, begin), run_id=f"{name}-{n}") for n in range(count)]
        ledger.keep_usages(usages)

    assert isinstance(look(None), dg.SkipReason)  # nothing drifts
    more("first", 10, 1)
    first = look(None)
    assert isinstance(first, dg.SensorResult)
    assert isinstance(look(first.cursor), dg.SkipReason)  # just trained for
    more("second", 2, 2)
    assert isinstance(look(first.cursor), dg.SkipReason)  # too soon
    more("third", 10, 3)
    second = look(first.cursor)
    assert isinstance(second, dg.SensorResult)
    assert second.cursor != first.cursor
    assert isinstance(look("growing=38;broken;=1"), dg.SensorResult)  # of an earlier version


def test_mlflow_away_stops_nothing(
    instance: dg.DagsterInstance, ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(models_folder(instance.root_directory), "growing")
    registry.add(ModelState(), created_at=T0, figures={}, details={})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert tell(instance.root_directory, registry)
    assert registry.version(1).mlflow_run_id is None


def test_a_table_of_usage_is_read_back_as_written() -> None:
    usages = [attempt(1, 400), replace(attempt(2, 500), input_bytes=7, code_version="v2")]
    gpu = {"gpu_peak_bytes": 2**36, "gpu_busy_millis": 900, "gpu_scope": "the whole device"}
    usages.append(replace(attempt(3, 500), measurement=replace(usages[0].measurement, **gpu)))
    assert usages_of(frame_of(usages)) == usages
    stored_before = frame_of(usages[:2]).drop(columns=list(gpu))
    assert usages_of(stored_before) == usages[:2]


def test_the_location_has_checks_schedule_and_sensor() -> None:
    repository = defs.get_repository_def()
    assert {each.name for each in repository.sensor_defs} == {"drift"}
    assert {each.name for each in repository.schedule_defs} == {"retrain_every_night"}
    checks = [*bands_hold.check_keys, *champion_is_not_worse_than_the_default.check_keys]
    assert len(checks) == 2
