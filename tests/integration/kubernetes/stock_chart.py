"""What Dagster's official chart would render, as far as tests need it; run, it stands in for helm.

``stock_chart.py upgrade RELEASE CHART ... -f VALUES`` applies the manifests with those values.
STOCK_CHART names a file with what the cluster at hand needs beside them: the chart itself cannot be
had by a test. Names, keys and defaults are those of the chart's documentation.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

Json = dict[str, Any]
VARIABLE = "STOCK_CHART"
NAMESPACE = "dagster"
HOME = "/opt/dagster/dagster_home"
STOCK_VALUES: Json = {
    "runLauncher": {
        "type": "CustomRunLauncher",
        "config": {
            "customRunLauncher": {
                "module": "dagster_k8s",
                "class": "K8sRunLauncher",
                "config": {
                    "load_incluster_config": True,
                    "job_namespace": NAMESPACE,
                    "service_account_name": "dagster",
                    "dagster_home": HOME,
                    "instance_config_map": "dagster-instance",
                    "postgres_password_secret": "dagster-postgresql-secret",
                    "env_config_maps": ["dagster-pipeline-env"],
                    "image_pull_policy": "IfNotPresent",
                },
            }
        },
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the chart is told of where it is installed.

    Attributes:
        image: of the user's code, as ``repository:tag``.
        database: of storage.postgres, its password by reference.
        password: of it.
        address: where the code server listens; clusters with DNS have a service's name instead.
        port: of it.
        context: the code location's container context for Kubernetes.
    """

    image: str
    database: Json
    password: str
    address: str
    port: int
    context: Json


def manifests(values: Mapping[str, Any], around: Surroundings) -> list[Json]:
    """Returns what is to be applied."""
    launcher = values["runLauncher"]["config"]["customRunLauncher"]
    instance = {
        "telemetry": {"enabled": False},
        "storage": {"postgres": {"postgres_db": around.database}},
        "run_coordinator": {"module": "dagster", "class": "QueuedRunCoordinator"},
        "run_launcher": launcher,
        "run_monitoring": {"enabled": True, "start_timeout_seconds": 300},
    }
    server = {"host": around.address, "port": around.port, "location_name": "flights"}
    workspace = {"load_from": [{"grpc_server": server}]}
    secret = base64.b64encode(around.password.encode()).decode()
    daemon = (values.get("dagsterDaemon") or {}).get("image") or {}
    image = f"{daemon['repository']}:{daemon['tag']}" if daemon else around.image
    user_code = ["dagster", "api", "grpc", "--host", "0.0.0.0", "--port", str(around.port)]
    user_code += ["--module-name", "cu_market.examples.flights.definitions"]
    run_daemon = ["dagster-daemon", "run", "-w", "/dagster-workspace/workspace.yaml"]
    return [
        _map("dagster-instance", {"dagster.yaml": json.dumps(instance)}),
        _map("dagster-workspace-yaml", {"workspace.yaml": json.dumps(workspace)}),
        _map("dagster-pipeline-env", {}),
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "dagster-postgresql-secret", "namespace": NAMESPACE},
            "data": {"postgresql-password": secret},
        },
        *_rights(),
        _deployment("dagster-user-code", around.image, user_code, around, is_on_host=True),
        _deployment("dagster-daemon", image, run_daemon, around, config=json.dumps(instance)),
    ]


def _map(name: str, data: Mapping[str, str]) -> Json:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(data)}


