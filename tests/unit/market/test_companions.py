"""Steps of a run that are kept together, over time: what pins them, and what does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from small_market import Fair

from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.outline import RunOutline
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.request import Kept, StepIdentity
from cu_market.domain.usage import Ending, Measurement, Usage
from cu_market.market.auction import Cleared
from cu_market.market.companions import Companions
from cu_market.market.demand.requests import part_of
from cu_market.market.renegotiation.proposals import propose
from cu_market.market.renegotiation.replan import Situation

HURRIED = {"value_of_time_usd_per_hour": "1000"}


@pytest.fixture
def fair() -> Fair:
    return Fair(is_apart=True)


def places(cleared: Cleared) -> dict[str, str]:
    return {row.step_key: row.provider for row in cleared.allocations.values()}


def again(fair: Fair, outline: RunOutline, *steps: str, **more: object) -> Cleared:
    """Auctions some steps of a run anew."""
    attempts = {
        step: 1 + max(row.attempt for row in fair.rows(outline.run_id) if row.step_key == step)
        for step in steps
    }
    return fair.market.clear(
        part_of(outline, steps),
        place="executor",
        attempts=attempts,
        **more,  # type: ignore[arg-type]
    )


def settle(fair: Fair, lease: Allocation, ending: Ending) -> None:
    usage = Usage(
        run_id=lease.run_id,
        step_key=lease.step_key,
        attempt=lease.attempt,
        identity=StepIdentity(node=lease.step_key),
        provider=lease.provider,
        resource_id=lease.resource_id,
        started_at=fair.now,
        ended_at=fair.now,
        cpu_millis=lease.size.cpu_millis,
        memory_bytes=lease.size.memory_bytes,
        measurement=Measurement(wall_ms=1, cpu_ms=1, peak_memory_bytes=1),
        ending=ending,
    )
    fair.ledger.accept(lease.key, lease.fencing_token, now=fair.now)
    fair.ledger.settle(lease.key, lease.fencing_token, ended_at=fair.now, usage=usage)


def test_a_tag_of_the_run_keeps_all_its_steps_in_one_location(fair: Fair) -> None:
    apart = fair.clear("a", "60", "60", **HURRIED)
    assert set(places(apart).values()) == {"cheap", "dear"}
    fair.ledger.release_awards("a", now=fair.now)
    kept = fair.clear("b", "60", "60", together="x", **HURRIED)
    assert len(set(places(kept).values())) == 1
    told = kept.auction.report["steps"][1]
    assert (told["together"], told["winner"]["location"]) == ("x", told["winner"]["provider"])


def test_a_step_that_is_leased_keeps_the_others_where_it_is(fair: Fair) -> None:
    first = fair.clear("a", "60", "60", together="x")
    assert set(places(first).values()) == {"cheap"}
    fair.lease(first.allocations["s0"])
    outline = fair.outline("a", "60", "60", together="x", **HURRIED)
    assert places(again(fair, outline, "s1")) == {"s1": "cheap"}  # although it has to wait there
    alone = fair.outline("a", "60", "60", **HURRIED)
    assert places(again(fair, alone, "s1")) == {"s1": "dear"}


def test_what_cannot_follow_is_refused_with_who_is_where(fair: Fair) -> None:
    first = fair.clear("a", "60", "60", together="x")
    fair.lease(first.allocations["s0"])
    outline = fair.outline("a", "60", "60", together="x")
    with pytest.raises(InvalidInputError) as refused:
        again(fair, outline, "s1", excluded={"cheap/t"})
    (problem,) = refused.value.problems
    assert (problem.where, problem.value) == ("step 's1': tag cu/together", "x")
    assert "dear/t: stays with s0 in cheap; this is dear" in problem.what
    assert "another name" in problem.remedy


def test_an_award_that_stands_keeps_what_is_planned_without_it(fair: Fair) -> None:
    fair.clear("a", "60", "60", together="x")
    outline = fair.outline("a", "60", "60", together="x", **HURRIED)
    assert places(again(fair, outline, "s1")) == {"s1": "cheap"}
    with pytest.raises(InvalidInputError, match="stays with s0 in cheap"):
        again(fair, outline, "s1", excluded={"cheap/t"})
    moved = again(fair, outline, "s0", "s1", excluded={"cheap/t"})  # nothing has begun
    assert set(places(moved).values()) == {"dear"}


@pytest.mark.parametrize("ending", [Ending.OK, Ending.ERROR, Ending.LOST])
def test_only_what_ended_well_keeps_its_place(fair: Fair, ending: Ending) -> None:
    first = fair.clear("a", "60", "60", together="x")
    settle(fair, fair.lease(first.allocations["s0"]), ending)
    outline = fair.outline("a", "60", "60", together="x")
    wanted = ("s1",) if ending is Ending.OK else ("s0", "s1")
    if ending is Ending.OK:
        with pytest.raises(InvalidInputError, match="stays with s0 in cheap"):
            again(fair, outline, *wanted, excluded={"cheap/t"})
        return
    moved = again(fair, outline, *wanted, excluded={"cheap/t"})
    assert set(places(moved).values()) == {"dear"}


def test_a_lease_under_which_nothing_started_keeps_nobody(fair: Fair) -> None:
    first = fair.clear("a", "60", "60", together="x")
    lease = fair.lease(first.allocations["s0"])
    kept = Companions(fair.ledger, "a").begun("x")
    assert kept == Kept(location="cheap", by=("s0",))
    fair.ledger.release(lease.key, now=fair.now, is_unstarted=True)
    assert Companions(fair.ledger, "a").begun("x") is None


def test_a_mapped_step_is_known_by_its_template(fair: Fair) -> None:
    outline = fair.outline("a", "60", together="x")
    (step,) = outline.steps
    cleared = fair.market.clear(
        replace(outline, steps=(replace(step, step_key="work[?]"),)), place="launcher"
    )
    award = replace(cleared.allocations["work[?]"], step_key="work[7]")
    fair.lease(award)
    kept = Companions(fair.ledger, "a").begun("x")
    assert kept == Kept(location="cheap", by=("work[7]",))


def test_a_running_step_is_not_proposed_elsewhere(fair: Fair) -> None:
    first = fair.clear("a", "600", "600", together="x")
    fair.lease(first.allocations["s0"])
    outline = fair.outline("a", "600", "600", together="x", **HURRIED)
    for steps in (("s0",), ("s1",)):
        part = part_of(outline, steps)
        found = propose(fair.market, part, Situation(earliest_ms={}))
        assert {award.provider for award in found.plan.awards} == {"cheap"}


def test_another_runs_auction_moves_a_group_as_a_whole_or_not_at_all(fair: Fair) -> None:
    fair = Fair(is_apart=True, cores=2)
    tags = {"together": "x", "value_of_time_usd_per_hour": "100"}
    fair.clear("a", "30", "30", **tags)
    urgent = {"deadline_seconds": "25", "max_price_usd_per_hour": "2"}
    found = fair.clear("b", "20", "20", **urgent)
    assert set(places(found).values()) == {"cheap"}
    rows = fair.rows("a", AllocationState.AWARDED)
    assert [(row.step_key, row.provider, row.attempt) for row in rows] == [
        ("s0", "dear", 2),
        ("s1", "dear", 2),
    ]


def test_another_runs_auction_leaves_a_group_of_which_a_step_has_begun(fair: Fair) -> None:
    fair = Fair(is_apart=True, cores=2)
    tags = {"together": "x", "value_of_time_usd_per_hour": "100"}
    first = fair.clear("a", "30", "30", **tags)
    fair.lease(first.allocations["s0"])
    fair.now += timedelta(seconds=1)
    fair.clear("b", "20", "20", deadline_seconds="25", max_price_usd_per_hour="2")
    (row,) = fair.rows("a", AllocationState.AWARDED)
    assert (row.step_key, row.provider) == ("s1", "cheap")


def test_a_quote_keeps_a_run_together(fair: Fair) -> None:
    outline = fair.outline("a", "60", "60", together="x", **HURRIED)
    found = fair.market.quote(outline).plan
    assert len({award.provider for award in found.awards}) == 1


def test_runs_of_one_name_are_not_tied(fair: Fair) -> None:
    first = fair.clear("a", "60", together="x")
    fair.lease(first.allocations["s0"])
    second = fair.clear("b", "60", together="x", **HURRIED)
    assert places(second) == {"s0": "dear"}


def test_what_has_ended_well_is_final_and_read_once(
    fair: Fair, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fair.clear("a", "60", "60", together="x")
    companions = Companions(fair.ledger, "a")
    settle(fair, fair.lease(first.allocations["s0"]), Ending.OK)
    kept = companions.begun("x")
    monkeypatch.setattr(fair.ledger, "allocations", None)  # it is asked no more
    assert companions.begun("x") is kept


def test_an_auction_beyond_the_newest_is_found(fair: Fair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cu_market.market.companions.READ_AUCTIONS", (1, 2, 9))
    first = fair.clear("a", "60", "60", "60", "60", together="x")
    lease = fair.lease(first.allocations["s0"])
    outline = fair.outline("a", "60", "60", "60", "60", together="x")
    for step in ("s1", "s2", "s3"):
        fair.now += timedelta(seconds=1)
        again(fair, outline, step)
    assert fair.ledger.auctions("a")[-1].auction_id == lease.auction_id
    assert Companions(fair.ledger, "a").begun("x") == Kept(location="cheap", by=("s0",))
