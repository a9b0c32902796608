"""A resumed run's awards: what is auctioned anew, and what keeps the terms that it had."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import MagicMock

import pytest
from ledger_rows import T0, an_award
from left_run import Left

from cu_market.deo.executor.past_awards import awards_after
from cu_market.deo.executor.resume import take_over
from cu_market.domain.allocation import AllocationState
from cu_market.domain.auction import Auction
from cu_market.market.unserved import NoRoomYetError


def test_only_what_is_neither_ended_nor_running_is_auctioned(left: Left) -> None:
    found = take_over(left.market, left.instance, left.outline, left.workers)
    clear = MagicMock()
    clear.return_value.allocations = {
        name: an_award("run", name, attempt=2) for name in ("gone", "here")
    }
    clear.return_value.auction = Auction(
        auction_id="second",
        run_id="run",
        held_at=T0,
        mode="market",
        place="executor",
        report={"steps": [{"step": "gone", "is": "new"}, {"step": "here", "is": "new"}]},
    )
    left.market.clear = clear  # type: ignore[method-assign]
    awards, auction, is_own = awards_after(left.market, left.outline, found)
    asked = clear.call_args
    assert [step.step_key for step in asked.args[0].steps] == ["gone", "here"]
    assert asked.kwargs["attempts"]["gone"] == 2
    assert is_own
    assert set(awards) == {"runs", "gone", "here", "done"}
    assert {award.state for award in awards.values()} == {AllocationState.AWARDED}
    assert {name: award.attempt for name, award in awards.items()} == dict.fromkeys(awards, 2)
    told = {step["step"]: step.get("is") for step in auction.report["steps"]}
    assert told == {"runs": None, "done": None, "gone": "new", "here": "new"}
    left.workers.close()


def test_where_a_step_runs_on_nobody_waits_for_room(left: Left) -> None:
    found = take_over(left.market, left.instance, left.outline, left.workers)
    full = NoRoomYetError("full", "wait")
    left.market.clear = MagicMock(side_effect=full)  # type: ignore[method-assign]
    awards, _, is_own = awards_after(left.market, left.outline, found)
    assert not is_own
    assert awards["gone"].attempt == 2
    with pytest.raises(NoRoomYetError):
        awards_after(left.market, left.outline, replace(found, adopted=[]))
    left.workers.close()
