"""Every way in which a pod can end, as the API was seen to tell it, is told apart."""

from __future__ import annotations

from typing import Any

import pytest

from cu_market.ral.kubernetes.endings import end_of, is_hopeless, is_running, waiting_words
from cu_market.ral.provider import EndKind


def pod(state: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    metadata = {"name": "cu-1", **more.pop("metadata", {})}
    statuses = [] if state is None else [{"name": "dagster", "state": state}]
    return {
        "metadata": metadata,
        "spec": {"containers": [{"name": "dagster"}]},
        "status": {"phase": "Running", "containerStatuses": statuses, **more},
    }


def ended(code: int, reason: str) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason}}


DELETED = {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}
DISRUPTED = {"type": "DisruptionTarget", "status": "True"}


@pytest.mark.parametrize(
    ("seen", "is_gone", "kind", "code"),
    [
        (pod(ended(3, "Error"), phase="Failed"), False, EndKind.EXITED, 3),
        (pod(ended(128, "StartError"), phase="Failed"), False, EndKind.EXITED, 128),
        (pod(ended(137, "OOMKilled"), phase="Failed"), False, EndKind.OUT_OF_MEMORY, 137),
        # A forked child was killed for memory; process 1 lived on and ended well.
        (pod(ended(0, "OOMKilled"), phase="Succeeded"), False, EndKind.EXITED, 0),
        (pod(ended(137, "Error"), **DELETED), False, EndKind.DELETED, 137),
        (pod({"running": {}}, **DELETED), False, EndKind.DELETED, None),
        (pod({"running": {}}), True, EndKind.DELETED, None),
        (None, True, EndKind.DELETED, None),
        (pod(phase="Failed", reason="Evicted", message="low on memory"), False,
         EndKind.EVICTED, None),
        (pod(phase="Failed", reason="NodeLost"), False, EndKind.NODE_LOST, None),
        (pod(phase="Failed", reason="Preempting"), False, EndKind.PREEMPTED, None),
        (pod(conditions=[{**DISRUPTED, "reason": "PreemptionByScheduler"}], **DELETED), False,
         EndKind.PREEMPTED, None),
        (pod(conditions=[{**DISRUPTED, "reason": "EvictionByEvictionAPI"}], **DELETED), False,
         EndKind.EVICTED, None),
        (pod(conditions=[{**DISRUPTED, "reason": "DeletionByTaintManager"}], **DELETED), True,
         EndKind.NODE_LOST, None),
    ],
)  # fmt: skip
def test_ends(seen: Any, is_gone: bool, kind: EndKind, code: int | None) -> None:
    end = end_of(seen, is_gone=is_gone)
    assert end is not None
    assert (end.kind, end.exit_code) == (kind, code)


def test_a_living_pod_has_no_end() -> None:
    assert end_of(pod({"running": {}}), is_gone=False) is None
    assert end_of(pod(phase="Pending"), is_gone=False) is None
    assert end_of(None, is_gone=False) is None
    assert is_running(pod({"running": {}}))
    assert not is_running(pod({"waiting": {}}))


def test_the_clusters_own_words_are_kept() -> None:
    end = end_of(pod(phase="Failed", reason="Evicted", message="low on memory"), is_gone=False)
    assert end is not None
    assert "low on memory" in end.detail
    unschedulable = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/1 nodes are available: 1 Insufficient cpu.",
    }
    said = waiting_words(pod(phase="Pending", conditions=[unschedulable]))
    assert said == "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu."


def test_waits_that_only_a_person_can_end() -> None:
    pulling = pod({"waiting": {"reason": "ImagePullBackOff", "message": "not found"}})
    assert is_hopeless(pulling)
    assert waiting_words(pulling) == "ImagePullBackOff: not found"
    assert not is_hopeless(pod({"waiting": {"reason": "ContainerCreating"}}))
    assert not is_hopeless(None)
