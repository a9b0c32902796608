"""Where the steps of the holding job run, and their end: processes of this machine, or pods."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
from kubernetes_cluster import KubernetesCluster

from cu_market.ral.kubernetes.api import ClusterError


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldStep:
    """A step that has said that it runs.

    Attributes:
        pid: of its process, where it runs.
        host: this machine, or the pod's name.
        cluster: whose pods there may be, or None.
    """

    pid: int
    host: str
    cluster: KubernetesCluster | None

    def is_gone(self) -> bool:
        """Whether its process, or its pod, has ended."""
        if self.cluster is None or self.host == socket.gethostname():
            return not psutil.pid_exists(self.pid)
        try:
            pod = self.cluster.api.get(f"{self.cluster.path}/{self.host}")
        except ClusterError as error:
            if error.status != 404:
                raise
            return True
        return pod["status"]["phase"] in ("Succeeded", "Failed")

    def kill_worker(self) -> None:
        """Ends, without a word, the worker that has started it."""
        if self.cluster is None:
            worker = psutil.Process(self.pid).parent()
            assert worker is not None
            worker.kill()
        else:
            self.cluster.api.delete(f"{self.cluster.path}/{self.host}", grace_seconds=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldSteps:
    """The steps that have left their mark in a folder."""

    folder: Path
    cluster: KubernetesCluster | None

    def all(self) -> Mapping[str, HeldStep]:
        """Returns them by step key."""
        found = {}
        for path in self.folder.glob("holds_*.*"):
            step, pid, host = path.name.split(".", 2)
            found[step] = HeldStep(pid=int(pid), host=host, cluster=self.cluster)
        return found