def _rights() -> list[Json]:
    """Returns the rights that the chart gives to its service account."""
    group = "rbac.authorization.k8s.io"
    metadata = {"name": "dagster-role", "namespace": NAMESPACE}
    rules: Sequence[Json] = (
        {"apiGroups": ["batch"], "resources": ["jobs", "jobs/status"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["pods", "pods/log", "pods/status"], "verbs": ["*"]},
        {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["list"]},
    )
    subject = {"kind": "ServiceAccount", "name": "dagster", "namespace": NAMESPACE}
    role = {"apiGroup": group, "kind": "Role", "name": "dagster-role"}
    head = {"apiVersion": f"{group}/v1", "metadata": metadata}
    return [
        {**head, "kind": "Role", "rules": list(rules)},
        {**head, "kind": "RoleBinding", "roleRef": role, "subjects": [subject]},
    ]


def _deployment(
    name: str,
    image: str,
    command: Sequence[str],
    around: Surroundings,
    *,
    is_on_host: bool = False,
    config: str = "",
) -> Json:
    context = around.context
    password = {"name": "dagster-postgresql-secret", "key": "postgresql-password"}
    env = [
        *pod_variables(context),
        {"name": "DAGSTER_HOME", "value": HOME},
        {"name": "DAGSTER_PG_PASSWORD", "valueFrom": {"secretKeyRef": password}},
        {"name": "DAGSTER_CURRENT_IMAGE", "value": around.image},
        {"name": "DAGSTER_CONTAINER_CONTEXT", "value": json.dumps({"k8s": context})},
    ]
    mounts = [
        {"name": "instance", "mountPath": f"{HOME}/dagster.yaml", "subPath": "dagster.yaml"},
        {"name": "workspace", "mountPath": "/dagster-workspace"},
        *({"name": m["name"], "mountPath": m["mount_path"]} for m in context["volume_mounts"]),
    ]
    volumes = [
        {"name": "instance", "configMap": {"name": "dagster-instance"}},
        {"name": "workspace", "configMap": {"name": "dagster-workspace-yaml"}},
        *(pod_volume(volume) for volume in context["volumes"]),
    ]
    container: Json = {"name": "dagster", "image": image, "command": list(command), "env": env}
    container |= {"imagePullPolicy": "IfNotPresent", "volumeMounts": mounts}
    if is_on_host:
        container["readinessProbe"] = {"tcpSocket": {"port": around.port}, "periodSeconds": 1}
    labels = {"app": name}
    spec = {
        "serviceAccountName": "dagster",
        "hostNetwork": is_on_host,
        "containers": [container],
        "volumes": volumes,
        "terminationGracePeriodSeconds": 5,
    }
    # A changed configuration makes new pods, as the chart's own checksum does.
    noted = {"checksum/dagster-instance": hashlib.sha256(config.encode()).hexdigest()}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels, "annotations": noted}, "spec": spec},
        },
    }


def pod_volume(volume: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a volume of a container context as a manifest has it."""
    if "host_path" in volume:
        return {"name": volume["name"], "hostPath": volume["host_path"]}
    return {"name": volume["name"], "secret": {"secretName": volume["secret"]["secret_name"]}}


def pod_variables(context: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns a container context's environment as a manifest has it."""
    pairs = (variable.split("=", 1) for variable in context["env_vars"])
    return [{"name": name, "value": value} for name, value in pairs]


def apply(values: Mapping[str, Any], around: Surroundings) -> None:
    """Has the cluster hold the manifests, and waits until their deployments are there."""
    documents = yaml.safe_dump_all(manifests(values, around))
    subprocess.run(["kubectl", "apply", "-f", "-"], input=documents, text=True, check=True)
    for name in ("dagster-user-code", "dagster-daemon"):
        subprocess.run(
            ["kubectl", "-n", NAMESPACE, "rollout", "status", f"deploy/{name}", "--timeout=120s"],
            check=True,
        )


def write_surroundings(path: Path, around: Surroundings) -> None:
    """Keeps them for the program that stands in for helm."""
    path.write_text(json.dumps(asdict(around)))


def main(arguments: Sequence[str]) -> None:
    """Does as ``helm upgrade RELEASE CHART --namespace NAME --reuse-values --wait -f FILE``."""
    verb, release, chart, *options = arguments
    assert (verb, release, chart) == ("upgrade", "dagster", "dagster/dagster")
    assert options[:4] == ["--namespace", NAMESPACE, "--reuse-values", "--wait"]
    assert options[4] == "-f"
    values = {**STOCK_VALUES, **yaml.safe_load(Path(options[5]).read_text())}
    around = Surroundings(**json.loads(Path(os.environ[VARIABLE]).read_text()))
    apply(values, around)


if __name__ == "__main__":
    main(sys.argv[1:])
