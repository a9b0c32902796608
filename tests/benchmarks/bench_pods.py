"""Seconds a step of twenty trivial ops in pods, from the run's start to its last STEP_SUCCESS.

``python tests/benchmarks/bench_pods.py [--rounds 3]``: k8s_job_executor, the market with warm pods
and the market with a pod for each step in turn, each reached by exec and through the database, two
at a time, on PostgreSQL; the pods' start and the code's load included. ``kept``: the same warm
run's seconds a step once its pods are warm. ``--ways warm,warm_database`` runs these alone.
CPU-seconds a step beside each: of this process and, where this machine is the node, of its pods.
Needs a cluster; see tests/servers/kubernetes_cluster.py. Medians as one JSON line on stdout.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "servers"))

from dagster import DagsterEventType, DagsterInstance, execute_job
from dagster._core.definitions.reconstruct import ReconstructableRepository
from execution import HERE, event_times, progress
from kubernetes_cluster import KubernetesCluster, why_not
from postgres_server import PASSWORD, PostgresServer, find_binaries
from step_start_job import OPS

PASSWORD_VARIABLE = "CU_MARKET_TEST_POSTGRES_PASSWORD"
REFERENCE = "k8s_job_executor"
CONFIG_MAP = "dagster-instance"
WAYS = {
    REFERENCE: ("k8s_job_ops", "pod_step_jobs.py", {}),
    "warm": ("trivial_ops", "step_start_job.py", {"keep": True}),
    "cold": ("trivial_ops", "step_start_job.py", {"keep": False}),
    "warm_database": ("trivial_ops", "step_start_job.py", {"keep": True, "channel": "database"}),
    "cold_database": ("trivial_ops", "step_start_job.py", {"keep": False, "channel": "database"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one run, a step: seconds; CPU-seconds of the run worker and the pods, None if unknown."""

    seconds: float
    kept_seconds: float | None
    cpu_seconds: float
    pods_cpu_seconds: float | None


