"""What the ledger has seen of a CU lowers its bids, leases that it took and started nothing too."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sellers import NOW, Seller, market_of, run, step

from cu_market.domain.allocation import AllocationState
from cu_market.domain.lease import Refusal
from cu_market.domain.request import StepIdentity
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.market.auction import Market
from cu_market.market.scores import RECENT, measured_scores
from cu_market.pse.performance import score_millis

HOUR = timedelta(hours=1)


def two() -> Market:
    """Returns a market in which the dearer seller wins once the other's score is below 0.9."""
    return market_of(Seller("flaky", 1.0), Seller("steady", 1.14))


def start_nothing(market: Market, *, times: int, is_unstarted: bool = True) -> None:
    """Has the step awarded, leased and given back so often."""
    for attempt in range(1, times + 1):
        awards = market.clear(run(step("s")), place="launcher", attempts={"s": attempt}).allocations
        award = awards["s"]
        capacity = market.capacity(award.capacity_id, award.provider)
        given = market.ledger.lease(award, capacity=capacity, expires_at=NOW + HOUR, now=NOW)
        assert not isinstance(given, Refusal)
        market.ledger.release(given.key, now=NOW, is_unstarted=is_unstarted)


def usage(number: int, ending: Ending, cu_id: str = "flaky/cu") -> Usage:
    return Usage(
        run_id="before",
        step_key="s",
        attempt=number,
        identity=StepIdentity(node="s"),
        provider=cu_id.split("/")[0],
        resource_id=cu_id,
        started_at=NOW,
        ended_at=NOW + number * HOUR,
        cpu_millis=1000,
        memory_bytes=1,
        measurement=Measurement(wall_ms=1, cpu_ms=0, peak_memory_bytes=1),
        ending=ending,
    )


def test_a_cu_that_takes_leases_and_starts_nothing_loses_to_a_dearer_one() -> None:
    market = two()
    start_nothing(market, times=3)
    assert measured_scores(market.ledger) == {"flaky/cu": score_millis([], [False] * 3)}
    (award,) = market.clear(
        run(step("s")), place="launcher", attempts={"s": 4}
    ).allocations.values()
    assert award.resource_id == "steady/cu"


def test_what_the_run_itself_gave_back_is_no_promise_broken() -> None:
    market = two()
    start_nothing(market, times=3, is_unstarted=False)
    assert measured_scores(market.ledger) == {}
    (award,) = market.clear(
        run(step("s")), place="launcher", attempts={"s": 4}
    ).allocations.values()
    assert award.resource_id == "flaky/cu"


def test_forecasts_and_bills_know_nothing_of_what_was_not_started() -> None:
    market = two()
    before = market.quote(run(step("s"))).demand.requests
    start_nothing(market, times=3)
    assert market.ledger.history([StepIdentity(node="s")]) == {}
    assert market.ledger.usages() == []
    (request,), (as_before,) = market.quote(run(step("s"))).demand.requests, before
    assert replace(request, timestamp=as_before.timestamp) == as_before
    rows = market.ledger.allocations(states=[AllocationState.RELEASED])
    assert [row.cost_microusd for row in rows] == [None] * 3


@pytest.mark.parametrize("ending", [Ending.PREEMPTED, Ending.INTERRUPTED])
def test_what_says_nothing_of_a_cu_is_left_out(ending: Ending) -> None:
    market = two()
    market.ledger.keep_usages([usage(1, ending)])
    assert measured_scores(market.ledger) == {}


def test_promises_are_weighed_newest_first_whichever_way_they_were_broken() -> None:
    market = two()
    start_nothing(market, times=1)  # at NOW, before the others
    market.ledger.keep_usages([usage(1, Ending.LOST), usage(2, Ending.OK)])
    expected = score_millis([], [True, False, False])
    assert measured_scores(market.ledger) == {"flaky/cu": expected}
    assert expected != score_millis([], [False, False, True])


def test_what_newer_attempts_have_pushed_out_is_forgotten() -> None:
    market = two()
    start_nothing(market, times=1)
    market.ledger.keep_usages([usage(n, Ending.OK, "steady/cu") for n in range(1, RECENT)])
    assert set(measured_scores(market.ledger)) == {"flaky/cu", "steady/cu"}
    market.ledger.keep_usages([usage(RECENT, Ending.OK, "steady/cu")])
    assert set(measured_scores(market.ledger)) == {"steady/cu"}
