"""Pods that are started ahead: looked after, taken over by a run, or gone by themselves."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from daemon import running_daemon, serve_file
from dagster import DagsterInstance, DagsterRunStatus, RunsFilter
from kubernetes_cluster import KubernetesCluster, wait_for
from pod_deployment import SIGNALS_VARIABLE, dagster_yaml, pod_options
from postgres_server import PASSWORD, PASSWORD_VARIABLE, PostgresServer

from cu_market.dagster_compat.submission import submit_job
from cu_market.deo.settings import instance_settings
from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.purchase import Purchase, PurchaseState
from cu_market.domain.resources import ResourceVector
from cu_market.market.ahead.startups import KEPT, Startups, note_startups
from cu_market.market.opening import open_instance_ledger
from cu_market.ral.kubernetes import ahead as module
from cu_market.ral.kubernetes.pods import RUN_LABEL, STARTER_LABEL, starter_label
from cu_market.ral.kubernetes.provider import KubernetesProvider
from cu_market.ral.provider import HolderStatus, Standby, WorkerLaunch

pytestmark = [pytest.mark.timeout(400)]

ECHO = (
    "import os, socket\n"
    "s = socket.socket(fileno=int(os.environ['CU_MARKET_CHANNEL_FD']))\n"
    "while data := s.recv(65536): s.sendall(data)\n"
)
JOBS = Path(__file__).parents[1] / "ahead_jobs.py"
PLACE = "cluster/cluster/general"
SLOW_MS = 45_000
FROM_SCHEDULE = "dagster/schedule_name"


def launch(run_id: str, **fields: Any) -> WorkerLaunch:
    allocation = Allocation(
        run_id=run_id,
        step_key="step",
        attempt=1,
        state=AllocationState.LEASED,
        auction_id="a",
        bid_id="cluster/general",
        provider="cluster",
        resource_id="cluster/general",
        capacity_id="cluster/general",
        size=ResourceVector(cpu_millis=100, memory_bytes=64 * 2**20),
        price_microusd_per_hour=1,
        expected_ms=1,
        awarded_at=datetime.now(UTC),
    )
    defaults: dict[str, Any] = {
        "worker_key": "cluster/general",
        "arguments": ("-c", ECHO),
        "starter": "tests/1/2",
    }
    return WorkerLaunch(run_id=run_id, allocation=allocation, **(defaults | fields))


@pytest.fixture
def make(cluster: KubernetesCluster) -> Iterator[Callable[..., KubernetesProvider]]:
    made: list[KubernetesProvider] = []

    def build(**more: Any) -> KubernetesProvider:
        options = cluster.options(**more)
        options.pop("kind")
        made.append(KubernetesProvider.from_config("cluster", options))
        return made[-1]

    yield build
    for provider in made:
        provider.reap(["tests/1/2", "tests/3/4"])
        provider.close()


def test_a_pod_is_taken_over_with_its_session(
    cluster: KubernetesCluster, make: Callable[..., KubernetesProvider]
) -> None:
    starts, takes = make(), make()
    holder = starts.start_ahead(launch("ahead1"))
    wait_for(lambda: starts.look_after(holder) is Standby.READY, "the pod to run")
    mine = launch("run1", starter="tests/3/4")
    worker = takes.take_over(holder, mine)
    worker.send(b"hello")
    assert worker.receive() == b"hello"
    (pod,) = cluster.pods(f"{RUN_LABEL}=run1")
    assert pod["metadata"]["labels"][STARTER_LABEL] == starter_label("tests/3/4")
    assert starts.reap(["tests/1/2"]) == []  # it is no longer whose who started it
    worker.close()
    assert worker.join(30)
    assert takes.look_after(holder) is Standby.GONE
    with pytest.raises(OSError, match=r"has ended|not found"):
        takes.take_over(holder, mine)


def test_one_that_is_taken_over_is_adopted_as_any_other(
    cluster: KubernetesCluster, make: Callable[..., KubernetesProvider]
) -> None:
    starts, takes, follows = make(), make(), make()
    holder = starts.start_ahead(launch("ahead5"))
    mine = launch("run5", starter="tests/3/4", code_version="1", is_adoptable=True)
    first = takes.take_over(holder, mine)
    first.send(b"one")
    assert first.receive() == b"one"
    first.acknowledge(3)
    first.send(b"two")
    assert first.receive() == b"two"  # not acknowledged: whoever follows gets it
    first.leave()
    second = follows.adopt(holder, replace(mine, starter="tests/5/6"))
    assert second is not None
    assert second.receive() == b"two"
    second.send(b"three")
    assert second.receive() == b"three"
    assert takes.reap_run("run5", [holder]) == 0
    assert takes.reap_run("run5") == 1
    wait_for(lambda: not cluster.pods(f"{RUN_LABEL}=run5"), "its end")
    second.close()


def test_one_that_does_not_run_yet_is_taken_over(make: Callable[..., KubernetesProvider]) -> None:
    provider = make()
    worker = provider.take_over(provider.start_ahead(launch("ahead2")), launch("run2"))
    worker.send(b"early")
    assert worker.receive() == b"early"
    worker.close()
    assert worker.join(30)


def test_one_that_is_looked_after_lives_and_one_that_is_not_ends(
    make: Callable[..., KubernetesProvider], monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = make(disconnect_seconds=12)
    kept = provider.start_ahead(launch("ahead3"))
    left = provider.start_ahead(replace(launch("ahead4"), worker_key="other"))
    greeted: list[float] = []
    greet = module.PodsAhead._greet
    monkeypatch.setattr(
        module.PodsAhead, "_greet", lambda *given: greeted.append(1) or greet(*given)
    )

    def both() -> bool:
        assert provider.look_after(kept) is not Standby.GONE
        return provider.check(left) is HolderStatus.ENDED

    wait_for(both, "the end of the one that nobody looks after", 90)
    wait_for(lambda: both() and len(greeted) > 4, "more greetings", 60)
    assert provider.look_after(left) is Standby.GONE
    assert list(provider.reap([kept, left])) == [kept, left]


def test_what_fits(make: Callable[..., KubernetesProvider]) -> None:
    provider = make()
    fit = provider.fit(launch("one"))
    larger = launch("two", starter="tests/3/4", environment={"CU_MARKET_PRELOAD": "{}"})
    assert larger.allocation is not None
    size = ResourceVector(cpu_millis=200, memory_bytes=2**30)
    larger = replace(larger, allocation=replace(larger.allocation, size=size))
    assert provider.fit(larger) == fit
    assert provider.fit(launch("one", tags={"dagster/image": "another:1"})) != fit
    assert make(image="another:2").fit(launch("one")) != fit


class Deployment:
    """A home whose steps all go to pods, and whose schedule has launched once."""

    def __init__(self, instance: DagsterInstance, home: Path) -> None:
        self.instance = instance
        self.ledger = open_instance_ledger(instance_settings(instance), str(home))

    def bought(self) -> list[Purchase]:
        """Returns purchases for the schedule's ticks, oldest first."""
        found = reversed(self.ledger.purchases())
        return [each for each in found if each.source == "schedule"]


