"""A deadline is kept in as many cases as was asked for, where any plan does."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import pytest
from sellers import Seller, market_of, run, step
from small_market import Fair
from unsure import unsure

from cu_market.domain.outline import RunOutline
from cu_market.domain.problem import InvalidInputError
from cu_market.market.auction import Cleared, Market
from cu_market.market.quote import quote_run
from cu_market.market.renegotiation.proposals import propose
from cu_market.market.renegotiation.replan import Situation
from cu_market.market.report import verdict
from cu_market.market.together import punctual

SLOW = {"performance_millis": 500}
PATIENT = {"value_of_time_usd_per_hour": "0"}


def two_sellers(spread: float | None = 1.5, **settings: float) -> Market:
    """A cheap CU on which an hour's step takes two, and a dear one that is four times as dear."""
    market = market_of(Seller("slow", 0.5, bid_fields=SLOW), Seller("quick", 2.0), **settings)
    return market if spread is None else unsure(market, a=spread)


def outline(hours: float, **tags: str) -> RunOutline:
    return run(step("a"), deadline_seconds=f"{3600 * hours:g}", **PATIENT, **tags)


def cleared(market: Market, hours: float, **tags: str) -> Cleared:
    return market.clear(outline(hours, **tags), place="launcher")


def winners(found: Cleared) -> list[str]:
    return [award.provider for award in found.plan.awards]


@pytest.mark.parametrize(
    ("confidence", "hours", "winner"),
    [
        ("0.5", 2.0, "slow"),
        ("0.5", 1.9, "quick"),
        ("0.95", 2.0, "quick"),
        ("0.95", 2.98, "quick"),
        ("0.95", 3.02, "slow"),
        ("0.9", 2.98, "slow"),
    ],
)
def test_the_cheap_slow_cu_is_taken_where_it_keeps_the_deadline_often_enough(
    confidence: str, hours: float, winner: str
) -> None:
    """The slow one ends in two hours at the median, in three at the 95th percentile."""
    assert winners(cleared(two_sellers(), hours, deadline_confidence=confidence)) == [winner]
    market = two_sellers(deadline_confidence=float(confidence))
    assert winners(cleared(market, hours)) == [winner]


def test_a_runs_own_confidence_comes_before_the_markets() -> None:
    found = cleared(two_sellers(deadline_confidence=0.5), 2.5, deadline_confidence="0.95")
    assert winners(found) == ["quick"]


def test_what_the_report_says_of_a_deadline_that_is_kept() -> None:
    report = cleared(two_sellers(), 2.5).auction.report
    assert report["deadline"] == {
        "seconds": 9000.0,
        "confidence": 0.95,
        "finish_seconds_p50": pytest.approx(3600, rel=0.01),
        "finish_seconds_at_confidence": pytest.approx(5400, rel=0.01),
        "kept_ratio": 1.0,
        "is_kept": True,
    }
    assert "With a deadline of 9000.0 s, it ends by 3" in verdict(report)
    assert " in half of all cases and by 53" in verdict(report)
    (note,) = [note for note in report["notes"] if note.startswith("deadline: ")]
    assert note == (
        "deadline: planned to end by 3600.0 s, so that it is kept in 95 % of cases; by the "
        "cheapest plan at medians, which ends by 7200.0 s, it would be in 81.7 %"
    )


def test_nobody_is_refused_whom_medians_serve_and_the_report_says_how_sure_it_is() -> None:
    report = cleared(two_sellers(), 1.1).auction.report
    told = report["deadline"]
    assert (told["is_kept"], told["seconds"]) == (False, 3960.0)
    assert 0.6 < told["kept_ratio"] < 0.7
    assert told["finish_seconds_at_confidence"] == pytest.approx(5400, rel=0.01)
    said = verdict(report)
    assert "its deadline of 3960.0 s is kept in 65 % of cases, fewer than the 95 % that" in said
    assert any("by none of 2 plans; the least late was taken" in note for note in report["notes"])
    with pytest.raises(InvalidInputError, match="cu/deadline_seconds"):
        cleared(two_sellers(), 0.9)


def test_without_a_deadline_or_at_medians_nothing_is_drawn_or_said() -> None:
    with patch.object(punctual, "plan_punctually", side_effect=AssertionError):
        free = two_sellers().clear(run(step("a"), **PATIENT), place="launcher")
        half = cleared(two_sellers(), 2.5, deadline_confidence="0.5")
    for found in (free, half):
        assert winners(found) == ["slow"]
        assert found.auction.report["deadline"] is None
        assert "in half of all cases" not in verdict(found.auction.report)


