"""A pod's manifest: what Dagster gives to steps arrives, what the market sold is on top."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.resources import ResourceVector
from cu_market.ral.kubernetes.config import read_config
from cu_market.ral.kubernetes.host import CARRIER_VARIABLE
from cu_market.ral.kubernetes.pods import build_pod, is_adoptable, pod_name, token_of
from cu_market.ral.kubernetes.provider import KubernetesProvider
from cu_market.ral.provider import WorkerLaunch

POOL = {"name": "general", "core_usd_per_hour": 0.04, "gb_usd_per_hour": 0.005}
MIB = 2**20


def allocation(**more: Any) -> Allocation:
    whole: dict[str, Any] = {
        "run_id": "0a1b2c3d-run",
        "step_key": "work[a/b]",
        "attempt": 1,
        "size": ResourceVector(cpu_millis=500, memory_bytes=1024 * MIB),
        **more,
    }
    return Allocation(
        state=AllocationState.LEASED,
        auction_id="a",
        bid_id="cluster/general",
        provider="cluster",
        resource_id="cluster/general",
        capacity_id="cluster/general",
        price_microusd_per_hour=1,
        expected_ms=1,
        awarded_at=datetime(2026, 1, 1, tzinfo=UTC),
        **whole,
    )


def launch_of(**more: Any) -> WorkerLaunch:
    return WorkerLaunch(
        **{
            "run_id": "0a1b2c3d-run",
            "worker_key": "cluster/general",
            "arguments": ("-m", "cu_market.deo.worker"),
            "starter": "host/1/2",
            **more,
        }
    )


def manifest(
    options: dict[str, Any] | None = None, tags: dict[str, str] | None = None, **more: Any
) -> dict[str, Any]:
    config = read_config("cluster", {"image": "image:1", "pools": [POOL], **(options or {})})
    return build_pod(
        launch_of(
            allocation=more.pop("allocation", allocation()),
            tags=tags or {},
            **more.pop("launch", {}),
        ),
        config,
        config.pools[0].record(),
        provider="cluster",
        token="secret",
        is_cpu_limited=more.pop("is_cpu_limited", False),
        owner=more.pop("owner", None),
    )


def container(**more: Any) -> dict[str, Any]:
    found: dict[str, Any] = manifest(**more)["spec"]["containers"][0]
    return found


def test_names_are_of_run_step_and_attempt() -> None:
    first = pod_name(allocation())
    assert first == pod_name(allocation())
    assert first.startswith("cu-0a1b2c3d-work-a-b")
    others = [
        allocation(attempt=2),
        allocation(step_key="work[a.b]"),  # the same letters once it is a name
        allocation(run_id="0a1b2c3d-other"),
        allocation(step_key="x" * 300),
    ]
    names = {first, *map(pod_name, others)}
    assert len(names) == 5
    assert all(len(name) <= 63 and name[-1].isalnum() for name in names)


def test_memory_is_requested_and_limited_alike() -> None:
    resources = container()["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    assert int(resources["limits"]["memory"]) == (1024 + 384) * MIB
    assert resources["requests"]["cpu"] == "500m"
    assert "cpu" not in resources["limits"]
    assert container(is_cpu_limited=True)["resources"]["limits"]["cpu"] == "500m"


def test_what_was_sold_stands_against_the_users_own_requests() -> None:
    asked = {"requests": {"cpu": "9", "ephemeral-storage": "1Gi"}, "limits": {"memory": "1Gi"}}
    tags = {"dagster-k8s/config": json.dumps({"container_config": {"resources": asked}})}
    resources = container(tags=tags)["resources"]
    assert resources["requests"]["cpu"] == "500m"
    assert resources["requests"]["ephemeral-storage"] == "1Gi"
    assert int(resources["limits"]["memory"]) == (1024 + 384) * MIB


def test_gpus_are_requested_by_the_plugins_name() -> None:
    gpu = {"type": "A100", "resource": "example.com/gpu"}
    size = ResourceVector(cpu_millis=500, memory_bytes=MIB, gpu_count=2)
    found = container(options={"pools": [{**POOL, "gpu": gpu}]}, allocation=allocation(size=size))
    assert found["resources"]["limits"]["example.com/gpu"] == "2"


def test_the_steps_tag_refines_what_the_configuration_says() -> None:
    config = {
        "env_vars": ["A=1"],
        "env_secrets": ["secrets"],
        "service_account_name": "steps",
        "volumes": [{"name": "data", "persistent_volume_claim": {"claim_name": "data"}}],
        "volume_mounts": [{"name": "data", "mount_path": "/data"}],
        "labels": {"team": "a"},
    }
    tag = {
        "container_config": {"env": [{"name": "B", "value": "2"}], "image": "special:2"},
        "pod_spec_config": {"priority_class_name": "high"},
    }
    pod = manifest(options={"config": config}, tags={"dagster-k8s/config": json.dumps(tag)})
    spec, found = pod["spec"], pod["spec"]["containers"][0]
    assert {"A", "B"} <= {env["name"] for env in found["env"]}
    assert found["envFrom"] == [{"secretRef": {"name": "secrets"}}]
    assert found["image"] == "special:2"
    assert found["volumeMounts"] == [{"mountPath": "/data", "name": "data"}]
    assert spec["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    assert (spec["serviceAccountName"], spec["priorityClassName"]) == ("steps", "high")
    assert pod["metadata"]["labels"]["team"] == "a"


def test_the_process_is_the_markets_and_the_pod_runs_once() -> None:
    pod = manifest()
    found = pod["spec"]["containers"][0]
    assert found["command"][1:] == [
        "-m",
        "cu_market.ral.kubernetes.host",
        "-m",
        "cu_market.deo.worker",
    ]
    assert "args" not in found
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["kind"] == "Pod"


def test_everything_is_found_again_by_its_labels() -> None:
    metadata = manifest(owner={"kind": "Pod", "name": "run", "uid": "u", "apiVersion": "v1"})[
        "metadata"
    ]
    labels = metadata["labels"]
    assert labels["cu-market/run-id"] == labels["dagster/run-id"] == "0a1b2c3d-run"
    assert labels["cu-market/deployment"] == "default"
    assert labels["cu-market/provider"] == "cluster"
    assert len(labels["cu-market/started-by"]) <= 63
    assert metadata["annotations"]["cu-market/step"] == "work[a/b]"
    assert metadata["ownerReferences"][0]["uid"] == "u"


def test_a_node_pool_is_selected_and_tolerated() -> None:
    spot = {"key": "spot", "operator": "Exists"}
    pool = {**POOL, "node_selector": {"size": "big"}, "tolerations": [spot]}
    spec = manifest(options={"pools": [pool]})["spec"]
    assert spec["nodeSelector"] == {"size": "big"}
    assert spot in spec["tolerations"]


def test_an_image_of_the_steps_own() -> None:
    assert container(tags={"dagster/image": "own:3"})["image"] == "own:3"


def test_without_any_image_there_is_no_pod() -> None:
    with pytest.raises(InvalidInputError, match="no image"):
        manifest(options={"image": None})


def test_an_unreadable_tag_says_so() -> None:
    with pytest.raises(InvalidInputError, match="dagster-k8s/config"):
        manifest(tags={"dagster-k8s/config": json.dumps({"no_such_section": {}})})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "pools"),
        ({"pools": []}, "at least one"),
        ({"pools": [POOL, POOL]}, "two pools with one name: general"),
        ({"pools": [{**POOL, "core_usd_per_hour": "cheap"}]}, "dollars an hour"),
        ({"pools": [POOL], "namspace": "x"}, "did you mean 'namespace'"),
        ({"pools": [{**POOL, "toleration": []}]}, "did you mean 'tolerations'"),
        ({"pools": [POOL], "worker_memory": "8Gb"}, "not a size"),
        ({"pools": [POOL], "pending_seconds": 0}, "pending_seconds"),
        ({"pools": [POOL], "config": {"no_such_key": 1}}, "no_such_key"),
        ({"pools": [POOL], "deployment": "a b"}, "label"),
    ],
)  # fmt: skip
def test_what_cannot_be_configured(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        read_config("cluster", options)
    assert said in str(error.value)
    assert "provider 'cluster'" in str(error.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(InvalidInputError) as error:
        read_config(
            "cluster", {"pools": [{**POOL, "gb_usd_per_hour": -1}], "cpu_limit": "x", "a": 1}
        )
    assert len(error.value.problems) == 3


def test_a_kubeconfig_is_named_by_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    config = read_config("cluster", {"pools": [POOL], "kubeconfig": {"env": "MY_KUBECONFIG"}})
    monkeypatch.delenv("MY_KUBECONFIG", raising=False)
    with pytest.raises(InvalidInputError, match="MY_KUBECONFIG"):
        config.kubeconfig_path()
    monkeypatch.setenv("MY_KUBECONFIG", "/etc/kube")
    assert config.kubeconfig_path() == "/etc/kube"


def test_a_pod_of_the_same_run_and_code_may_be_adopted_if_it_was_meant_to() -> None:
    ours = {"code_version": "v1", "is_adoptable": True}
    pod = manifest(launch=ours)
    assert token_of(pod) == "secret"
    assert is_adoptable(pod, launch_of(**ours), "default")
    assert not is_adoptable(pod, launch_of(**ours), "another deployment")
    assert not is_adoptable(pod, launch_of(**ours, run_id="another run"), "default")
    assert not is_adoptable(pod, launch_of(code_version="v2", is_adoptable=True), "default")
    bound = manifest(launch={"code_version": "v1"})
    assert not is_adoptable(bound, launch_of(**ours), "default")
    assert not is_adoptable(manifest(), launch_of(), "default")


class Carrier:
    program = "some.module"
    environment: Mapping[str, str] = {"SOME_LEDGER": '{"env": "NAME"}'}

    def connect(self, token: str, run_id: str, epoch: int = 0) -> Any:
        raise NotImplementedError

    def forget(self, token: str, epoch: int = 0) -> None:
        raise NotImplementedError

    def forget_run(self, run_id: str) -> None:
        raise NotImplementedError


def carried_environment(channel: str) -> dict[str, str]:
    config = read_config("cluster", {"image": "image:1", "pools": [POOL], "channel": channel})
    launch = WorkerLaunch(
        run_id="0a1b2c3d-run",
        worker_key="cluster/general",
        arguments=("-m", "cu_market.deo.worker"),
        allocation=allocation(),
        carrier=Carrier(),
    )
    made = build_pod(
        launch,
        config,
        config.pools[0].record(),
        provider="cluster",
        token="token",
        is_cpu_limited=False,
        owner=None,
    )
    return {each["name"]: each["value"] for each in made["spec"]["containers"][0]["env"]}


def test_what_carries_is_named_to_process_1_where_exec_is_not_used() -> None:
    by_exec = carried_environment("exec")
    by_database = carried_environment("database")
    assert set(by_database) - set(by_exec) == {CARRIER_VARIABLE, "SOME_LEDGER"}
    assert by_database[CARRIER_VARIABLE] == "some.module"


def test_an_unknown_channel_is_refused() -> None:
    with pytest.raises(InvalidInputError) as caught:
        read_config("cluster", {"pools": [POOL], "channel": "ssh"})
    said = str(caught.value)
    assert "provider 'cluster': channel='ssh'" in said
    assert "'exec' or 'database'" in said


def test_a_worker_that_nobody_carries_to_is_not_started() -> None:
    options = {"image": "image:1", "pools": [POOL], "channel": "database", "cpu_limit": True}
    provider = KubernetesProvider.from_config("cluster", options)
    assert provider.capabilities.carried
    launch = WorkerLaunch(
        run_id="r", worker_key="k", arguments=("-c", "pass"), allocation=allocation()
    )
    with pytest.raises(InvalidInputError, match="channel='database': nobody carries it"):
        provider.start(launch)
