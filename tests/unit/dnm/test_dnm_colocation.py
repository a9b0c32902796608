"""What is kept together: where a group goes, why other bids lose, what the checker says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dnm_records import HOUR, NOW, asks, offers

from cu_market.dnm import colocation
from cu_market.dnm.colocation import kept_as_chosen, ties_of, usable
from cu_market.dnm.feasibility import losses
from cu_market.dnm.offers import RunningLease
from cu_market.dnm.placement.placing import plan_chosen, plan_placed
from cu_market.dnm.planner import LARGEST_TABLE, plan
from cu_market.dnm.programs.solve import no_clock
from cu_market.dnm.standing import NOTHING_STANDS, Hold, Standing
from cu_market.dnm.verify import violations
from cu_market.domain.bid import Bid
from cu_market.domain.inputs import InputData
from cu_market.domain.plan import LossReason, Plan
from cu_market.domain.request import Kept, ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GB, GIB

PLENTY = {"quantity": 99}


def cheap(**more: object) -> Bid:
    return offers("cheap", 100, location="near", gib=2, bid=PLENTY, **more)


def dear() -> Bid:
    return offers("dear", 300, location="far", gib=8, bid=PLENTY)


def planned(requests: list[ResourceRequest], bids: list[Bid], **more: object) -> Plan:
    return plan(requests, bids, {}, solver=None, limit_seconds=1, **more)  # type: ignore[arg-type]


def chosen(found: Plan) -> dict[str, str]:
    return {award.request_id: award.bid_id for award in found.awards}


def test_a_group_goes_where_all_of_it_fits_and_others_where_it_is_cheapest() -> None:
    requests = [asks("a", gib=4, together="x"), asks("b", together="x"), asks("c")]
    assert chosen(planned([replace(r, together="") for r in requests], [cheap(), dear()])) == {
        "a": "dear",
        "b": "cheap",
        "c": "cheap",
    }
    found = planned(requests, [cheap(), dear()])
    assert chosen(found) == {"a": "dear", "b": "dear", "c": "cheap"}
    assert (found.objective_microusd, found.bound_microusd) == (700, 700)


def test_a_bid_elsewhere_loses_since_the_group_is_not_there() -> None:
    found = planned([asks("a", gib=4, together="x"), asks("b", together="x")], [cheap(), dear()])
    (loss,) = found.awards[1].losses
    assert loss.reason is LossReason.KEPT_ELSEWHERE
    assert loss.detail == "stays with a in far; this is near"
    (loss,) = found.awards[0].losses
    assert loss.reason is LossReason.TOO_LITTLE_MEMORY
    assert loss.detail.endswith("; stays with b in far; this is near")


def test_what_staying_together_costs_a_step_is_what_binds_it() -> None:
    requests = [asks("a", gib=4, together="x"), asks("b", together="x")]
    a, b = planned(requests, [cheap(), dear()]).awards
    assert b.binding == ("what it is kept together with: alone it would save $0.000200 on cu-cheap")
    assert a.binding.startswith("nothing")  # it fits nowhere else


def test_many_companions_are_counted_and_one_that_has_begun_itself_says_so() -> None:
    kept = Kept(location="far", by=tuple("abcdefgh"))
    (loss,) = losses(asks("c", kept=kept), cheap())
    assert loss.detail == "stays with a, b, d, e, f and 2 more in far; this is near"
    (loss,) = losses(asks("c", kept=Kept(location="far", by=("c",))), cheap())
    assert loss.detail == "has begun in far; this is near"
    assert losses(asks("c", kept=kept), dear()) == ()


def test_steps_of_different_runs_are_never_tied() -> None:
    requests = [
        asks("a", gib=4, together="x", run_id="one"),
        asks("b", together="x", run_id="two"),
        asks("c", together="x", run_id="two"),
    ]
    assert chosen(planned(requests, [cheap(), dear()])) == {
        "a": "dear",
        "b": "cheap",
        "c": "cheap",
    }


def test_what_has_begun_keeps_the_rest_where_it_is() -> None:
    kept = Kept(location="far", by=("z",))
    requests = [asks("a", together="x", kept=kept), asks("b", together="x", kept=kept)]
    found = planned(requests, [cheap(), dear()])
    assert set(chosen(found).values()) == {"dear"}
    assert found.awards[0].losses[0].detail == "stays with z in far; this is near"
    assert ties_of(requests, [cheap(), dear()], NOTHING_STANDS) == ()


def test_a_group_that_no_location_holds_is_served_in_part_and_told_apart() -> None:
    requests = [
        asks("a", gib=4, together="x"),
        asks("b", together="x", max_price_microusd_per_hour=200),
    ]
    found = planned(requests, [cheap(), dear()])
    assert len(found.awards) == len(found.unserved) == 1
    assert [set(usable(request, [cheap(), dear()])) for request in requests] == [{"far"}, {"near"}]


def test_a_group_is_held_where_a_member_must_stay() -> None:
    requests = [asks("a", together="x"), asks("b", together="x")]
    stays = {"a": Standing(bid_id="dear", hold=Hold.BID)}
    assert set(chosen(planned(requests, [cheap(), dear()], standing=stays)).values()) == {"dear"}
    may = {name: Standing(bid_id="dear") for name in "ab"}
    assert set(chosen(planned(requests, [cheap(), dear()], standing=may)).values()) == {"cheap"}


def test_at_a_tie_a_group_stays_where_it_stands() -> None:
    requests = [asks("a", together="x"), asks("b", together="x")]
    bids = [cheap(), offers("also", 100, location="there", bid=PLENTY)]
    for at in ("cheap", "also"):
        stands = {name: Standing(bid_id=at) for name in "ab"}
        assert set(chosen(planned(requests, bids, standing=stands)).values()) == {at}


def test_a_location_without_room_for_all_at_once_is_weighed_with_the_waiting() -> None:
    hurried = {"value_of_time_microusd_per_hour": 10**6}
    requests = [asks(name, together="x", **hurried) for name in "ab"]
    one = offers("cheap", 100, location="near", bid={"quantity": 1})
    assert set(chosen(planned(requests, [one, dear()])).values()) == {"dear"}
    assert set(
        chosen(
            planned(
                [replace(r, value_of_time_microusd_per_hour=0) for r in requests], [one, dear()]
            )
        ).values()
    ) == {"cheap"}


def test_the_checker_refuses_what_is_apart() -> None:
    requests = [asks("a", gib=4, together="x"), asks("b", together="x")]
    alone = planned([replace(r, together="") for r in requests], [cheap(), dear()])
    (wrong,) = violations(requests, [cheap(), dear()], {}, alone.awards)
    assert (wrong.where, wrong.what) == ("a, b", "together 'x', and in far, near")


def test_a_choice_that_is_apart_is_planned_where_most_of_it_is() -> None:
    requests = [asks(name, together="x") for name in "abc"]
    choice = {"a": "cheap", "b": "dear", "c": "dear"}
    found = plan_chosen(requests, [cheap(), dear()], {}, choice)
    assert set(chosen(found).values()) == {"dear"}
    kept = kept_as_chosen(requests, [cheap(), dear()], choice, NOTHING_STANDS)
    assert {r.kept.location for r in kept if r.kept is not None} == {"far"}


def test_many_groups_are_improved_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colocation, "MOST_COMBINATIONS", 3)
    requests = [
        asks(f"{name}{k}", gib=size, together=name)
        for name, size in (("x", 4), ("y", 1), ("z", 1))
        for k in range(2)
    ]
    found = planned(requests, [cheap(), dear()])
    assert chosen(found) == {
        **dict.fromkeys(("x0", "x1"), "dear"),
        **dict.fromkeys(("y0", "y1", "z0", "z1"), "cheap"),
    }
    assert found.bound_microusd <= found.objective_microusd == 1000


def test_the_clock_ends_the_look_and_the_plan_says_so() -> None:
    ticks = iter(range(100))
    found = planned(
        [asks(name, together="x") for name in "ab"],
        [cheap(), dear()],
        clock=lambda: float(next(ticks)),
    )
    assert found.is_cut
    assert not found.unserved
    assert found.bound_microusd <= found.objective_microusd


def test_inputs_between_a_group_cost_no_egress() -> None:
    data = (InputData(source="a", size_bytes=GB),)
    requests = [
        asks("a", gib=4, together="x"),
        asks("b", together="x", depends_on=("a",), inputs=data),
    ]
    bids = [cheap(egress_microusd_per_gb=50), dear()]
    found = plan_placed(requests, bids, {}, solver=None, limit_seconds=1, clock=no_clock)
    assert set(chosen(found).values()) == {"dear"}
    assert sum(award.egress_microusd for award in found.awards) == 0


def test_a_thousand_steps_with_given_starts_are_kept_together_in_arrays() -> None:
    count = LARGEST_TABLE // 2 + 1
    requests = [asks(f"s{k:04}", together="x", timestamp=NOW) for k in range(count)]
    room = ResourceVector(cpu_millis=1000 * count, memory_bytes=GIB * count)
    bids = [
        offers("cheap", 100, location="near", capacity_id="near", bid={"quantity": count - 1}),
        offers("dear", 300, location="far", capacity_id="far", bid={"quantity": count}),
    ]
    found = plan(
        requests,
        bids,
        {"near": room.times(4), "far": room.times(4)},
        solver=None,
        limit_seconds=1,
        fixed_starts=True,
        running=[RunningLease(capacity_id="near", size=ResourceVector(), until_ms=HOUR)],
    )
    assert not found.unserved
    assert set(chosen(found).values()) == {"dear"}
