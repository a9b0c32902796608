"""A real run whose offers end between the auction and the lease: auctioned again, run once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from dagster import DagsterEventType
from execution_record import MARKET, Bench

from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.market import auction
from cu_market.market.auction import Market
from cu_market.market.awarding import allocation_of

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),
    # Dagster reads its config classes in a way that pydantic has deprecated.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute is deprecated"),
]

GREETING = {"greet": {"config": {"name": "you"}}}


@pytest.fixture
def ends_at_once(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The first award of each step is of an offer that has ended by then; returns which they were.

    The run worker is this process: nothing is slept away.
    """
    seen: set[str] = set()

    def awarded(*args: Any, **kwargs: Any) -> Allocation:
        row = allocation_of(*args, **kwargs)
        if row.step_key in seen:
            return row
        seen.add(row.step_key)
        return replace(row, valid_until=row.awarded_at)

    monkeypatch.setattr(auction, "allocation_of", awarded)
    return seen


def test_a_step_whose_offer_has_ended_is_auctioned_again(
    bench: Bench, ends_at_once: set[str]
) -> None:
    run_id = bench.run("plain", MARKET, ops=GREETING)
    assert bench.record(run_id).status == "SUCCESS"
    assert ends_at_once
    rows = bench.allocations(run_id)
    leased = [row for row in rows if row.fencing_token]
    assert {row.step_key for row in leased} == ends_at_once
    assert len(leased) == len(ends_at_once)  # each ran once
    assert {row.state for row in leased} == {AllocationState.SETTLED}
    assert {(row.attempt, row.valid_until) for row in leased} == {(2, None)}
    assert all(row.valid_until for row in rows if not row.fencing_token)
    assert len(bench.usages(run_id)) == len(leased)
    told = [said for said in bench.engine_messages(run_id) if " was offered until " in said]
    assert len(told) == len(ends_at_once)
    for said in told:
        assert "was not leased by then. Auctioned again. Asked " in said
    starts = bench.entries(run_id, DagsterEventType.STEP_START)
    assert len(starts) == len(ends_at_once)


def test_a_step_that_nobody_offers_any_more_fails_with_the_reason(
    bench: Bench, ends_at_once: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clear, auctions = Market.clear, []

    def once(market: Market, *args: Any, **kwargs: Any) -> Any:
        auctions.append(kwargs["place"])
        if len(auctions) == 1:
            return clear(market, *args, **kwargs)
        problem = Problem(where="step", value="", what="no CU can serve it", remedy="ask for less")
        raise InvalidInputError([problem])

    monkeypatch.setattr(Market, "clear", once)
    run_id = bench.run("plain", MARKET, ops=GREETING)
    record = bench.record(run_id)
    assert record.status == "FAILURE"
    assert "Nobody else can serve it" in str(record.failures)
    assert not [row for row in bench.allocations(run_id) if row.fencing_token]