def test_times_that_are_known_for_sure_are_planned_as_at_medians() -> None:
    found = cleared(two_sellers(None), 2.0)
    assert winners(found) == ["slow"]
    assert found.auction.report["deadline"]["kept_ratio"] == 1.0
    assert "in half of all cases" not in verdict(found.auction.report)
    assert found.plan.notes == ()


def test_the_same_again() -> None:
    chain = (step("a"), replace(step("b"), depends_on=("a",)), step("c"))
    tags = {"deadline_seconds": "16000", **PATIENT}

    def held() -> Cleared:
        market = market_of(Seller("slow", 0.5, bid_fields=SLOW), Seller("quick", 2.0))
        unsure(market, a=1.5, b=2.0, c=1.2)
        return market.clear(run(*chain, **tags), place="launcher")

    first, second = held(), held()
    assert first.plan.awards == second.plan.awards
    assert first.auction.report["deadline"] == second.auction.report["deadline"]


def test_a_budget_that_the_cheap_plan_keeps_is_not_passed_for_confidence() -> None:
    found = cleared(two_sellers(), 2.5, budget_usd="1.5")
    assert winners(found) == ["slow"]
    assert found.auction.report["deadline"]["is_kept"] is False
    assert winners(cleared(two_sellers(), 2.5, budget_usd="2.5")) == ["quick"]


def test_spot_that_leaves_no_time_for_a_retry_is_not_bought_for_confidence() -> None:
    """Quick as it is, it would have to end an hour before the deadline."""
    steady = Seller("steady", 1.0, bid_fields={"performance_millis": 667})
    spot = Seller("spot", 0.2, profile={"interruption_millis_per_hour": 500})
    found = cleared(unsure(market_of(steady, spot), a=1.5), 1.9)
    assert winners(found) == ["steady"]
    assert found.auction.report["deadline"]["is_kept"] is False
    assert winners(cleared(unsure(market_of(steady, spot), a=1.5), 2.1)) == ["spot"]
    always = run(step("a", interruptible="always"), deadline_seconds="6840", **PATIENT)
    market = unsure(market_of(steady, spot), a=1.5)
    assert winners(market.clear(always, place="launcher")) == ["spot"]


def test_second_prices_are_those_of_the_plan_that_is_taken() -> None:
    dear = Seller("dear", 3.0)
    slow, quick = Seller("slow", 0.5, bid_fields=SLOW), Seller("quick", 2.0)
    market = unsure(market_of(slow, quick, dear, pricing="second-price"), a=1.5)
    found = cleared(market, 2.5)
    assert winners(found) == ["quick"]
    assert found.allocations["a"].price_microusd_per_hour == 3_000_000


def test_a_quote_is_planned_as_the_auction_that_follows() -> None:
    market, asked = two_sellers(), outline(2.5)
    quote = quote_run(market, asked)
    held = market.clear(asked, place="launcher")
    assert quote.cleared.plan.awards == held.plan.awards
    deadline = held.auction.report["deadline"]
    assert quote.cleared.auction.report["deadline"] == deadline
    assert quote.asked.finish_ms[0] / 1000 == deadline["finish_seconds_p50"]
    assert quote.asked.finish_ms[1] / 1000 == deadline["finish_seconds_at_confidence"]


def test_the_curve_is_of_deadlines_that_are_kept_as_often() -> None:
    quote = quote_run(two_sellers(), outline(2.5), points=9)
    assert all(point.finish_ms[1] <= point.deadline_ms for point in quote.curve)
    assert quote.curve[0].finish_ms[1] == quote.curve[0].deadline_ms
    assert quote.curve[0].cost_microusd[0] > quote.curve[-1].cost_microusd[0]


def test_a_review_does_not_undo_it() -> None:
    proposal = propose(two_sellers(), outline(2.5), Situation(earliest_ms={}))
    assert winners(proposal) == ["quick"]
    assert proposal.auction.report["deadline"]["is_kept"] is True


def test_what_others_wait_for_is_as_unsure_as_they_are() -> None:
    """On the cheap machine another run's step goes first, and it may take long."""

    def clear(ratio: float) -> str:
        fair = Fair()
        unsure(fair.market, s0=ratio)
        fair.clear("a", "60", max_price_usd_per_hour="2", account="theirs")
        later = fair.outline("b", "1", "10", deadline_seconds="80")
        later = replace(later, steps=later.steps[1:])
        return fair.market.clear(later, place="launcher").plan.awards[0].provider

    assert (clear(1.05), clear(1.5)) == ("cheap", "dear")