def instance_config(
    cluster: KubernetesCluster, server: PostgresServer, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns a dagster.yaml whose launcher both executors can work with."""
    postgres = {
        "hostname": cluster.host_address,
        "port": server.port,
        "username": "postgres",
        "password": {"env": PASSWORD_VARIABLE},
        "db_name": server.create_database(),
        "scheme": "postgresql+psycopg2",
    }
    provider = cluster.options(inherit=True, **options)
    pods = {**provider.pop("config")}
    path = f"PATH={Path(sys.executable).parent}:/usr/bin:/bin"  # k8s_job_executor calls `dagster`
    launcher = {
        "service_account_name": "default",
        "instance_config_map": CONFIG_MAP,
        "dagster_home": "/opt/dagster_home",
        "job_image": provider["image"],
        "job_namespace": cluster.namespace,
        "load_incluster_config": False,
        "kubeconfig_file": os.environ["KUBECONFIG"],
        "env_vars": [f"{PASSWORD_VARIABLE}={PASSWORD}", path, "OMP_NUM_THREADS=1"],
        **pods,
        "market": {
            "providers": {"cluster": provider},
            "bid_deadline_seconds": 10,
            "defaults": {"cpu": 0.5, "memory": "256MiB"},
        },
    }
    return {
        "telemetry": {"enabled": False},
        "storage": {"postgres": {"postgres_db": postgres}},
        "run_launcher": {
            "module": "cu_market",
            "class": "MarketK8sRunLauncher",
            "config": launcher,
        },
    }


@contextmanager
def fresh_instance(config: Mapping[str, Any]) -> Iterator[DagsterInstance]:
    """Yields an instance of its own home, removed afterwards."""
    home = tempfile.mkdtemp(prefix="cu_market_bench_", dir="/tmp")
    Path(home, "dagster.yaml").write_text(json.dumps(config))
    os.environ["DAGSTER_HOME"] = home
    os.environ[PASSWORD_VARIABLE] = PASSWORD
    try:
        with DagsterInstance.get() as instance:
            yield instance
    finally:
        shutil.rmtree(home, ignore_errors=True)


def pods_cpu_seconds() -> float | None:
    """Returns CPU-seconds of all pods of this machine so far, or None where it is no node."""
    for path, per_second in (
        ("/sys/fs/cgroup/cpu,cpuacct/kubepods/cpuacct.usage", 1e9),
        ("/sys/fs/cgroup/cpuacct/kubepods/cpuacct.usage", 1e9),
        ("/sys/fs/cgroup/kubepods/cpu.stat", 1e6),
        ("/sys/fs/cgroup/kubepods.slice/cpu.stat", 1e6),
    ):
        if Path(path).exists():
            return int(Path(path).read_text().split("\n")[0].split()[-1]) / per_second
    return None


def run_once(instance: DagsterInstance, job: str, file: str) -> Cost:
    """Runs a job; returns what a step of it has cost."""
    config = {"execution": {"config": {"max_concurrent": 2}}}
    if job == "trivial_ops":
        config = {"execution": {"config": {"market": {"max_concurrent": 2}}}}
    else:
        config["execution"]["config"]["image_pull_policy"] = "Never"  # type: ignore[assignment]
    repository = ReconstructableRepository.for_file(str(HERE / file), "defs", str(HERE))
    own, pods = time.process_time(), pods_cpu_seconds()
    result = execute_job(repository.get_reconstructable_job(job), instance, run_config=config)
    if not result.success:
        raise RuntimeError(f"{job} failed")
    began = event_times(instance, result.run_id, DagsterEventType.RUN_START)[0]
    ended = event_times(instance, result.run_id, DagsterEventType.STEP_SUCCESS)
    assert len(ended) == OPS
    warm_at = [
        entry.timestamp
        for entry in instance.all_logs(result.run_id)
        if "is warm and" in entry.message
    ]
    kept = [moment for moment in ended if warm_at and moment > max(warm_at)]
    kept_seconds = (kept[-1] - kept[0]) / (len(kept) - 1) if len(kept) > OPS // 2 else None
    pods_after = pods_cpu_seconds()
    is_known = pods is not None and pods_after is not None
    return Cost(
        seconds=(ended[-1] - began) / OPS,
        kept_seconds=kept_seconds,
        cpu_seconds=(time.process_time() - own) / OPS,
        pods_cpu_seconds=(pods_after - pods) / OPS if is_known else None,
    )


def main() -> int:
    """Prints the medians; 3 where there is no cluster."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", default=",".join(WAYS))
    said = parser.parse_args()
    rounds, ways = said.rounds, {way: WAYS[way] for way in said.ways.split(",")}
    reason = why_not() or (None if find_binaries() else "no PostgreSQL is installed here")
    if reason:
        progress(reason)
        return 3
    logging.getLogger("dagster").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="Unverified HTTPS")
    found: dict[str, list[Cost]] = {way: [] for way in ways}
    cluster = KubernetesCluster()
    cluster.config_map(CONFIG_MAP)
    try:
        with PostgresServer(listen=("127.0.0.1", cluster.host_address)) as server:
            for number in range(1, rounds + 1):
                for way, (job, file, options) in ways.items():
                    with fresh_instance(instance_config(cluster, server, options)) as instance:
                        cost = run_once(instance, job, file)
                    found[way].append(cost)
                    progress(f"round {number}: {way}: {cost}")
    finally:
        cluster.close()
    print(json.dumps(summary(found, rounds)))
    return 0


def summary(found: Mapping[str, list[Cost]], rounds: int) -> dict[str, Any]:
    """Returns medians, and each way's ratio to k8s_job_executor where that ran."""
    seconds = {way: median(cost.seconds for cost in costs) for way, costs in found.items()}
    told: dict[str, Any] = {"rounds": rounds}
    for way, costs in found.items():
        told[f"{way}_seconds_per_step"] = round(seconds[way], 3)
        told[f"{way}_cpu_seconds_per_step"] = round(median(c.cpu_seconds for c in costs), 3)
        pods = [c.pods_cpu_seconds for c in costs if c.pods_cpu_seconds is not None]
        told[f"{way}_pods_cpu_seconds_per_step"] = round(median(pods), 3) if pods else None
        kept = [c.kept_seconds for c in costs if c.kept_seconds is not None]
        if kept:
            told[f"{way}_kept_seconds_per_step"] = round(median(kept), 3)
    reference = seconds.get(REFERENCE)
    if reference is not None:
        told |= {f"{w}_ratio": round(s / reference, 3) for w, s in seconds.items()}
    return told


if __name__ == "__main__":
    sys.exit(main())
