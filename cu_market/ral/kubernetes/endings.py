"""How a pod ended, told from its status: the API as witness."""

from __future__ import annotations

from typing import Any

from cu_market.ral.kubernetes.api import Json
from cu_market.ral.provider import EndKind, WorkerEnd

NODE_LOST_REASONS = frozenset({"NodeLost", "NodeShutdown", "Shutdown", "Terminated"})
HOPELESS_WAITS = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "ErrImageNeverPull",
        "ErrImagePull",
        "ImageInspectError",
        "ImagePullBackOff",
        "InvalidImageName",
        "RunContainerError",
    }
)
"""Reasons for which a container waits, and most likely will until somebody mends something."""


def container_status(pod: Json) -> Json:
    """Returns the status of the pod's first container, empty before there is one."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    name = pod["spec"]["containers"][0]["name"]
    found: Json = next((s for s in statuses if s["name"] == name), {})
    return found


def is_running(pod: Json) -> bool:
    """Whether the pod's first container runs."""
    return "running" in (container_status(pod).get("state") or {})


def end_of(pod: Json | None, *, is_gone: bool) -> WorkerEnd | None:
    """Returns how a pod has ended, or None while it lives.

    Args:
        pod: as last seen, or None where it was never seen.
        is_gone: whether the API has it no more.
    """
    if pod is None:
        return WorkerEnd(kind=EndKind.DELETED, detail="the pod is gone") if is_gone else None
    status = pod.get("status") or {}
    terminated = (container_status(pod).get("state") or {}).get("terminated")
    is_deleted = is_gone or bool(pod["metadata"].get("deletionTimestamp"))
    if not is_deleted and status.get("phase") not in ("Failed", "Succeeded"):
        return None
    code = terminated.get("exitCode") if terminated else None
    words = _words(pod, terminated)
    return WorkerEnd(kind=_kind(status, terminated, is_deleted), detail=words, exit_code=code)


def _kind(status: Json, terminated: Json | None, is_deleted: bool) -> EndKind:
    reason = status.get("reason") or ""
    for condition in status.get("conditions") or ():
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            reason = {
                "PreemptionByScheduler": "Preempted",
                "EvictionByEvictionAPI": "Evicted",
                "TerminationByKubelet": "Evicted",
                "DeletionByTaintManager": "NodeLost",
                "DeletionByPodGC": "NodeLost",
            }.get(condition.get("reason") or "", reason)
    if terminated and terminated.get("reason") == "OOMKilled" and terminated.get("exitCode"):
        return EndKind.OUT_OF_MEMORY
    if reason == "Preempted" or reason == "Preempting":
        return EndKind.PREEMPTED
    if reason == "Evicted":
        return EndKind.EVICTED
    if reason in NODE_LOST_REASONS:
        return EndKind.NODE_LOST
    return EndKind.DELETED if is_deleted else EndKind.EXITED


def _words(pod: Json, terminated: Json | None) -> str:
    status = pod.get("status") or {}
    parts = [f"pod {pod['metadata']['name']}"]
    if status.get("reason"):
        parts.append(f"{status['reason']}: {status.get('message') or ''}".strip(": "))
    for condition in status.get("conditions") or ():
        if condition.get("type") == "DisruptionTarget":
            parts.append(f"{condition.get('reason')}: {condition.get('message') or ''}".strip(": "))
    if terminated:
        said = f"{terminated.get('reason') or 'ended'}, exit code {terminated.get('exitCode')}"
        parts.append(f"{said} {terminated.get('message') or ''}".strip())
    if pod["metadata"].get("deletionTimestamp"):
        parts.append(f"deleted at {pod['metadata']['deletionTimestamp']}")
    return ", ".join(parts)


def waiting_words(pod: Json | None) -> str:
    """Returns why a pod does not run yet, in the cluster's own words."""
    if pod is None:
        return "the pod was not seen yet"
    status = pod.get("status") or {}
    waiting: dict[str, Any] = (container_status(pod).get("state") or {}).get("waiting") or {}
    if waiting.get("reason"):
        return f"{waiting['reason']}: {waiting.get('message') or ''}".strip(": ")
    for condition in status.get("conditions") or ():
        if condition.get("status") == "False" and condition.get("message"):
            return f"{condition.get('reason')}: {condition['message']}"
    return str(status.get("phase") or "Pending")


def is_hopeless(pod: Json | None) -> bool:
    """Whether the container waits for something that only a person can mend."""
    if pod is None:
        return False
    waiting = (container_status(pod).get("state") or {}).get("waiting") or {}
    return waiting.get("reason") in HOPELESS_WAITS
