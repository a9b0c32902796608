"""What a run worker finds that takes over: what it adopts, and what it ends."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import MagicMock

import pytest
from dagster import DagsterEventType, EventLogEntry
from ledger_rows import ONE_CU, T0, an_award
from left_run import LATER, Left, starting, told_of

from cu_market.deo.executor import resume as module
from cu_market.deo.executor.resume import Told, give_up, take_over
from cu_market.domain.allocation import AllocationState
from cu_market.domain.purchase import PurchaseState


def test_what_runs_on_is_adopted_and_all_else_ended(left: Left) -> None:
    found = take_over(left.market, left.instance, left.outline, left.workers)
    assert {lease.step_key for lease, _ in found.adopted} == {"runs", "done"}
    assert left.states() == {
        "runs": AllocationState.LEASED,
        "done": AllocationState.LEASED,
        "gone": AllocationState.SETTLED,
        "here": AllocationState.SETTLED,
    }
    assert sorted(left.pods.spared or ()) == ["pod:done", "pod:runs"]
    assert set(left.machine.reaped) == {"pod:gone", "dead/3/4", "dead/1/2"}
    launch = left.pods.launches[0]
    assert (launch.code_version, launch.is_adoptable) == ("v1", True)
    assert found.settled_steps == {"runs", "done"}
    assert b"attach" in left.pods.pods["pod:runs"].sent[0]
    left.workers.close()


def test_the_leases_of_what_is_adopted_are_the_same_ones(left: Left) -> None:
    before = left.ledger.allocation(("run", "runs", 1))
    found = take_over(left.market, left.instance, left.outline, left.workers)
    assert left.ledger.allocation(("run", "runs", 1)) == before
    assert {worker.worker.holder for _, worker in found.adopted} == {"pod:runs", "pod:done"}
    left.workers.close()


def test_a_lease_of_which_the_log_has_no_word_is_not_adopted(left: Left) -> None:
    left.instance.all_logs.return_value = []
    found = take_over(left.market, left.instance, left.outline, left.workers)
    assert found.adopted == []
    assert set(left.states().values()) == {AllocationState.SETTLED}
    assert left.pods.spared == []


def test_what_was_taken_ahead_and_has_no_lease_is_ended(left: Left) -> None:
    for run_id in ("run", "another"):
        left.buy(run_id)
        assert left.ledger.take_purchase(f"for {run_id}", run_id=run_id, now=T0) is not None
    take_over(left.market, left.instance, left.outline, left.workers)
    states = {each.purchase_id: each.state for each in left.ledger.purchases()}
    assert states == {"for run": PurchaseState.LET_GO, "for another": PurchaseState.TAKEN}
    assert "ahead of run" in left.machine.reaped
    assert "ahead of another" not in left.machine.reaped
    left.workers.close()


def test_what_was_bought_ahead_is_adopted_once_it_has_a_lease(left: Left) -> None:
    left.buy("run", provider="pods", holder="pod:bought")
    assert left.ledger.take_purchase("for run", run_id="run", now=T0) is not None
    award = an_award("run", "later", provider="pods", resource_id="r", capacity_id="ahead")
    award = replace(award, holder="pod:bought")
    lease = left.ledger.lease(award, capacity=ONE_CU, expires_at=LATER, now=T0)
    begun = MagicMock(spec=EventLogEntry, dagster_event=starting("later", 1))
    left.instance.all_logs.return_value.append(begun)
    found = take_over(left.market, left.instance, left.outline, left.workers)
    assert lease in [each for each, _ in found.adopted]
    assert "pod:bought" in (left.pods.spared or ())
    (row,) = left.ledger.purchases()
    assert row.state is PurchaseState.USED
    assert left.pods.pods["pod:bought"].sent  # told to attach
    left.workers.close()


def test_a_provider_that_is_away_for_long_has_nothing_to_adopt(
    left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(module.time, "sleep", slept.append)
    monkeypatch.setattr(left.pods, "adopt", MagicMock(side_effect=OSError("away")))
    found = take_over(left.market, left.instance, left.outline, left.workers)
    assert found.adopted == []
    assert slept == list(module._LOOK_AGAIN_SECONDS)  # not once more for each of its leases


def test_what_was_adopted_is_ended_where_the_rest_cannot_be(
    left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(left.market.ledger, "revoke_leases", MagicMock(side_effect=OSError("away")))
    with pytest.raises(OSError, match="away"):
        take_over(left.market, left.instance, left.outline, left.workers)
    assert left.pods.pods["pod:runs"].closed


def test_the_run_is_held_before_anything_is_adopted(
    left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def adopt(*_: object) -> None:
        lease = left.market.ledger.run_lease("run")
        seen.append("" if lease is None else lease.holder)

    monkeypatch.setattr(left.workers, "adopt", adopt)
    take_over(left.market, left.instance, left.outline, left.workers)
    assert set(seen) == {module.current_holder()}


def test_without_the_market_nothing_is_kept(left: Left) -> None:
    take_over(left.market, left.instance, left.outline, left.workers)
    give_up(left.market, "run", left.workers)
    assert set(left.states().values()) == {AllocationState.SETTLED}
    assert left.pods.spared == []
    assert left.pods.pods["pod:runs"].closed
    assert not left.pods.pods["pod:runs"].left


def test_what_is_told_counts_for_the_attempt_that_began_before_it() -> None:
    told = Told.by(
        [
            starting("step", 1),
            starting("step", 2),  # the first was lost without a word
            told_of("step", DagsterEventType.STEP_UP_FOR_RETRY),
            starting("step", 3),
            told_of("other", DagsterEventType.STEP_SKIPPED),
        ]
    )
    assert told.begun == {("step", 1), ("step", 2), ("step", 3)}
    assert told.decided == {("step", 2), ("other", 0)}
    assert told.failed == {("step", 2)}
    assert told.ended == {"other"}
