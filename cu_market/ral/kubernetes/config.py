"""What may be written about a kubernetes provider in a configuration, read into integers.

Credentials are never in it: a kubeconfig, or the pod's own service account, has them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.domain.resources import ResourceVector
from cu_market.ral.kubernetes.pool import NVIDIA_GPU, Autoscale, NodePool
from cu_market.ral.options import problem_of, refuse
from cu_market.ral.terms import Bytes, Cores, ElasticTerms, SizeClass, Usd

_NAME = re.compile(r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")


def _label(value: object) -> str:
    if not isinstance(value, str) or not _NAME.match(value):
        raise refuse("not a name that can be a label", "write letters, digits, '.', '_', '-'")
    return value


_Label = Annotated[str, BeforeValidator(_label)]
_Seconds = Annotated[float, Field(gt=0, le=86_400)]


class ChannelKind(StrEnum):
    """How a pod's process 1 is reached: by exec through the API server, or by the ledger's
    database, where exec is not allowed."""

    EXEC = "exec"
    DATABASE = "database"


class GpuConfig(BaseModel):
    """A pool's GPUs: their name, what the device plugin calls them, dollars an hour for one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str = Field(min_length=1)
    resource: str = NVIDIA_GPU
    usd_per_hour: Usd = 0


class AutoscaleConfig(BaseModel):
    """What a cluster autoscaler may add: nodes at most, and one node's allocatable room."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_nodes: int = Field(ge=1)
    cores: Cores
    memory: Bytes
    gpus: int = Field(default=0, ge=0)
    startup_seconds: _Seconds = 120.0

    def record(self) -> Autoscale:
        """Returns the same as a record."""
        return Autoscale(
            max_nodes=self.max_nodes,
            size=ResourceVector(
                cpu_millis=self.cores, memory_bytes=self.memory, gpu_count=self.gpus
            ),
            startup_ms=round(1000 * self.startup_seconds),
        )


class PodSize(SizeClass):
    """One size of pods that a pool sells."""

    gpus: int = Field(default=0, ge=0)

    def size(self) -> ResourceVector:
        """Returns the same as a record."""
        return replace(super().size(), gpu_count=self.gpus)


class PoolConfig(ElasticTerms):
    """One node pool as written: a name, its terms, and its nodes."""

    name: _Label
    size_classes: tuple[PodSize, ...] = ()
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[dict[str, Any]] = Field(default_factory=list)
    spot: bool = False
    interruptions_per_hour: float = Field(default=0.0, ge=0, le=1000)
    startup_seconds: _Seconds = 5.0
    gpu: GpuConfig | None = None
    autoscale: AutoscaleConfig | None = None

    @model_validator(mode="after")
    def _has_the_gpus_that_it_sells(self) -> Self:
        if self.gpu is None and any(each.gpus for each in self.size_classes):
            raise refuse("a size class has GPUs, the pool none", "write gpu: {type: ...}")
        return self

    def record(self) -> NodePool:
        """Returns the same as a record."""
        return NodePool(
            name=self.name,
            rates=self.rates(self.gpu.usd_per_hour if self.gpu else 0),
            node_selector=self.node_selector,
            tolerations=tuple(self.tolerations),
            is_spot=self.spot,
            interruption_millis_per_hour=round(1000 * self.interruptions_per_hour),
            gpu_type=self.gpu.type if self.gpu else None,
            gpu_resource=self.gpu.resource if self.gpu else NVIDIA_GPU,
            autoscale=self.autoscale.record() if self.autoscale else None,
            startup_ms=round(1000 * self.startup_seconds),
            congestion_permille=self.congestion_permille,
        )


class KubernetesConfig(BaseModel):
    """The provider's options.

    Attributes:
        context: of the kubeconfig; None: its current one, or in a pod the own service account.
        kubeconfig: a path, or ``{env: NAME}`` of one; None: KUBECONFIG or the home directory's.
        namespace: where the pods are made.
        pools: at least one, each with its own name.
        location: the place's name; None: the provider's name.
        egress_usd_per_gb: dollars for a GB taken from there to another location.
        network_mbps: bandwidth to other locations; 0 where unknown.
        offer_valid_seconds: an offer ends so long after it was made; None: never.
        image: of the pods; None: the code location's, else the launcher's.
        inherit: whether what the code location and a Kubernetes launcher give to steps (secrets,
            volumes, service account) reaches these pods: not where it is another cluster.
        python: the interpreter in the image.
        working_directory: in the pod; None: the image's own.
        worker_memory: bytes beside each step's: interpreter, libraries, loaded code.
        cpu_limit: whether a step is held to the cores that it pays; else it may use idle ones.
        pending_seconds: a pod that does not run by then is a withdrawn bid.
        keep: whether a pod takes further steps; else each step has one of its own.
        idle_seconds: a pod without a step ends after it.
        disconnect_seconds: a pod that no run worker has reached for so long ends itself.
        deployment: marks this deployment's pods, where several share a namespace.
        channel: ``exec``, or ``database`` where pods/exec is not granted.
        config: the same keys as Dagster's own container context for Kubernetes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    context: str | None = None
    kubeconfig: str | dict[str, str] | None = None
    namespace: _Label = "default"
    pools: tuple[PoolConfig, ...] = Field(min_length=1)
    location: str | None = None
    egress_usd_per_gb: float = Field(default=0, ge=0, le=1000)
    network_mbps: int = Field(default=0, ge=0)
    offer_valid_seconds: _Seconds | None = None
    image: str | None = None
    inherit: bool = True
    python: str = "python"
    working_directory: str | None = None
    worker_memory: Bytes = 384 * 2**20
    cpu_limit: bool = False
    pending_seconds: _Seconds = 120.0
    keep: bool = True
    idle_seconds: _Seconds = 30.0
    disconnect_seconds: _Seconds = 300.0
    deployment: _Label = "default"
    channel: ChannelKind = ChannelKind.EXEC
    config: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_are_unique(self) -> KubernetesConfig:
        names = [pool.name for pool in self.pools]
        doubles = sorted({name for name in names if names.count(name) > 1})
        if doubles:
            said = f"two pools with one name: {', '.join(doubles)}"
            raise refuse(said, "give each pool its own name")
        return self

    def kubeconfig_path(self) -> str | None:
        """Returns the path, a reference to the environment followed.

        Raises:
            InvalidInputError: the variable is not set.
        """
        if not isinstance(self.kubeconfig, dict):
            return self.kubeconfig
        name = self.kubeconfig.get("env", "")
        if not os.environ.get(name):
            what = "this environment variable is not set"
            remedy = "set it to the kubeconfig's path, or leave kubeconfig out"
            raise InvalidInputError(
                [Problem(where="kubeconfig.env", value=name, what=what, remedy=remedy)]
            )
        return os.environ[name]


