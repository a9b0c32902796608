"""Which pods a provider adopts, and which it removes, by what its cluster has of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from test_kubernetes_pods import POOL, allocation, launch_of, manifest

from cu_market.ral.carrier import CutError
from cu_market.ral.kubernetes.api import ClusterError, Json
from cu_market.ral.kubernetes.config import read_config
from cu_market.ral.kubernetes.host import CARRIER_VARIABLE
from cu_market.ral.kubernetes.pods import CODE_ANNOTATION, RUN_LABEL, STARTER_LABEL
from cu_market.ral.kubernetes.provider import KubernetesProvider
from cu_market.ral.kubernetes.warm_pod import WarmPod
from cu_market.ral.provider import AdoptableWorker, Adopting

OURS = {"code_version": "v1", "is_adoptable": True}
RUNNING = {"phase": "Running", "containerStatuses": [{"name": "", "state": {"running": {}}}]}


class Cluster:
    """An API with a few pods, which can be read and deleted, and no exec."""

    is_in_cluster = False

    def __init__(self) -> None:
        self.pods: dict[str, Json] = {}
        self.deleted: list[str] = []
        self.trouble: ClusterError | None = None

    def add(self, attempt: int, **more: Any) -> Json:
        pod: Any = manifest(allocation=allocation(attempt=attempt), launch=OURS)
        status = RUNNING["containerStatuses"][0] | {"name": pod["spec"]["containers"][0]["name"]}  # type: ignore[index]
        pod["status"] = RUNNING | {"containerStatuses": [status]}
        pod["spec"]["nodeName"] = "node"
        pod |= more
        self.pods[pod["metadata"]["name"]] = pod
        return pod  # type: ignore[no-any-return]

    def get(self, path: str, **query: Any) -> Json:
        if self.trouble is not None:
            raise self.trouble
        name = path.rpartition("/")[2]
        if name == "pods":
            wanted = dict(part.split("=") for part in query["labelSelector"].split(","))
            found = [p for p in self.pods.values() if wanted.items() <= _labels(p).items()]
            return {"items": found, "metadata": {"resourceVersion": "1"}}
        if name not in self.pods:
            raise ClusterError("no such pod", status=404)
        return self.pods[name]

    def patch(self, path: str, body: Any) -> Json:
        pod: Any = self.pods[path.rpartition("/")[2]]
        for name, marks in body["metadata"].items():
            is_list = isinstance(marks, list)
            pod["metadata"][name] = marks if is_list else pod["metadata"].get(name, {}) | marks
        return pod  # type: ignore[no-any-return]

    def delete(self, path: str, *, grace_seconds: int) -> bool:
        self.deleted.append(path.rpartition("/")[2])
        return True

    def watch(self, path: str, **query: Any) -> Iterator[Json]:
        raise ClusterError("no watch")

    def websocket(self, path: str, query: Any) -> Any:
        raise ClusterError("no exec")


def _labels(pod: Json) -> dict[str, str]:
    return dict(pod["metadata"]["labels"])


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def provider(cluster: Cluster) -> Iterator[KubernetesProvider]:
    config = read_config("cluster", {"image": "image:1", "pools": [POOL]})
    made = KubernetesProvider("cluster", config, cluster)  # type: ignore[arg-type]
    yield made
    made.close()


def adopt(provider: KubernetesProvider, pod: Json, **more: Any) -> WarmPod | None:
    holder = f"pod:cluster/default/{pod['metadata']['name']}"
    return provider.adopt(holder, launch_of(**{"allocation": allocation(), **OURS, **more}))


def test_it_is_a_provider_that_adopts(provider: KubernetesProvider) -> None:
    assert isinstance(provider, Adopting)
    assert provider.capabilities.adoptable_seconds == 300


def test_a_running_pod_is_adopted_and_left_where_it_is(
    provider: KubernetesProvider, cluster: Cluster
) -> None:
    pod = adopt(provider, cluster.add(1))
    assert pod is not None
    assert isinstance(pod, AdoptableWorker)
    pod.leave()
    assert pod.join(120)
    assert cluster.deleted == []


@pytest.mark.parametrize("is_resumable", [True, False])
def test_one_that_was_started_ahead_is_as_if_it_had_been_started_for_its_run(
    provider: KubernetesProvider, cluster: Cluster, is_resumable: bool
) -> None:
    started = cluster.add(1)
    buyer = [{"kind": "Pod", "name": "daemon"}, {"kind": "Job", "name": "another's"}]
    started["metadata"]["ownerReferences"] = buyer  # type: ignore[index]
    del started["metadata"]["annotations"][CODE_ANNOTATION]  # type: ignore[attr-defined]
    later = allocation(run_id="later", attempt=2)
    launch = launch_of(run_id="later", allocation=later, starter="host/3/4", code_version="v1")
    launch = replace(launch, is_adoptable=is_resumable)
    holder = f"pod:cluster/default/{started['metadata']['name']}"
    pod = provider.take_over(holder, launch)
    made = provider._maker.manifest(launch, "")
    for name in ("dagster/run-id", RUN_LABEL, STARTER_LABEL):
        assert started["metadata"]["labels"][name] == made["metadata"]["labels"][name]
    assert started["metadata"]["annotations"] == made["metadata"]["annotations"]
    assert started["metadata"]["ownerReferences"] == buyer[1:]
    adopted = provider.adopt(holder, launch)
    assert (adopted is not None) is is_resumable
    for each in (pod, adopted):
        if each is not None:
            each.leave()
            assert each.join(120)


def test_one_that_may_run_before_its_status_says_so_is_adopted(
    provider: KubernetesProvider, cluster: Cluster
) -> None:
    pod = adopt(provider, cluster.add(1, status={"phase": "Pending"}))
    assert pod is not None
    pod.leave()
    assert pod.join(120)


def test_one_that_is_closed_is_removed(provider: KubernetesProvider, cluster: Cluster) -> None:
    made = cluster.add(1)
    pod = adopt(provider, made)
    assert pod is not None
    pod.close()
    assert pod.join(120)
    assert cluster.deleted == [made["metadata"]["name"]]


def test_what_does_not_run_or_is_ending_is_not_adopted(
    provider: KubernetesProvider, cluster: Cluster
) -> None:
    assert adopt(provider, manifest(launch=OURS)) is None  # there is none
    assert adopt(provider, cluster.add(1, status={"phase": "Failed"})) is None
    unplaced = cluster.add(1, status={"phase": "Pending"})
    del unplaced["spec"]["nodeName"]
    assert adopt(provider, unplaced) is None
    ending = cluster.add(1)
    ending["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert adopt(provider, ending) is None


def test_another_code_version_is_not_adopted(
    provider: KubernetesProvider, cluster: Cluster
) -> None:
    assert adopt(provider, cluster.add(1), code_version="v2") is None


class Carrier:
    """Carries nowhere, and says by whom it was asked."""

    program = "some.module"
    environment: Mapping[str, str] = {}

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int]] = []
        self.forgotten: list[tuple[str, int]] = []
        self.is_asked = threading.Event()

    def connect(self, token: str, run_id: str, epoch: int = 0) -> Any:
        self.asked.append((token, run_id, epoch))
        self.is_asked.set()
        raise CutError("nowhere")

    def forget(self, token: str, epoch: int = 0) -> None:
        self.forgotten.append((token, epoch))

    def forget_run(self, run_id: str) -> None:
        raise NotImplementedError


@pytest.fixture
def by_database(cluster: Cluster) -> Iterator[KubernetesProvider]:
    options = {"image": "image:1", "pools": [POOL], "channel": "database"}
    made = KubernetesProvider("cluster", read_config("cluster", options), cluster)  # type: ignore[arg-type]
    yield made
    made.close()


def add_carried(cluster: Cluster) -> Json:
    pod: Any = cluster.add(1)
    pod["spec"]["containers"][0]["env"].append({"name": CARRIER_VARIABLE, "value": "some.module"})
    return pod  # type: ignore[no-any-return]


def test_a_pod_that_is_carried_to_is_reached_in_a_later_epoch_and_left_with_its_channel(
    by_database: KubernetesProvider, cluster: Cluster
) -> None:
    carrier = Carrier()
    pod = adopt(by_database, add_carried(cluster), carrier=carrier)
    assert pod is not None
    assert carrier.is_asked.wait(120)
    pod.leave()
    assert pod.join(120)
    ((token, run_id, epoch), *_) = carrier.asked
    assert (token, run_id) == ("secret", "0a1b2c3d-run")
    assert epoch > 0
    assert cluster.deleted == carrier.forgotten == []


def test_with_a_pod_that_is_closed_its_channel_goes(
    by_database: KubernetesProvider, cluster: Cluster
) -> None:
    carrier = Carrier()
    pod = adopt(by_database, add_carried(cluster), carrier=carrier)
    assert pod is not None
    assert carrier.is_asked.wait(120)
    pod.close()
    assert pod.join(120)
    assert carrier.forgotten == [("secret", carrier.asked[0][2])]


def test_a_pod_that_nobody_carries_to_is_not_adopted_by_a_carrier(
    by_database: KubernetesProvider, cluster: Cluster
) -> None:
    assert adopt(by_database, cluster.add(1), carrier=Carrier()) is None


def test_holders_of_others_are_not_adopted(provider: KubernetesProvider) -> None:
    launch = launch_of(allocation=allocation(), **OURS)
    for holder in ("host/1/2", "pod:another/default/name", ""):
        assert provider.adopt(holder, launch) is None


def test_a_cluster_that_is_away_is_not_one_without_pods(
    provider: KubernetesProvider, cluster: Cluster
) -> None:
    pod = cluster.add(1)
    cluster.trouble = ClusterError("away", status=503)
    with pytest.raises(ClusterError, match="away"):
        adopt(provider, pod)


def test_a_runs_pods_are_removed_but_those_that_are_spared(
    provider: KubernetesProvider, cluster: Cluster
) -> None:
    first, second, foreign = cluster.add(1), cluster.add(2), cluster.add(3)
    foreign["metadata"]["labels"]["cu-market/provider"] = "another"
    spared = f"pod:cluster/default/{first['metadata']['name']}"
    assert provider.reap_run("0a1b2c3d-run", [spared]) == 1
    assert cluster.deleted == [second["metadata"]["name"]]
    assert provider.reap_run("another run") == 0
