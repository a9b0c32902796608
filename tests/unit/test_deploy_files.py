"""What deploy/ offers is what the code reads: values for Dagster's chart, rights, the image."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster import DagsterInstance
from dagster._config import process_config, resolve_to_config_type
from dagster_k8s import K8sRunLauncher

from cu_market import MarketK8sRunLauncher
from cu_market.domain.spec import Mode
from cu_market.market.settings import parse_settings
from cu_market.ral.registry import load_providers

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def launcher() -> dict[str, Any]:
    """The custom run launcher of the values."""
    values = yaml.safe_load((ROOT / "deploy" / "values.yaml").read_text())
    assert values["runLauncher"]["type"] == "CustomRunLauncher"
    found: dict[str, Any] = values["runLauncher"]["config"]["customRunLauncher"]
    return found


def test_the_launcher_reads_its_values(launcher: dict[str, Any]) -> None:
    assert launcher["module"] == "cu_market"
    assert launcher["class"] == MarketK8sRunLauncher.__name__
    schema = resolve_to_config_type(MarketK8sRunLauncher.config_type())
    assert process_config(schema, launcher["config"]).success


def test_all_that_the_chart_would_have_rendered_is_there(launcher: dict[str, Any]) -> None:
    needed = {"load_incluster_config", "job_namespace", "service_account_name", "dagster_home",
              "instance_config_map", "postgres_password_secret", "env_config_maps",
              "image_pull_policy"}  # fmt: skip
    assert needed <= set(launcher["config"]) <= {*K8sRunLauncher.config_type(), "market"}


def test_the_markets_part_is_a_market_that_buys_nothing_yet(launcher: dict[str, Any]) -> None:
    settings = parse_settings(launcher["config"]["market"], "values.yaml")
    assert settings.mode is Mode.RECOMMEND
    (provider,) = load_providers(settings.providers)
    assert provider.name == "cluster"


def test_the_rights_are_for_the_launchers_own_account(launcher: dict[str, Any]) -> None:
    documents = list(yaml.safe_load_all((ROOT / "deploy" / "rbac.yaml").read_text()))
    config = launcher["config"]
    for document in documents:
        for subject in document.get("subjects", ()):
            assert subject["name"] == config["service_account_name"]
            assert subject["namespace"] == config["job_namespace"]
    (role,) = [d for d in documents if d["kind"] == "Role"]
    assert role["metadata"]["namespace"] == config["market"]["providers"]["cluster"]["namespace"]


def test_every_setting_of_the_provider_is_documented() -> None:
    from cu_market.ral.kubernetes.config import KubernetesConfig, PoolConfig

    text = (ROOT / "docs" / "kubernetes.md").read_text()
    told = {name for row in re.findall(r"^\| (`[^|]*) \|", text, re.M)
            for name in re.findall(r"`(\w+)`", row)}  # fmt: skip
    assert set(KubernetesConfig.model_fields) | set(PoolConfig.model_fields) <= told


def test_adopting_takes_at_most_five_commands() -> None:
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    commands = text.split("```sh\n")[1].split("```")[0].strip().splitlines()
    assert 1 <= len(commands) <= 5
    named = re.findall(r"deploy/[\w.-]+\.yaml|deploy/Dockerfile", "\n".join(commands))
    assert named
    assert all((ROOT / name).exists() for name in named)


def test_the_image_has_what_a_step_needs() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (.+) \S+$", text, re.M)
    assert all((ROOT / name).exists() for line in copied for name in line.split())
    extras = re.search(r"\.\[([\w,]+)\]", text)
    assert extras is not None
    assert {"market", "k8s", "postgres"} <= set(extras.group(1).split(","))


def test_an_instance_accepts_the_values(tmp_path: Path, launcher: dict[str, Any]) -> None:
    (tmp_path / "dagster.yaml").write_text(
        yaml.safe_dump({"telemetry": {"enabled": False}, "run_launcher": launcher})
    )
    with DagsterInstance.from_config(str(tmp_path)) as instance:
        data = instance.get_ref().run_launcher_data
    assert data is not None
    assert data.class_name == "MarketK8sRunLauncher"
