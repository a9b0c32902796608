"""A run worker and awards that others' auctions move: taken over, told, given way to."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest
from small_market import Fair

from cu_market.deo.executor import retendered
from cu_market.deo.executor.negotiation import Negotiation
from cu_market.deo.executor.retendered import Retendered, moved_event
from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.ledger.errors import LeaseLostError


def negotiation(fair: Fair, run: str, *durations: str) -> Negotiation:
    cleared = fair.clear(run, *durations)
    outline = fair.outline(run, *durations)
    return Negotiation(fair.market, outline, cleared.allocations, cleared.auction)


def hurry(fair: Fair, run: str = "b") -> Allocation:
    """Clears an urgent run; returns its award."""
    return fair.clear(run, "20", deadline_seconds="300").allocations["s0"]


@pytest.fixture
def fair(monkeypatch: pytest.MonkeyPatch) -> Fair:
    monkeypatch.setattr(retendered, "YIELD_SECONDS", -1.0)  # each look asks the ledger
    return Fair(prices={"only": 1})


def test_a_moved_award_is_taken_over_once_and_leased(fair: Fair) -> None:
    run = negotiation(fair, "a", "1000")
    old = run.award("s0")
    hurry(fair)
    with pytest.raises(LeaseLostError, match="RELEASED"):
        run.lease(old, "holder")
    (auction,) = run.take_over()
    assert run.take_over() == []
    new = run.award("s0")
    assert (new.attempt, new.auction_id) == (2, auction.auction_id)
    assert run.moves_made["s0"] == 1
    sentence, _ = moved_event(auction)
    assert sentence.startswith("Cleared together with run b (job of b): s0 stays on only/t")
    lease = run.lease(new, "holder")
    assert isinstance(lease, Allocation)
    assert (lease.state, lease.attempt) == (AllocationState.LEASED, 2)


def test_a_run_worker_that_starts_later_finds_its_award_moved(fair: Fair) -> None:
    first = fair.clear("a", "1000")
    hurry(fair)
    (row,) = fair.rows("a", AllocationState.AWARDED)
    run = Negotiation(fair.market, fair.outline("a", "1000"), {"s0": row}, first.auction)
    assert run.award("s0") == row
    assert len(run.take_over()) == 1  # told, and why
    assert run.report("s0")["moved"]["gives_way_to"] == [["b", "s0", 1]]
    assert isinstance(run.lease(run.award("s0"), "holder"), Allocation)


def test_a_step_gives_way_until_the_other_is_leased(fair: Fair) -> None:
    run = negotiation(fair, "a", "1000")
    moved = Retendered(run, SimpleNamespace())
    assert not moved.gives_way("s0")
    first = hurry(fair)
    run.take_over()
    assert moved.gives_way("s0")
    fair.lease(first)
    assert not moved.gives_way("s0")


def test_a_step_does_not_give_way_to_a_run_that_has_given_up(fair: Fair) -> None:
    run = negotiation(fair, "a", "1000")
    moved = Retendered(run, SimpleNamespace())
    hurry(fair)
    run.take_over()
    fair.ledger.release_awards("b", now=fair.now)
    assert not moved.gives_way("s0")


def test_a_step_gives_way_to_awards_that_are_not_written_yet(fair: Fair) -> None:
    run = negotiation(fair, "a", "1000")
    moved = Retendered(run, SimpleNamespace())
    seen = []
    write = fair.ledger.record_auction

    def writes_later(*given: object) -> None:
        run.take_over()  # between the move and the awards that it was made for
        seen.append(moved.gives_way("s0"))
        write(*given)  # type: ignore[arg-type]

    fair.ledger.record_auction = writes_later  # type: ignore[method-assign]
    fair.clear("b", "20", deadline_seconds="300")
    assert seen[-1]


def test_a_step_does_not_give_way_beyond_its_own_start(fair: Fair) -> None:
    run = negotiation(fair, "a", "1000")
    moved = Retendered(run, SimpleNamespace())
    hurry(fair)
    run.take_over()
    fair.now += timedelta(seconds=29)
    assert moved.gives_way("s0")
    fair.now += timedelta(seconds=2)
    assert not moved.gives_way("s0")


def test_a_new_auction_of_a_step_that_was_moved_meanwhile_counts_on(fair: Fair) -> None:
    run = negotiation(fair, "a", "1000")
    hurry(fair)
    run.withdraw("none")
    run.award_elsewhere("s0")  # its own next attempt is taken: by the other run's auction
    assert run.award("s0").attempt == 3
    states = [(row.attempt, row.state) for row in fair.rows("a")]
    assert states == [
        (1, AllocationState.RELEASED),
        (2, AllocationState.RELEASED),
        (3, AllocationState.AWARDED),
    ]
