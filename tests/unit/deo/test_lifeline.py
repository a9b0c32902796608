"""A run worker's sign of life: one that another has followed learns it there."""

from __future__ import annotations

import pytest
from left_run import LATER, Left

from cu_market.deo.executor.lifeline import Lifeline, SupersededError


def test_a_run_worker_that_was_followed_notices(
    left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("cu_market.deo.executor.lifeline.time.monotonic", lambda: clock[0])
    lifeline = Lifeline(left.market, "run", "second/1/1")
    lifeline.renew()  # it takes over from the dead one
    left.ledger.hold_run("run", "third/1/1", expires_at=LATER)
    lifeline.renew()  # not yet due
    clock[0] += 11
    with pytest.raises(SupersededError, match="third/1/1"):
        lifeline.renew()
    held = left.ledger.run_lease("run")
    assert held is not None
    assert held.holder == "third/1/1"