@pytest.fixture
def deployment(
    tmp_path: Path, cluster: KubernetesCluster, reachable_postgres: PostgresServer
) -> Iterator[Deployment]:
    text = dagster_yaml(cluster, reachable_postgres, {"cluster": pod_options(cluster)})
    config = json.loads(text)
    config["run_launcher"]["config"]["market"] |= {
        "ahead": {"enabled": True, "horizon_seconds": 90},
    }
    (tmp_path / "dagster.yaml").write_text(json.dumps(config))
    serve_file(tmp_path, JOBS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PASSWORD_VARIABLE, PASSWORD)
        patch.setenv(SIGNALS_VARIABLE, str(tmp_path))
        with running_daemon(tmp_path) as (instance, workspace):
            run_id = submit_job(
                instance,
                workspace,
                location_name="tests",
                job_name="ticking_job",
                tags={FROM_SCHEDULE: "ticking"},
            )
            ended = RunsFilter(
                run_ids=[run_id], statuses=[DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE]
            )
            (run,) = wait_for(lambda: instance.get_runs(ended), "the first run's end", 180)
            told = [entry.message for entry in instance.all_logs(run_id)]
            assert run.status is DagsterRunStatus.SUCCESS, told
            opened = Deployment(instance, tmp_path)
            slow = {PLACE: Startups(times_ms=(SLOW_MS,) * KEPT)}
            now = datetime.now(UTC)
            note_startups(opened.ledger, "tests", slow, job="", lag_ms=None, now=now)
            yield opened
            opened.ledger.close()


@pytest.mark.timeout(1500)
def test_a_tick_finds_its_pod_running(deployment: Deployment, cluster: KubernetesCluster) -> None:
    def found_running() -> Purchase | None:
        # A daemon that is up just before a tick may buy once it is due, and a run may take over a
        # pod that only starts.
        for each in deployment.bought():
            is_ahead = each.started_at < each.expected_at and each.state is PurchaseState.USED
            if is_ahead and each.ready_at and each.taken_at and each.ready_at < each.taken_at:
                return each
        return None

    used = wait_for(found_running, "a tick whose run finds its pod running", 600)
    assert used.expected_at - used.started_at < timedelta(milliseconds=SLOW_MS + 1000)
    done = RunsFilter(run_ids=[used.run_id], statuses=[DagsterRunStatus.SUCCESS])
    wait_for(lambda: deployment.instance.get_runs(done), "the run's success", 120)
    first = next(
        row for row in deployment.ledger.allocations(run_id=used.run_id) if row.step_key == "first"
    )
    assert first.holder == used.holder
    messages = [entry.message for entry in deployment.instance.all_logs(used.run_id)]
    (told,) = [message for message in messages if message.startswith("Bought ahead")]
    assert used.reason in told
    pod = used.holder.rpartition("/")[2]
    wait_for(lambda: all(each["metadata"]["name"] != pod for each in cluster.pods()), "no pod left")
