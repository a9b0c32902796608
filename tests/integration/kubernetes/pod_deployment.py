"""A deployment whose steps go to pods: its configuration, and what tests ask of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dagster import DagsterEventType, DagsterInstance, DagsterRunStatus
from kubernetes_cluster import KubernetesCluster, wait_for
from postgres_server import PASSWORD_VARIABLE, PostgresServer

from cu_market.dagster_compat.submission import submit_job
from cu_market.deo.settings import instance_settings
from cu_market.domain.allocation import FINAL, Allocation, AllocationState
from cu_market.market.opening import open_instance_ledger

SIGNALS_VARIABLE = "CU_MARKET_TEST_SIGNALS"


class Deployment:
    """A home on PostgreSQL with a running daemon and an open workspace."""

    def __init__(
        self, instance: DagsterInstance, workspace: Any, home: Path, cluster: KubernetesCluster
    ) -> None:
        self.instance = instance
        self.workspace = workspace
        self.cluster = cluster
        self.signals = home / "signals"
        self.ledger = open_instance_ledger(instance_settings(instance), str(home))

    def submit(self, job: str) -> str:
        return submit_job(self.instance, self.workspace, location_name="tests", job_name=job)

    def finish(self, run_id: str, seconds: float = 120) -> DagsterRunStatus:
        """Returns the run's status at its end."""
        wait_for(lambda: self.run(run_id).is_finished, "the run's end", seconds)
        return self.run(run_id).status

    def run(self, run_id: str) -> Any:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run

    def messages(self, run_id: str) -> list[str]:
        return [entry.message for entry in self.instance.all_logs(run_id)]

    def events(self, run_id: str, kind: DagsterEventType) -> list[str | None]:
        """Returns the step keys of a run's events of a kind, in order."""
        return [entry.step_key for entry in self.instance.all_logs(run_id, of_type=kind)]

    def rows(self, run_id: str, step_key: str | None = None) -> list[Allocation]:
        """Returns a run's ledger rows, oldest attempt first."""
        rows = self.ledger.allocations(run_id=run_id)
        kept = [row for row in rows if step_key in (None, row.step_key)]
        return sorted(kept, key=lambda row: (row.step_key, row.attempt))

    def running_pod(self, run_id: str, step_key: str, seconds: float = 60) -> str:
        """Returns the name of the pod in which a step has begun to run."""
        wait_for(lambda: (self.signals / f"{run_id}.{step_key}").exists(), step_key, seconds)

        def holder() -> str | None:
            held = self.ledger.allocations(run_id=run_id, states=[AllocationState.ACCEPTED])
            return next((row.holder for row in held if row.step_key == step_key), None)

        # The step's first word is on its way to the run worker for longer than to its own disk.
        return str(wait_for(holder, "that the run worker knows")).rpartition("/")[2]

    def release(self, run_id: str) -> None:
        """Lets the run's waiting steps end."""
        (self.signals / f"{run_id}.go").touch()

    def assert_nothing_left(self, run_id: str) -> None:
        """No pod in the cluster; every row final, each attempt billed once at most."""
        wait_for(
            lambda: self.cluster.pods(f"cu-market/run-id={run_id}") == [], "no pod of the run's"
        )
        wait_for(lambda: all(r.state in FINAL for r in self.rows(run_id)), "final rows")
        billed = [(u.step_key, u.attempt) for u in self.ledger.usages(run_id=run_id)]
        assert len(billed) == len(set(billed))


def dagster_yaml(
    cluster: KubernetesCluster,
    server: PostgresServer,
    providers: Mapping[str, Any],
    in_pods: Mapping[str, Any] | None = None,
) -> str:
    """Returns a dagster.yaml whose storage both this machine and pods reach.

    Args:
        cluster: whose pods.
        server: of runs, events and ledger.
        providers: who sells.
        in_pods: the Kubernetes launcher's configuration where run workers are pods too.
    """
    config: dict[str, Any] = {"market": {"providers": providers, "bid_deadline_seconds": 10}}
    launcher = {
        "module": "cu_market",
        "class": "MarketRunLauncher" if in_pods is None else "MarketK8sRunLauncher",
        "config": config | dict(in_pods or {}),
    }
    return json.dumps(
        {
            "telemetry": {"enabled": False},
            "storage": {"postgres": ledger_reference(cluster, server)},
            "run_launcher": launcher,
            "run_monitoring": {
                "enabled": True,
                "poll_interval_seconds": 5,
                # Only a launcher that can resume a run accepts any.
                "max_resume_run_attempts": 0 if in_pods is None else 3,
            },
        }
    )


def ledger_reference(cluster: KubernetesCluster, server: PostgresServer) -> dict[str, Any]:
    """Returns how a dagster.yaml names a new database that both this machine and pods reach."""
    return {
        "postgres_db": {
            "hostname": cluster.host_address,
            "port": server.port,
            "username": "postgres",
            "password": {"env": PASSWORD_VARIABLE},
            "db_name": server.create_database(),
            "scheme": "postgresql+psycopg2",
        }
    }


def launcher_options(cluster: KubernetesCluster, home: Path) -> dict[str, Any]:
    """Returns what a Kubernetes launcher needs for run workers in the tests' namespace."""
    kubeconfig = home / "kubeconfig"
    kubeconfig.write_bytes(Path(os.environ["KUBECONFIG"]).read_bytes())
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"  # the launcher calls `dagster`
    options = cluster.options()
    return {
        "service_account_name": "default",
        "instance_config_map": cluster.config_map(),
        "dagster_home": "/opt/dagster_home",
        "job_image": options["image"],
        "job_namespace": cluster.namespace,
        "load_incluster_config": False,
        "kubeconfig_file": str(kubeconfig),
        "resources": {"requests": {"cpu": "250m"}},
        **options["config"],
        "env_vars": [
            PASSWORD_VARIABLE,
            SIGNALS_VARIABLE,
            f"PATH={path}",
            f"KUBECONFIG={kubeconfig}",
            "OMP_NUM_THREADS=1",
        ],
    }


def pod_options(cluster: KubernetesCluster, **more: Any) -> dict[str, Any]:
    """Returns a provider whose pods have what the tests' jobs read."""
    options = cluster.options(**more)
    names: Sequence[str] = (PASSWORD_VARIABLE, SIGNALS_VARIABLE)
    options["config"] = {**options["config"], "env_vars": list(names)}
    return options
