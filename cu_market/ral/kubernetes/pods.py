"""Builds a warm pod by dagster-k8s's own means, so that what arrives in its steps arrives in ours.

The code location's container context, the provider's configuration and the step's
``dagster-k8s/config`` tag are merged as K8sStepHandler merges them; construct_dagster_k8s_job makes
a Job of it, whose template is the pod. The market sets on top what it has sold: requests, the
memory limit, the node pool, and the labels by which everything of its own is found again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from cu_market.domain.allocation import Allocation
from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.domain.resources import ResourceVector
from cu_market.ral.kubernetes.config import ChannelKind, KubernetesConfig
from cu_market.ral.kubernetes.host import CARRIER_VARIABLE, DISCONNECT_VARIABLE, TOKEN_VARIABLE
from cu_market.ral.kubernetes.pool import NodePool
from cu_market.ral.kubernetes.room import DEPLOYMENT_LABEL, POOL_LABEL, PROVIDER_LABEL
from cu_market.ral.provider import WorkerLaunch

RUN_LABEL = "cu-market/run-id"
STARTER_LABEL = "cu-market/started-by"
STEP_ANNOTATION = "cu-market/step"
ATTEMPT_ANNOTATION = "cu-market/attempt"
CODE_ANNOTATION = "cu-market/code-version"
"""Of pods that another run worker may adopt."""

HOST_ARGUMENTS = ("-m", "cu_market.ral.kubernetes.host")

TAGS = ("dagster-k8s/config", "dagster-k8s/resource_requirements", "dagster/image")
"""Step tags that make a pod another pod."""

_NAME_LENGTH = 63


def pod_name(allocation: Allocation) -> str:
    """Returns the pod's name: of run, step and ledger attempt, so that no attempt has two pods.

    Step keys are lossy as names (``work[a/b]``, 63 characters), so a digest stands for them.
    """
    key = f"{allocation.run_id}/{allocation.step_key}/{allocation.attempt}"
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    step = "".join(c if c.isascii() and c.isalnum() else "-" for c in allocation.step_key.lower())
    head = f"cu-{allocation.run_id[:8]}-{step.strip('-')}"
    return f"{head[: _NAME_LENGTH - 17].rstrip('-')}-{digest}"


def starter_label(holder: str) -> str:
    """Returns the label value that stands for the process which started a pod."""
    return hashlib.sha256(holder.encode()).hexdigest()[:32]


def pod_size(config: KubernetesConfig, size: ResourceVector) -> ResourceVector:
    """Returns what the pod asks the scheduler for: the lease, and the worker's own memory."""
    return size + ResourceVector(memory_bytes=config.worker_memory)


def token_of(pod: Mapping[str, Any]) -> str | None:
    """Returns what opens the session with a pod's process 1: its environment's word, which those
    may read who may exec in it."""
    return _variable(pod, TOKEN_VARIABLE)


def carrier_of(pod: Mapping[str, Any]) -> str | None:
    """Returns the program that carries a pod's channel; None where exec does."""
    return _variable(pod, CARRIER_VARIABLE)


def _variable(pod: Mapping[str, Any], name: str) -> str | None:
    environment = pod["spec"]["containers"][0].get("env") or ()
    return next((e.get("value") for e in environment if e["name"] == name), None)


def is_adoptable(pod: Mapping[str, Any], launch: WorkerLaunch, deployment: str) -> bool:
    """Returns whether a pod is of the same run, deployment and code as what would be launched, and
    was meant to outlive its run worker."""
    labels = pod["metadata"].get("labels") or {}
    annotations = pod["metadata"].get("annotations") or {}
    return (
        labels.get(RUN_LABEL) == launch.run_id
        and labels.get(DEPLOYMENT_LABEL) == deployment
        and annotations.get(CODE_ANNOTATION) == launch.code_version != ""
    )


def code_annotation(launch: WorkerLaunch) -> Mapping[str, str]:
    """Returns what says that a pod may be adopted, and by a run worker of which code, if it may."""
    is_said = launch.is_adoptable and launch.code_version
    return {CODE_ANNOTATION: launch.code_version} if is_said else {}


