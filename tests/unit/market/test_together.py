"""Several runs cleared together: what moves, what may not, what the ledger and the reports say."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from small_market import T0, Fair

from cu_market.domain.allocation import AllocationState
from cu_market.ledger.errors import LeaseLostError
from cu_market.market.report import verdict


def test_a_lease_returns_its_room_when_it_is_expected_to_end() -> None:
    fair = Fair(prices={"only": 1})
    first = fair.clear("a", "100")
    fair.lease(first.allocations["s0"])
    fair.now += timedelta(seconds=40)
    (award,) = fair.clear("b", "10").plan.awards
    # 60 s are left of what was expected; forecasts of its kind, p95 1.5 times p50, say a bit more.
    assert 60_000 <= award.start_ms <= 75_000
    fair.now += timedelta(seconds=1000)
    (award,) = fair.clear("c", "10").plan.awards
    assert award.start_ms > 0  # it overruns: it is not believed to have ended


def test_an_urgent_run_makes_another_of_its_account_wait() -> None:
    fair = Fair(prices={"only": 1})
    fair.clear("a", "100")
    urgent = fair.clear("b", "20", deadline_seconds="60")
    assert urgent.plan.awards[0].start_ms == 0
    old, new = fair.rows("a")
    assert (old.state, new.state) == (AllocationState.RELEASED, AllocationState.AWARDED)
    assert (new.attempt, new.resource_id) == (2, "only/t")
    moved = fair.moved("a").report["steps"][0]["moved"]
    assert (moved["by_run"], moved["by_job"]) == ("b", "job of b")
    assert moved["gives_way_to"] == [["b", "s0", 1]]
    assert moved["sentence"] == "s0 stays on only/t and starts 20.0 s later, after s0"
    assert datetime.fromisoformat(moved["until"]) == T0 + timedelta(seconds=20 + 10)
    (record,) = urgent.auction.report["together"]["runs"]
    assert (record["run_id"], record["steps"]) == ("a", 1)
    assert record["moved"] == [moved["sentence"]]
    said = verdict(urgent.auction.report)
    assert "Cleared together with 1 other run (job of a): s0 stays on only/t" in said
    with pytest.raises(LeaseLostError, match="RELEASED"):
        fair.lease(old)
    assert fair.lease(new).attempt == 2


def test_an_urgent_run_moves_another_of_its_account_elsewhere() -> None:
    fair = Fair(prices={"cheap": 1, "dear": 3})
    # For 30 s at a dollar an hour more, a wait of 20 s costs less: not so at 100 dollars an hour.
    fair.clear("a", "30", value_of_time_usd_per_hour="100")
    urgent = fair.clear("b", "20", deadline_seconds="25", max_price_usd_per_hour="2")
    assert urgent.plan.awards[0].resource_id == "cheap/t"
    _, new = fair.rows("a")
    assert new.resource_id == "dear/t"
    moved = fair.moved("a").report["steps"][0]["moved"]
    assert moved["sentence"] == "s0 moves from cheap/t to dear/t at $3.000000 an hour"
    assert moved["gives_way_to"] == []


def test_other_accounts_are_planned_around_and_never_moved() -> None:
    fair = Fair(prices={"only": 1})
    fair.clear("a", "100", account="theirs")
    late = fair.clear("b", "20", account="ours", deadline_seconds="60")
    assert late.plan.awards[0].start_ms == 100_000
    assert [row.attempt for row in fair.rows("a")] == [1]
    together = late.auction.report["together"]
    assert together["is_late"]
    assert "cannot end by its deadline" in verdict(late.auction.report)


@pytest.mark.parametrize(
    ("others", "starts_ms", "attempts"),
    [("2", 100_000, [1]), ("1", 0, [1, 2]), ("-1", 0, [1])],
    ids=["more urgent: nobody is moved", "as urgent: moved", "less urgent: it lets pass anyway"],
)
def test_a_run_goes_by_its_priority_among_those_of_its_account(
    others: str, starts_ms: int, attempts: list[int]
) -> None:
    fair = Fair(prices={"only": 1})
    fair.clear("a", "100", priority=others)
    found = fair.clear("b", "20", priority="1", deadline_seconds="60")
    assert found.plan.awards[0].start_ms == starts_ms
    assert [row.attempt for row in fair.rows("a")] == attempts
    assert found.auction.report["together"]["is_late"] == (starts_ms > 0)


def test_what_another_account_waits_for_counts_whatever_its_priority() -> None:
    fair = Fair(prices={"only": 1})
    fair.clear("a", "100", account="theirs", priority="-9")
    found = fair.clear("b", "20", account="ours", priority="9")
    assert found.plan.awards[0].start_ms == 100_000


def test_a_step_is_moved_three_times_at_most() -> None:
    fair = Fair(prices={"only": 1})
    fair.clear("a", "1000")
    attempts = []
    for number in range(5):
        fair.clear(f"b{number}", "20", deadline_seconds="300")
        attempts.append(max(row.attempt for row in fair.rows("a")))
    assert attempts == [2, 3, 4, 4, 4]


def test_what_would_save_too_little_stays() -> None:
    fair = Fair(prices={"only": 1})
    fair.clear("a", "100")
    # Going first would spare the shorter one a wait, but that is worth less than ten micro-dollars.
    fair.clear("b", "90", value_of_time_usd_per_hour="0.05")
    assert [row.attempt for row in fair.rows("a")] == [1]


def test_a_step_that_is_leased_is_not_moved() -> None:
    fair = Fair(prices={"only": 1})
    fair.lease(fair.clear("a", "100").allocations["s0"])
    late = fair.clear("b", "20", deadline_seconds="60")
    assert [row.state for row in fair.rows("a")] == [AllocationState.LEASED]
    assert late.plan.awards[0].start_ms >= 100_000


def test_what_follows_a_step_that_runs_waits_for_its_end() -> None:
    fair = Fair(prices={"only": 1})
    first = fair.clear("a", "50", "100", chain=True)
    fair.lease(first.allocations["s0"])
    urgent = fair.clear("b", "20", deadline_seconds="100")
    begins = urgent.plan.awards[0].start_ms
    assert 50_000 <= begins <= 65_000
    assert [row.attempt for row in fair.rows("a", AllocationState.AWARDED)] == [2]


def test_runs_that_do_not_live_ask_for_nothing() -> None:
    fair = Fair(prices={"only": 1})
    fair.clear("a", "100")
    fair.now += timedelta(seconds=121)  # its worker has never shown itself
    assert fair.clear("b", "20").plan.awards[0].start_ms == 0
    fair.ledger.hold_run("a", "h", expires_at=fair.now + timedelta(seconds=30))
    assert fair.clear("c", "20").plan.awards[0].start_ms > 0
    fair.ledger.release_awards("a", now=fair.now)
    fair.ledger.release_awards("b", now=fair.now)
    fair.ledger.release_awards("c", now=fair.now)
    assert fair.clear("d", "20").plan.awards[0].start_ms == 0
    assert [opened.run_id for _, opened in fair.ledger.standing()] == ["d"]


def test_two_short_runs_know_of_each_other_and_each_keeps_its_own_slack() -> None:
    fair = Fair(prices={"cheap": 1, "dear": 3})
    fair.clear("a", "3600")
    # Beside a run of an hour, a minute's wait is a minute's delay: it is worth two dollars an hour.
    quick = fair.clear("b", "60", value_of_time_usd_per_hour="1000")
    assert quick.plan.awards[0].start_ms == 0


def test_more_steps_than_one_program_takes_are_left_out_and_said_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fair = Fair(prices={"only": 1})
    fair.clear("a", "10", "10", "10")
    monkeypatch.setattr("cu_market.market.together.joint.LARGEST_TABLE", 3)
    alone = fair.clear("b", "5", "5")
    together = alone.auction.report["together"]
    assert (together["runs"], together["left_out"]) == ([], 3)
    assert "3 waiting steps of other runs were left out" in verdict(alone.auction.report)


def test_what_is_queued_is_planned_with_and_awarded_nothing() -> None:
    hurry = {"deadline_seconds": "25", "max_price_usd_per_hour": "2"}
    for account, place in (("default", "dear/t"), ("another", "cheap/t")):
        fair = Fair()
        wrong = fair.outline("w", "20", deadline_seconds="soon")
        urgent = fair.outline("q", "20", account=account, **hurry)
        first = fair.clear("a", "30", value_of_time_usd_per_hour="100", queued=[wrong, urgent])
        assert first.plan.awards[0].resource_id == place  # the cheap one is left to who needs it
        queued = first.auction.report["together"]["queued"]
        assert [run["run_id"] for run in queued] == (["q"] if place == "dear/t" else [])
        assert {row.run_id for row in fair.ledger.allocations()} == {"a"}


def test_what_is_queued_never_keeps_a_launched_run_from_its_deadline() -> None:
    fair = Fair(prices={"only": 1})
    urgent = fair.outline("q", "20", "20", chain=True, deadline_seconds="45")
    first = fair.clear("a", "20", deadline_seconds="25", queued=[urgent])
    assert first.plan.awards[0].start_ms == 0
    assert not first.auction.report["together"]["is_late"]


def test_recommendations_move_nothing() -> None:
    fair = Fair(prices={"only": 1})
    fair.clear("a", "100")
    shown = fair.clear("b", "20", deadline_seconds="60", mode="recommend")
    assert shown.allocations == {}
    assert [row.attempt for row in fair.rows("a")] == [1]
