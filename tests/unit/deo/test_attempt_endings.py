"""What an attempt's end means: told by its worker, after its step was or was not decided."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest

from cu_market.deo.executor import endings as module
from cu_market.deo.executor.endings import Endings
from cu_market.deo.executor.state import Attempt, RunState
from cu_market.deo.executor.workers import WorkerGone
from cu_market.ral.provider import EndKind, WorkerEnd

FRAME = {
    "measurement": {"wall_ms": 1, "cpu_ms": 1, "peak_memory_bytes": 1},
    "ending": "ok",
    "error": None,
    "finished": True,
    "exit_code": 0,
    "detail": "",
}


def a_run(*, is_decided: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[RunState, Attempt]:
    run = RunState(
        executor=MagicMock(),
        context=MagicMock(),
        active=MagicMock(),
        negotiation=MagicMock(),
        workers=MagicMock(),
        max_concurrent=1,
    )
    lease = MagicMock(fencing_token=7)
    attempt = Attempt(step_key="step", lease=lease, worker=MagicMock(), is_decided=is_decided)
    run.attempts[7] = attempt
    run.contexts["step"] = MagicMock()
    monkeypatch.setattr(module, "bill_event", MagicMock(return_value=("billed", MagicMock())))
    monkeypatch.setattr(module.DagsterEvent, "engine_event", MagicMock())
    return run, attempt


def test_the_end_of_a_decided_attempt_says_nothing_of_its_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # After STEP_UP_FOR_RETRY the step may have started again: a look at it now would find it in
    # flight, and abandon it.
    run, attempt = a_run(is_decided=True, monkeypatch=monkeypatch)
    list(Endings(run).end(attempt, FRAME))
    run.active.verify_complete.assert_not_called()
    run.negotiation.settle.assert_called_once()
    assert run.attempts == {}


def test_a_worker_that_says_finished_without_a_deciding_event_is_looked_into(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, attempt = a_run(is_decided=False, monkeypatch=monkeypatch)
    list(Endings(run).end(attempt, FRAME))
    run.active.verify_complete.assert_called_once_with(run.context, "step")


@pytest.mark.parametrize("kind", [EndKind.UNSTARTED, EndKind.NODE_LOST])
def test_a_lost_lease_is_kept_as_a_promise_broken_with_usage_only_where_it_began(
    kind: EndKind, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, attempt = a_run(is_decided=True, monkeypatch=monkeypatch)
    worker = MagicMock(streams={7}, is_ready=kind is not EndKind.UNSTARTED, rented="")
    end = WorkerEnd(kind=kind, detail="in the provider's words")
    gone = WorkerGone(worker=worker, exit_code=None, detail="closed", end=end)
    list(Endings(run).lose_worker(gone))
    released, settled = run.negotiation.leases.release, run.negotiation.settle
    if kind is EndKind.UNSTARTED:
        released.assert_called_once_with(attempt.lease, is_unstarted=True)
        settled.assert_not_called()
    else:
        released.assert_not_called()
        settled.assert_called_once()
    assert run.attempts == {}