def build_pod(
    launch: WorkerLaunch,
    config: KubernetesConfig,
    pool: NodePool,
    *,
    provider: str,
    token: str,
    is_cpu_limited: bool,
    owner: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Returns a pod's manifest.

    Args:
        launch: with the allocation of the first step.
        config: the provider's.
        pool: whose nodes.
        provider: its name.
        token: opens the session with process 1.
        is_cpu_limited: whether the cores are a limit too.
        owner: an owner reference, or None.

    Raises:
        InvalidInputError: no image, or a tag that Dagster cannot read.
    """
    from dagster_k8s.job import construct_dagster_k8s_job
    from kubernetes.client import ApiClient

    allocation = launch.allocation
    assert allocation is not None
    name = pod_name(allocation)
    context, job_config = _inherited(launch, config)
    job = construct_dagster_k8s_job(
        job_config,
        args=None,
        job_name=name,
        pod_name=name,
        component="step_worker",
        user_defined_k8s_config=_merged_config(context, launch, config),
        labels={"dagster/run-id": launch.run_id},
    )
    manifest: dict[str, Any] = ApiClient().sanitize_for_serialization(job.spec.template)
    manifest.update(apiVersion="v1", kind="Pod")
    _mark(manifest["metadata"], launch, config, pool, provider)
    if owner is not None:
        named = manifest["metadata"].get("ownerReferences") or ()
        manifest["metadata"]["ownerReferences"] = [*named, dict(owner)]
    _set_spec(manifest["spec"], pool)
    _set_container(manifest["spec"]["containers"][0], launch, config, token)
    size = pod_size(config, allocation.size)
    _set_resources(manifest["spec"]["containers"][0], size, pool, is_cpu_limited)
    return manifest


def _inherited(launch: WorkerLaunch, config: KubernetesConfig) -> tuple[Any, Any]:
    """Returns what the code location and a K8sRunLauncher give to every step of the run.

    Without such a launcher there is a container context of the code location only: create_for_run
    works with any launcher, get_k8s_job_config with dagster-k8s's own alone (0.29).
    """
    from dagster_k8s import K8sRunLauncher
    from dagster_k8s.container_context import K8sContainerContext
    from dagster_k8s.job import DagsterK8sJobConfig

    launcher = launch.instance.run_launcher if launch.instance is not None else None
    if not config.inherit or not isinstance(launcher, K8sRunLauncher):
        launcher = None
    context = K8sContainerContext()
    if config.inherit and launch.run is not None:
        context = K8sContainerContext.create_for_run(
            launch.run,
            launcher,
            include_run_tags=False,  # those are the run worker's
        )
    image = _image(launch, config, launcher)
    if launcher is not None:
        return context, context.get_k8s_job_config(image, launcher)
    return context, DagsterK8sJobConfig(
        job_image=image, image_pull_policy="IfNotPresent", dagster_home=None
    )


def _image(launch: WorkerLaunch, config: KubernetesConfig, launcher: Any) -> str:
    origin = getattr(launch.run, "job_code_origin", None)
    image = (
        launch.tags.get("dagster/image")
        or config.image
        or (origin.repository_origin.container_image if origin is not None else None)
        or (launcher.job_image if launcher is not None else None)
    )
    if not image:
        what = "no image: the code location names none"
        remedy = "set the provider's image, or DAGSTER_CURRENT_IMAGE in the code location"
        raise InvalidInputError([Problem(where="image", value="", what=what, remedy=remedy)])
    return str(image)


def _merged_config(context: Any, launch: WorkerLaunch, config: KubernetesConfig) -> Any:
    from dagster_k8s.container_context import K8sContainerContext
    from dagster_k8s.job import get_user_defined_k8s_config

    own = K8sContainerContext.create_from_config({"k8s": dict(config.config)})
    try:
        step = get_user_defined_k8s_config(
            {name: value for name, value in launch.tags.items() if name.startswith("dagster-k8s/")}
        )
    except Exception as error:
        raise InvalidInputError(
            [
                Problem(
                    where="dagster-k8s/config",
                    value=str(dict(launch.tags)),
                    what=str(error).strip(),
                    remedy="write what dagster-k8s accepts",
                )
            ]
        ) from error
    refined = context.merge(own).merge(K8sContainerContext(run_k8s_config=step))
    return refined.run_k8s_config


def _mark(
    metadata: dict[str, Any],
    launch: WorkerLaunch,
    config: KubernetesConfig,
    pool: NodePool,
    provider: str,
) -> None:
    allocation = launch.allocation
    assert allocation is not None
    metadata["namespace"] = config.namespace
    metadata["labels"] = {
        **(metadata.get("labels") or {}),
        DEPLOYMENT_LABEL: config.deployment,
        RUN_LABEL: launch.run_id,
        PROVIDER_LABEL: provider,
        POOL_LABEL: pool.name,
        STARTER_LABEL: starter_label(launch.starter),
    }
    metadata["annotations"] = {
        **(metadata.get("annotations") or {}),
        STEP_ANNOTATION: allocation.step_key,
        ATTEMPT_ANNOTATION: str(allocation.attempt),
        # An autoscaler must not move a step that is running.
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
        **code_annotation(launch),
    }


def _set_spec(spec: dict[str, Any], pool: NodePool) -> None:
    spec["restartPolicy"] = "Never"
    spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), **pool.node_selector}
    spec["tolerations"] = [*(spec.get("tolerations") or ()), *map(dict, pool.tolerations)]
    spec.setdefault("terminationGracePeriodSeconds", 15)


def _set_container(
    container: dict[str, Any], launch: WorkerLaunch, config: KubernetesConfig, token: str
) -> None:
    container["command"] = [config.python, *HOST_ARGUMENTS, *launch.arguments]
    container.pop("args", None)
    if config.working_directory is not None:
        container["workingDir"] = config.working_directory
    own = {
        **launch.environment,
        TOKEN_VARIABLE: token,
        DISCONNECT_VARIABLE: f"{config.disconnect_seconds:g}",
        "PYTHONUNBUFFERED": "1",
    }
    if config.channel is ChannelKind.DATABASE and launch.carrier is not None:
        own |= {CARRIER_VARIABLE: launch.carrier.program, **launch.carrier.environment}
    kept = [each for each in container.get("env") or () if each["name"] not in own]
    container["env"] = [*kept, *({"name": name, "value": value} for name, value in own.items())]


def _set_resources(
    container: dict[str, Any], size: ResourceVector, pool: NodePool, is_cpu_limited: bool
) -> None:
    """Sets what was sold; what the market does not sell (scratch storage, devices) stays."""
    resources = container.get("resources") or {}
    sold = {"cpu", "memory", pool.gpu_resource}
    requests = {k: v for k, v in (resources.get("requests") or {}).items() if k not in sold}
    limits = {k: v for k, v in (resources.get("limits") or {}).items() if k not in sold}
    memory, cpu = str(size.memory_bytes), f"{size.cpu_millis}m"
    requests |= {"cpu": cpu, "memory": memory}
    limits |= {"memory": memory}
    if is_cpu_limited:
        limits["cpu"] = cpu
    if size.gpu_count:
        requests[pool.gpu_resource] = limits[pool.gpu_resource] = str(size.gpu_count)
    container["resources"] = {"requests": requests, "limits": limits}