def read_config(name: str, options: Mapping[str, object]) -> KubernetesConfig:
    """Returns the checked configuration of the provider of that name.

    Raises:
        InvalidInputError: every problem in it.
    """
    where = f"provider {name!r}"
    try:
        read = KubernetesConfig.model_validate(
            {key: value for key, value in options.items() if value is not None}
        )
    except ValidationError as error:
        found = error.errors()
        in_pools = any(len(e["loc"]) > 1 for e in found)
        # Pools that cannot be read are left out before they are counted: no second problem.
        told = [e for e in found if not (in_pools and e["type"] == "too_short")]
        raise InvalidInputError(_problem(where, e) for e in told) from error
    _check_container_context(where, read.config)
    return read


def _check_container_context(where: str, config: Mapping[str, Any]) -> None:
    """Raises InvalidInputError with what Dagster says of a container context it cannot read."""
    if not config:
        return
    from dagster_k8s.container_context import K8sContainerContext

    try:
        K8sContainerContext.create_from_config({"k8s": dict(config)})
    except Exception as error:
        raise InvalidInputError(
            [
                Problem(
                    where=f"{where}: config",
                    value=", ".join(config),
                    what=str(error).strip(),
                    remedy="write the keys of Dagster's container_context.k8s",
                )
            ]
        ) from error


_NESTED: dict[str, type[BaseModel]] = {
    "pools": PoolConfig,
    "gpu": GpuConfig,
    "autoscale": AutoscaleConfig,
    "size_classes": PodSize,
}
_REMEDIES = {
    "too_short": "write at least one",
    "bool_type": "write true or false",
    "enum": "write one of them",
}


def _problem(where: str, error: ErrorDetails) -> Problem:
    otherwise = "see docs/kubernetes.md"
    return problem_of(
        where, error, KubernetesConfig, _NESTED, remedies=_REMEDIES, otherwise=otherwise
    )
