"""A run worker and its steps that are kept together: auctioned again with them, brought back."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from small_market import Fair

from cu_market.deo.executor.negotiation import Negotiation
from cu_market.deo.executor.starting import Starter
from cu_market.deo.executor.state import Waiting
from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.problem import InvalidInputError

TAGS = {"together": "x", "value_of_time_usd_per_hour": "1000"}


def negotiation(fair: Fair, count: int = 2, **tags: str) -> Negotiation:
    durations = ["60"] * count
    cleared = fair.clear("a", *durations, **(TAGS | tags))
    outline = fair.outline("a", *durations, **(TAGS | tags))
    return Negotiation(fair.market, outline, cleared.allocations, cleared.auction)


def lease(fair: Fair, run: Negotiation, step: str) -> Allocation:
    fair.ledger.hold_run("a", "h", expires_at=fair.now.replace(year=2027))
    taken = run.lease(run.award(step), "holder")
    assert isinstance(taken, Allocation)
    return taken


@pytest.fixture
def fair() -> Fair:
    return Fair(is_apart=True)


def test_where_a_cu_did_not_deliver_all_go_elsewhere_if_none_has_begun(fair: Fair) -> None:
    run = negotiation(fair)
    before = {step: run.award(step) for step in ("s0", "s1")}
    assert {row.provider for row in before.values()} == {"cheap"}
    run.withdraw("cheap/t")
    run.award_elsewhere("s0")
    after = {step: run.award(step) for step in ("s0", "s1")}
    assert {row.provider for row in after.values()} == {"dear"}
    assert [row.attempt for row in after.values()] == [2, 2]
    assert run.kept.located(after) == {"s0": "dear", "s1": "dear"}
    standing = fair.rows("a", AllocationState.AWARDED)
    assert [row.key for row in standing] == [row.key for row in after.values()]


def test_where_one_has_begun_the_others_stay_with_it(fair: Fair) -> None:
    run = negotiation(fair)
    lease(fair, run, "s0")
    run.withdraw("cheap/t")
    with pytest.raises(InvalidInputError, match="stays with s0 in cheap"):
        run.award_elsewhere("s1")
    assert run.award("s1").provider == "cheap"


def test_a_retry_stays_where_the_others_are_although_it_is_dearer_there(fair: Fair) -> None:
    run = negotiation(fair, count=3)
    run.withdraw("cheap/t")
    run.award_elsewhere("s0")
    lease(fair, run, "s0")
    fresh = Negotiation(
        fair.market,
        fair.outline("a", "60", "60", "60", **TAGS),
        {step: run.award(step) for step in ("s0", "s1", "s2")},
        fair.ledger.auctions("a")[0],
    )  # to which no CU counts as withdrawn
    fresh.award_elsewhere("s1")
    assert fresh.award("s1").provider == "dear"


def lead_astray(fair: Fair, run: Negotiation) -> None:
    """Has s0 begun in cheap, and the award of s1 moved to dear, as an auction may that was held at
    the same moment."""
    lease(fair, run, "s0")
    assert run.kept.away_from("s1") == ""
    outline = fair.outline("a", "60", "60", **{**TAGS, "together": "y"})  # as if it was alone
    astray = fair.market.clear(
        replace(outline, steps=outline.steps[1:]), place="executor", attempts={"s1": 2}
    )
    assert astray.allocations["s1"].provider == "dear"
    run.take_over()


def test_an_award_that_another_auction_moved_away_is_noticed_and_brought_back(fair: Fair) -> None:
    run = negotiation(fair)
    assert run.kept.away_from("s1") == ""
    lead_astray(fair, run)
    assert run.kept.located(["s1"]) == {"s1": "dear"}
    assert run.kept.away_from("s1") == "cheap"
    run.award_elsewhere("s1")
    assert run.award("s1").provider == "cheap"
    assert run.kept.away_from("s1") == ""


def starting(run: Negotiation) -> SimpleNamespace:
    """Returns a run in progress of which s1 alone is let go ahead, its workers ready."""
    worker = SimpleNamespace(is_ready=True, worker=SimpleNamespace(holder="holder"))
    return SimpleNamespace(
        negotiation=run,
        unleased={"s1": SimpleNamespace()},
        not_before={},
        attempts={},
        free_places=lambda: 0,
        active=SimpleNamespace(executable_keys=lambda: [], has_waiting=False),
        waiting=Waiting(),
        worker_for=lambda _: worker,
        retendered=SimpleNamespace(gives_way=lambda _: False),
    )


def test_a_step_is_not_leased_away_from_what_has_begun(fair: Fair) -> None:
    run = negotiation(fair)
    lead_astray(fair, run)
    going = starting(run)
    assert list(Starter(going).start_ready()) == []  # type: ignore[arg-type]
    assert run.award("s1").provider == "cheap"
    assert [row.step_key for row in fair.rows("a", AllocationState.LEASED)] == ["s0"]
    assert "s1" in going.unleased  # to be leased there in the next turn


def test_where_nobody_serves_it_there_it_waits_and_the_run_page_says_so_once(
    fair: Fair, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = SimpleNamespace(engine_event=lambda _context, sentence, _data: sentence)
    monkeypatch.setattr("cu_market.deo.executor.starting.DagsterEvent", said)
    run = negotiation(fair)
    lead_astray(fair, run)
    run.withdraw("cheap/t")
    going = starting(run)
    starter = Starter(going)  # type: ignore[arg-type]
    (sentence,) = starter.start_ready()
    assert str(sentence).startswith("Step s1 waits: it is kept together with what is in cheap: ")
    assert list(starter.start_ready()) == []  # not before some time has passed
    going.not_before.clear()
    assert list(starter.start_ready()) == []  # told before
    assert [row.step_key for row in fair.rows("a", AllocationState.LEASED)] == ["s0"]


def test_steps_alone_are_never_looked_up(fair: Fair, monkeypatch: pytest.MonkeyPatch) -> None:
    cleared = fair.clear("a", "60")
    run = Negotiation(fair.market, fair.outline("a", "60"), cleared.allocations, cleared.auction)

    def asked(**_: object) -> None:
        raise AssertionError("the ledger was asked")

    monkeypatch.setattr(fair.ledger, "allocations", asked)
    assert run.kept.away_from("s0") == ""
    assert run.kept.others("s0") == frozenset()
