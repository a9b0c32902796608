from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from dnm_records import HOUR, asks, offers

from cu_market.dnm import RunningLease, SolverAnswer, plan
from cu_market.dnm.programs.instance import ProgramData
from cu_market.dnm.programs.solve import InProcessSolver
from cu_market.dnm.verify import violations
from cu_market.domain.bid import Bid, Rates
from cu_market.domain.plan import LossReason, Plan
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GIB

CAPACITY = {"local": ResourceVector(cpu_millis=4000, memory_bytes=8 * GIB)}


class Says:
    """A solver that gives one answer, or makes one of the program, and counts the programs."""

    def __init__(self, answer: SolverAnswer | None = None) -> None:
        self.answer = answer
        self.programs: list[ProgramData] = []

    def solve(self, data: ProgramData, *, limit_seconds: float, gap: float) -> SolverAnswer:
        self.programs.append(data)
        if self.answer is None:
            raise AssertionError("asked without need")
        return self.answer


def elastic(name: str, core_price: int, **more: object) -> Bid:
    """Cut to size from the shared local capacity."""
    bid = offers(name, core_price * 4, capacity_id="local", **more)  # type: ignore[arg-type]
    return replace(bid, rates=Rates(core_microusd_per_hour=core_price, gb_microusd_per_hour=0))


def planned(
    requests: list[ResourceRequest],
    bids: list[Bid],
    capacities: Mapping[str, ResourceVector] = CAPACITY,
    **more: object,
) -> Plan:
    options: dict[str, object] = {"solver": InProcessSolver(), "limit_seconds": 600} | more
    return plan(requests, bids, capacities, **options)  # type: ignore[arg-type]


def test_one_request_takes_the_cheapest_bid_without_a_solver() -> None:
    solver = Says()
    found = planned([asks("r")], [offers("dear", 900), offers("cheap", 300)], solver=solver)
    [award] = found.awards
    assert (award.bid_id, award.cost_microusd, found.bound_microusd) == ("cheap", 300, 300)
    assert (found.solver, found.gap_ratio, found.is_cut) == ("construction", 0.0, False)
    assert award.runner_up is not None
    assert award.runner_up.reason is LossReason.DEARER
    assert award.runner_up.detail == (
        "$0.000600 dearer: $0.000900 in all; would have won at $0.000299/h"
    )
    assert award.runner_up.wins_at_microusd_per_hour == 299
    assert solver.programs == []
    cheaper = planned([asks("r")], [offers("dear", 299), offers("cheap", 300)], solver=solver)
    assert cheaper.awards[0].bid_id == "dear"


def test_speed_wins_where_time_is_worth_more_than_its_price() -> None:
    bids = [offers("slow", 100), offers("fast", 300, bid={"performance_millis": 2000})]
    assert planned([asks("r")], bids).awards[0].bid_id == "slow"
    hurried = asks("r", value_of_time_microusd_per_hour=1000)
    slower = [replace(bids[0], performance_millis=900), bids[1]]
    assert planned([hurried], slower).awards[0].bid_id == "fast"


def test_a_step_off_the_critical_path_takes_the_slow_cheap_bid() -> None:
    requests = [
        asks("long", duration_ms=4 * HOUR, value_of_time_microusd_per_hour=10_000),
        asks("short", duration_ms=HOUR, value_of_time_microusd_per_hour=10_000),
    ]
    bids = [
        offers("fast", 1000, bid={"quantity": 2}),
        offers("slow", 300, bid={"quantity": 2, "performance_millis": 500}),
    ]
    found = planned(requests, bids)
    assert [award.bid_id for award in found.awards] == ["fast", "slow"]


