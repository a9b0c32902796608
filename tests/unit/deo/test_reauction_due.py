"""A step that is auctioned again has what is left of its run's deadline, and no more."""

from __future__ import annotations

from datetime import timedelta

import pytest
from small_market import Fair

from cu_market.deo.executor.award_book import AwardBook
from cu_market.deo.executor.negotiation import Negotiation
from cu_market.deo.executor.reauction import Due


def busy(fair: Fair, *durations: str, **tags: str) -> Negotiation:
    """A run in a chain, while another one has the cheap machine for a minute."""
    fair.lease(fair.clear("b", "60").allocations["s0"])
    cleared = fair.clear("a", *durations, chain=True, **tags)
    outline = fair.outline("a", *durations, chain=True, **tags)
    return Negotiation(fair.market, outline, cleared.allocations, cleared.auction)


def test_what_comes_after_a_step_and_what_has_passed_is_left_out() -> None:
    fair = Fair()
    cleared = fair.clear("a", "10", "20", "30", chain=True, deadline_seconds="100")
    outline = fair.outline("a", "10", "20", "30", chain=True, deadline_seconds="100")
    book = AwardBook(fair.ledger, "a", cleared.allocations, cleared.auction)
    due = Due(outline, book, cleared.auction.held_at)
    later = fair.now + timedelta(seconds=5)
    assert due.left_ms(["s2"], later) == 95_000
    assert due.left_ms(["s1"], later) == 65_000
    assert due.left_ms(["s0"], later) == 45_000
    assert due.left_ms(["s0", "s1"], later) == 65_000  # the last of them
    free = Due(fair.outline("a", "10"), book, cleared.auction.held_at)
    assert free.left_ms(["s0"], later) is None


def test_it_does_not_wait_for_what_is_cheaper_where_the_run_would_be_late() -> None:
    fair = Fair()
    run = busy(fair, "60", "60", deadline_seconds="130")
    assert [run.award(step).provider for step in ("s0", "s1")] == ["dear", "cheap"]
    fair.now += timedelta(seconds=1)
    run.award_elsewhere("s0")  # on the cheap one it would end within 130 s, and the run would not
    assert run.award("s0").provider == "dear"
    assert run.award("s0").attempt == 2


@pytest.mark.parametrize("passed", [15, 100, 1000])
def test_where_nobody_is_in_time_any_more_the_quickest_is_taken(passed: int) -> None:
    fair = Fair()
    run = busy(fair, "60", "60", deadline_seconds="130")
    fair.now += timedelta(seconds=passed)
    run.award_elsewhere("s0")
    assert run.award("s0").provider == "dear"


def test_without_a_deadline_it_waits_for_what_is_cheaper() -> None:
    fair = Fair()
    run = busy(fair, "60", "60")
    run.award_elsewhere("s0")
    assert run.award("s0").provider == "cheap"
