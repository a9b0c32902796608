"""Pods that are started ahead of the run that is to use them.

Such a pod is built as any other, of the last run of the job that it is expected for, and has its
code loaded. Nobody is connected to it: its process 1 ends it after ``disconnect_seconds``, unless
whoever started it greets it now and then. A run worker that takes it over writes its own marks on
it, and takes its session as one that follows another run worker does.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cu_market.ral.kubernetes.api import ClusterApi, ClusterError, Json
from cu_market.ral.kubernetes.config import KubernetesConfig
from cu_market.ral.kubernetes.endings import end_of, is_running
from cu_market.ral.kubernetes.exec_channel import ExecChannel
from cu_market.ral.kubernetes.host import SOCKET_PREFIX, TOKEN_VARIABLE
from cu_market.ral.kubernetes.making import PodMaker, new_token
from cu_market.ral.kubernetes.own_pods import OwnPods
from cu_market.ral.kubernetes.pods import (
    ATTEMPT_ANNOTATION,
    RUN_LABEL,
    STARTER_LABEL,
    STEP_ANNOTATION,
    code_annotation,
    starter_label,
    token_of,
)
from cu_market.ral.kubernetes.session import Session
from cu_market.ral.kubernetes.warm_pod import WarmPod
from cu_market.ral.provider import Standby, WorkerLaunch

NO_ENVIRONMENT: Mapping[str, str] = {}
GREETING_SECONDS = 5.0
"""How long process 1 may take to greet whoever looks after it."""


def fit_of_manifest(manifest: Mapping[str, Any]) -> str:
    """Returns a digest of what a pod is beside its name, its marks, its size and its session."""
    spec = json.loads(json.dumps(manifest["spec"]))
    container = spec["containers"][0]
    resources = container.pop("resources", {})
    container["env"] = [e for e in container.get("env") or () if e["name"] != TOKEN_VARIABLE]
    parts = (manifest["metadata"]["namespace"], spec, sorted(resources.get("limits") or ()))
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def described(launch: WorkerLaunch) -> WorkerLaunch:
    """Returns the launch without what only a worker that is started ahead is told."""
    return replace(launch, environment=NO_ENVIRONMENT)


def greeting(token: str) -> bytes:
    """Returns what process 1 is greeted with: refused once a run worker has taken the session."""
    session = Session(token, epoch=0)
    session.connected()
    return session.to_send()


def _token_of(pod: Json) -> str:
    """Returns what opens a pod's session.

    Raises:
        ClusterError: it is no pod of the market's.
    """
    token = token_of(pod)
    if token is None:
        raise ClusterError(f"pod {pod['metadata']['name']} has no {TOKEN_VARIABLE}")
    return token


class PodsAhead:
    """Starts pods that stand by, looks after them, and has run workers take them over.

    Args:
        api: the cluster's.
        provider: its name.
        config: its configuration.
        pods: its own.
        maker: makes them, and reaches those that are taken over.
    """

    def __init__(
        self,
        api: ClusterApi,
        provider: str,
        config: KubernetesConfig,
        *,
        pods: OwnPods,
        maker: PodMaker,
    ) -> None:
        self._api = api
        self._provider = provider
        self._pods = pods
        self._maker = maker
        self._python = config.python
        self._greet_seconds = config.disconnect_seconds / 3
        self._greeted: dict[str, float] = {}

    def fit(self, launch: WorkerLaunch) -> str:
        """Returns what tells pods apart beside their size.

        Raises:
            InvalidInputError: as PodMaker.manifest.
        """
        return fit_of_manifest(self._maker.manifest(described(launch), ""))

    def start(self, launch: WorkerLaunch) -> str:
        """Makes a pod that nobody is connected to; returns its holder.

        Raises:
            InvalidInputError: as PodMaker.manifest.
            ClusterError: refused, or the cluster does not answer.
        """
        assert launch.allocation is not None
        self._api.create(self._pods.path, self._maker.manifest(launch, new_token()))
        return self._pods.holder_of(launch.allocation)

    def look_after(self, holder: str) -> Standby:
        """Returns how a pod gets on; it is ready when its container runs.

        Raises:
            ClusterError: the cluster does not answer.
        """
        name = self._pods.name_of(holder)
        if name is None:
            return Standby.GONE
        pod = self._pods.read(name)
        if pod is None or end_of(pod, is_gone=False) is not None:
            self._greeted.pop(name, None)
            return Standby.GONE
        if not is_running(pod):
            return Standby.STARTING
        seen = self._greeted.setdefault(name, time.monotonic())
        if time.monotonic() - seen > self._greet_seconds:
            self._greeted[name] = time.monotonic()
            with contextlib.suppress(ClusterError):
                self._greet(pod)
        return Standby.READY

    def _greet(self, pod: Json) -> None:
        """Greets process 1 and leaves when it has answered: it waits anew from then."""
        token = _token_of(pod)
        channel = ExecChannel(
            self._api,
            namespace=str(pod["metadata"]["namespace"]),
            pod=str(pod["metadata"]["name"]),
            container=str(pod["spec"]["containers"][0]["name"]),
            python=self._python,
            name=f"{SOCKET_PREFIX}{token}",
        )
        with contextlib.closing(channel):
            channel.send(greeting(token))
            channel.is_readable(GREETING_SECONDS)

    def take_over(self, holder: str, launch: WorkerLaunch) -> WarmPod:
        """Returns the pod, which may not run yet, as the run's own.

        Raises:
            ClusterError: it has gone, or this process may not change it.
        """
        name = self._pods.name_of(holder)
        if name is None:
            raise ClusterError(f"{holder!r} is no pod of provider {self._provider!r}")
        pod = self._mark(name, launch)
        return self._maker.follow(holder, pod, _token_of(pod), launch, is_told=launch.is_adoptable)

    def _mark(self, name: str, launch: WorkerLaunch) -> Json:
        """Marks a pod as one that was started for the launch; returns it.

        Raises:
            ClusterError: it has gone, or may not be changed.
        """
        owner = self._maker.owner_for(launch)
        pod = self._api.get(f"{self._pods.path}/{name}")
        end = end_of(pod, is_gone=False)
        if end is not None:
            raise ClusterError(f"pod {name} has ended: {end.detail}")
        allocation = launch.allocation
        assert allocation is not None
        others = [
            each
            for each in pod["metadata"].get("ownerReferences") or ()
            if each.get("kind") != "Pod"  # whoever started it may go: it is this run's now
        ]
        marks = {
            "labels": {
                "dagster/run-id": launch.run_id,
                RUN_LABEL: launch.run_id,
                STARTER_LABEL: starter_label(launch.starter),
            },
            "annotations": {
                STEP_ANNOTATION: allocation.step_key,
                ATTEMPT_ANNOTATION: str(allocation.attempt),
                **code_annotation(launch),
            },
            "ownerReferences": [*others, *([dict(owner)] if owner is not None else [])],
        }
        return self._api.patch(f"{self._pods.path}/{name}", {"metadata": marks})