def test_children_start_after_their_parents_and_waits_are_counted_once() -> None:
    value = {"value_of_time_microusd_per_hour": 100}
    requests = [asks(f"r{i}", depends_on=(f"r{i - 1}",) if i else (), **value) for i in range(3)]
    found = planned(requests, [offers("only", 1000, startup_ms=HOUR // 10)])
    assert [award.start_ms for award in found.awards] == [k * (HOUR + HOUR // 10) for k in range(3)]
    assert [award.cost_microusd - award.money_microusd for award in found.awards] == [10, 10, 10]
    assert found.gap_ratio == 0.0


def test_requests_wait_for_room_of_a_shared_capacity() -> None:
    requests = [asks(f"r{i}", cores=2, gib=4) for i in range(4)]
    found = planned(requests, [elastic("std", 100), elastic("eco", 50)])
    assert sorted(award.start_ms for award in found.awards) == [0, 0, HOUR, HOUR]
    assert {award.bid_id for award in found.awards} == {"eco"}
    assert found.gap_ratio == 0.0  # nobody's time is worth anything: waiting is free


def test_a_loser_is_judged_with_the_winners_own_room_given_back() -> None:
    [award] = planned([asks("r", cores=4)], [elastic("std", 100), elastic("eco", 50)]).awards
    assert [(loss.bid_id, loss.reason) for loss in award.losses] == [("std", LossReason.DEARER)]


def test_what_runs_now_frees_its_room_later() -> None:
    held = RunningLease(capacity_id="local", size=ResourceVector(cpu_millis=4000), until_ms=5000)
    free = {"local": ResourceVector(memory_bytes=8 * GIB)}
    [award] = planned([asks("r")], [elastic("std", 1)], free, running=[held]).awards
    assert award.start_ms == 5000
    [lost] = planned([asks("r")], [elastic("std", 1)], free).unserved
    assert lost.losses[0].reason is LossReason.CAPACITY
    assert lost.losses[0].detail == "local: cpu_millis asks 1000 of 0, taken by others for good"


def test_a_request_that_nobody_can_serve_has_everyones_reason_and_costs_nothing() -> None:
    found = planned([asks("big", gib=64), asks("r")], [offers("a", 1), offers("b", 2)])
    [lost] = found.unserved
    assert lost.request_id == "big"
    assert [(loss.bid_id, loss.detail) for loss in lost.losses] == [
        ("a", "asks 64.0 GiB, has 4.0 GiB"),
        ("b", "asks 64.0 GiB, has 4.0 GiB"),
    ]
    assert (found.objective_microusd, found.gap_ratio) == (1, 0.0)


def test_priority_goes_first_where_room_is_short() -> None:
    late = {"latest_finish_ms": HOUR}
    found = planned([asks("a", **late), asks("z", priority=5, **late)], [offers("one", 10)])
    assert [award.request_id for award in found.awards] == ["z"]
    assert [entry.request_id for entry in found.unserved] == ["a"]
    assert found.unserved[0].losses[0].reason is LossReason.CAPACITY


def test_the_program_beats_one_request_at_a_time() -> None:
    # 'a' comes first and takes the cheap unit, though 'b' would save more with it.
    requests = [asks("a", cores=1), asks("b", cores=1, providers=("p", "r"))]
    bids = [
        offers("cheap", 100),
        offers("good", 120, provider="q"),
        offers("dear", 900, provider="r"),
    ]
    alone = planned(requests, bids, solver=None, fixed_starts=True)
    joint = planned(requests, bids, fixed_starts=True, gap=0.0)
    assert (alone.objective_microusd, joint.objective_microusd) == (1000, 220)
    assert (joint.solver, joint.bound_microusd, joint.is_bound_independent) == ("HiGHS", 220, True)
    assert joint.awards[0].runner_up is not None
    assert joint.awards[0].runner_up.reason is LossReason.CAPACITY


def contested() -> tuple[list[ResourceRequest], list[Bid]]:
    return [asks("a"), asks("b")], [offers("cheap", 100), offers("dear", 300)]


@pytest.mark.parametrize(
    "answer",
    [
        SolverAnswer(failure="died"),
        SolverAnswer(solver="x", values={0: 0.5, 1: 0.5, 2: 1.0}),
        SolverAnswer(solver="x", values={0: 1.0, 1: 1.0}),
        SolverAnswer(solver="x", values={0: 1.0, 2: 1.0}),  # both on the one cheap unit
        SolverAnswer(solver="x", values={99: 1.0, -1: 1.0}),
        SolverAnswer(solver="x", values={0: float("nan")}),
        SolverAnswer(solver="x", duals={0: float("inf"), 7: 3.0, -1: -2.0}),
        SolverAnswer(solver="x", duals={0: 1e300}),
    ],
)
def test_no_answer_makes_a_plan_worse_than_the_construction(answer: SolverAnswer) -> None:
    requests, bids = contested()
    base = planned(requests, bids, solver=None, fixed_starts=True)
    solver = Says(answer)
    found = planned(requests, bids, solver=solver, gap=0.0, fixed_starts=True)
    assert len(solver.programs) == 1
    assert found == replace(base, bound_microusd=found.bound_microusd)
    assert found.bound_microusd <= found.objective_microusd


@pytest.mark.parametrize(
    ("claimed", "stated", "is_independent"),
    [
        (390.0, 390, False),
        (401.0, 400, False),  # within a solver's tolerance of the plan's 400
        (402.0, 200, True),
        (1e18, 200, True),
        (float("nan"), 200, True),
    ],
)
def test_a_solvers_bound_is_marked_and_dropped_when_a_plan_contradicts_it(
    claimed: float, stated: int, is_independent: bool
) -> None:
    requests, bids = contested()
    answer = SolverAnswer(solver="x", claimed_bound_microusd=claimed)
    found = planned(requests, bids, solver=Says(answer), gap=0.0, fixed_starts=True)
    assert (found.bound_microusd, found.is_bound_independent) == (stated, is_independent)


def test_a_cut_is_marked_unless_the_plan_is_proven_anyway() -> None:
    requests, bids = contested()
    cut = SolverAnswer(is_cut=True)
    assert planned(requests, bids, solver=Says(cut), gap=0.0, fixed_starts=True).is_cut
    proven = replace(cut, duals={0: 200.0})
    found = planned(requests, bids, solver=Says(proven), gap=0.0, fixed_starts=True)
    assert (found.is_cut, found.gap_ratio) == (False, 0.0)


def test_times_come_from_the_clock_that_is_given() -> None:
    ticks = iter(range(100))
    requests, bids = contested()
    found = planned(
        requests,
        bids,
        solver=Says(SolverAnswer(build_seconds=0.25)),
        gap=0.0,
        fixed_starts=True,
        clock=lambda: float(next(ticks)),
    )
    assert (found.build_ms, found.solve_ms) == (2250, 750)


def test_bad_input_is_told_all_at_once() -> None:
    lost = elastic("e", 1)
    with pytest.raises(InvalidInputError) as caught:
        planned([asks("r"), asks("r")], [offers("b", 1), offers("b", 1), lost], {})
    assert [problem.where for problem in caught.value.problems] == [
        "ResourceRequest.request_id",
        "Bid.bid_id",
        "Bid 'e'.profile.capacity_id",
    ]


def test_nothing_asked_or_nothing_offered_is_a_plan_too() -> None:
    assert planned([], [offers("b", 1)]).awards == ()
    assert planned([asks("r")], []).unserved[0].losses == ()


def tampered(found: Plan, **changes: object) -> str:
    requests, bids = contested()
    awards = (replace(found.awards[0], **changes), *found.awards[1:])  # type: ignore[arg-type]
    return " ".join(violation.what for violation in violations(requests, bids, {}, awards))


def test_the_verifier_sees_every_kind_of_tampering() -> None:
    requests, bids = contested()
    found = planned(requests, bids, {}, solver=None, fixed_starts=True)
    assert tampered(found) == ""
    assert "cost is 100" in tampered(found, cost_microusd=99)
    assert "price is 100" in tampered(found, price_microusd_per_hour=1)
    assert "time is" in tampered(found, expected_ms=1)
    assert "money is" in tampered(found, money_microusd=0)
    assert "size is" in tampered(found, size=ResourceVector())
    assert "served twice" in tampered(found, request_id="b")
    assert "no bid" in tampered(found, bid_id="z")
    assert "units: 2 held at 0 ms, 1 there" in tampered(
        found, **{name: getattr(found.awards[1], name) for name in (
            "bid_id", "provider", "resource_id", "capacity_id", "size", "price_microusd_per_hour",
            "money_microusd", "cost_microusd",
        )}
    )  # fmt: skip
    early = asks("a", earliest_start_ms=5)
    told = violations([early, requests[1]], bids, {}, found.awards)
    assert "starts at 0 ms, ready at 5 ms" in [violation.what for violation in told]
