from __future__ import annotations

from datetime import UTC, datetime

from unsure import spread

from cu_market.dnm.renegotiation import MAX_MOVES
from cu_market.dnm.renegotiation.worth import SAVING_MICROUSD
from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.bid import Bid, Rates
from cu_market.domain.plan import Award, Plan
from cu_market.domain.profile import CUProfile
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.spec import RunSpec
from cu_market.market.renegotiation.replan import Move, choose_moves, left_of_deadline

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CORE = ResourceVector(cpu_millis=1000, memory_bytes=10**9)
HOUR_MS = 3_600_000


def bid(name: str, price: int, performance: int = 1000, location: str = "here") -> Bid:
    profile = CUProfile(
        cu_id=name,
        provider=name,
        location=location,
        capacity_id=name,
        cpu_millis=1000,
        memory_bytes=10**9,
        price_microusd_per_hour=price,
    )
    return Bid(
        bid_id=name,
        profile=profile,
        price_microusd_per_hour=price,
        performance_millis=performance,
        rates=Rates(core_microusd_per_hour=price, gb_microusd_per_hour=0),
    )


def request(step: str, *before: str, together: str = "") -> ResourceRequest:
    return ResourceRequest(
        request_id=step,
        timestamp=NOW,
        duration_ms=HOUR_MS,
        needs=CORE,
        together=together,
        depends_on=before,
    )


def standing(step: str, name: str, price: int) -> Allocation:
    return Allocation(
        run_id="run",
        step_key=step,
        attempt=1,
        state=AllocationState.AWARDED,
        auction_id="a",
        bid_id=name,
        provider=name,
        resource_id=name,
        capacity_id=name,
        size=CORE,
        price_microusd_per_hour=price,
        expected_ms=HOUR_MS,
        awarded_at=NOW,
    )


def planned(winner: Bid, *steps: str) -> Plan:
    takes = -(-HOUR_MS * 1000 // winner.performance_millis)
    money = winner.price_microusd_per_hour * takes // HOUR_MS
    awards = tuple(
        Award(
            request_id=step,
            bid_id=winner.bid_id,
            provider=winner.provider,
            resource_id=winner.profile.cu_id,
            capacity_id=winner.profile.capacity_id,
            size=CORE,
            price_microusd_per_hour=winner.price_microusd_per_hour,
            start_ms=0,
            expected_ms=takes,
            money_microusd=money,
            cost_microusd=money,
        )
        for step in steps
    )
    return Plan(
        awards=awards, unserved=(), objective_microusd=0, bound_microusd=0, solver="construction"
    )


def decide(
    new: Bid,
    offered: list[Bid],
    *,
    agreed: int = 1000,
    made: int = 0,
    latest: int | None = None,
    spare: int | None = None,
    least: int = SAVING_MICROUSD,
    confidence: int = 500,
    ratio: float = 1.0,
) -> tuple[list[Move], str]:
    return choose_moves(
        planned(new, "s"),
        [spread(request("s"), ratio)],
        offered,
        {"s": standing("s", "old", agreed)},
        moves_made={"s": made},
        latest_finish_ms=latest,
        confidence_permille=confidence,
        spare_microusd=spare,
        least_microusd=least,
    )


def test_a_step_moves_where_enough_is_saved() -> None:
    old, cheap = bid("old", 3000), bid("cheap", 1500)
    (move,), verdict = decide(cheap, [old, cheap])
    assert move.is_elsewhere
    assert "$0.001500 of $0.003000 are saved" in verdict
    assert move.sentence() == (
        "s moves from old to cheap at $0.001500 an hour: expected $0.001500 instead of $0.003000"
    )


def test_a_run_would_end_late_where_it_would_too_often() -> None:
    """Half an hour on the quick one, an hour where it stands, half again as long one in twenty."""
    old, quick = bid("old", 1000), bid("quick", 4000, performance=2000)
    hour_and_a_quarter = HOUR_MS * 5 // 4
    stays, _ = decide(quick, [old, quick], latest=hour_and_a_quarter, ratio=1.5)
    assert stays == []
    (move,), verdict = decide(
        quick, [old, quick], latest=hour_and_a_quarter, confidence=950, ratio=1.5
    )
    assert move.is_elsewhere
    assert verdict.startswith("4500.0 s are left: 53")
    assert verdict.endswith(" s moved, in 95 % of cases")
    stays, _ = decide(quick, [old, quick], latest=HOUR_MS * 8 // 5, confidence=950, ratio=1.5)
    assert stays == []


def test_a_run_that_is_late_in_any_case_still_has_its_deadline() -> None:
    """Its steps are planned without one; by what is left of it, a move that ends sooner pays."""
    assert left_of_deadline(RunSpec(), 5) is None
    assert left_of_deadline(RunSpec(deadline_ms=60_000), 20_000) == 40_000
    left = left_of_deadline(RunSpec(deadline_ms=60_000), 90_000)
    assert left == 0
    old, quick = bid("old", 1000), bid("quick", 4000, performance=2000)
    (move,), verdict = decide(quick, [old, quick], latest=left)
    assert move.is_elsewhere
    assert verdict == "0.0 s are left: 3600.0 s as it stands, 1800.0 s moved"


def test_hysteresis_keeps_what_would_save_too_little() -> None:
    old = bid("old", 1000)
    for price, moves in ((905, 0), (895, 1)):
        cheap = bid("cheap", price)
        assert len(decide(cheap, [old, cheap])[0]) == moves


def test_so_much_must_be_saved_at_least_unless_a_late_run_ends_sooner() -> None:
    old, cheap = bid("old", 3000), bid("cheap", 1500)
    assert decide(cheap, [old, cheap], least=1499)[0]
    assert not decide(cheap, [old, cheap], least=1500)[0]
    quick = bid("quick", 3000, 2000)
    assert decide(quick, [old, quick], latest=HOUR_MS - 1, least=1500)[0]


def test_a_step_has_a_budget_of_moves_but_leaves_what_is_gone() -> None:
    old, cheap = bid("old", 3000), bid("cheap", 10)
    assert decide(cheap, [old, cheap], made=MAX_MOVES - 1)[0]
    assert not decide(cheap, [old, cheap], made=MAX_MOVES)[0]
    (forced,), verdict = decide(cheap, [cheap], made=MAX_MOVES)
    assert forced.is_forced
    assert verdict == "1 must move"
    assert "old is no longer offered" in forced.sentence()


def test_a_late_run_moves_to_what_is_quicker_though_dearer() -> None:
    old, quick = bid("old", 1000), bid("quick", 5000, performance=2000)
    assert not decide(quick, [old, quick], latest=HOUR_MS)[0]  # in time as it is
    (move,), verdict = decide(quick, [old, quick], latest=HOUR_MS - 1)
    assert move.award.resource_id == "quick"
    assert "3600.0 s as it stands, 1800.0 s moved" in verdict


def test_a_new_price_of_the_same_cu_is_taken_over_without_a_move() -> None:
    old = bid("old", 3000)
    (move,), _ = decide(old, [old], agreed=1000)
    assert not move.is_elsewhere
    assert move.sentence() == "s stays on old, now at $0.003000 an hour (was $0.001000)"
    assert decide(old, [old], agreed=3000)[0] == []


def test_moves_of_free_will_keep_within_the_runs_budget() -> None:
    old, fast = bid("old", 1000), bid("fast", 4000, performance=2000)  # 2,000 for half the time
    late = int(HOUR_MS * 0.9)
    (move,), _ = decide(fast, [old, fast], latest=late, spare=1000)
    assert move.is_elsewhere
    moves, verdict = decide(fast, [old, fast], latest=late, spare=999)
    assert moves == []
    assert verdict == (
        "nothing moves: it would cost $0.001000 more, and $0.000999 of the budget is left"
    )
    # Where the budget is passed already, what costs less still moves.
    dear, cheap = bid("old", 3000), bid("cheap", 1500)
    (move,), _ = decide(cheap, [dear, cheap], agreed=3000, spare=0)
    assert move.is_elsewhere


def test_what_must_move_takes_of_the_budget_first() -> None:
    fast, old = bid("fast", 4000, performance=2000), bid("old", 1000)
    current = {"a": standing("a", "gone", 1500), "b": standing("b", "old", 1000)}

    def chosen(spare: int) -> tuple[set[str], str]:
        moves, verdict = choose_moves(
            planned(fast, "a", "b"),
            [request("a"), request("b", "a")],
            [fast, old],
            current,
            moves_made={},
            latest_finish_ms=HOUR_MS,
            spare_microusd=spare,
        )
        return {move.award.request_id for move in moves}, verdict

    # a must move, for 500 more; b may, for 1,000 more.
    assert chosen(1500)[0] == {"a", "b"}
    for spare in (1499, 0):
        moved, verdict = chosen(spare)
        assert moved == {"a"}
        assert "the others stay: it would cost" in verdict
        assert "s moved" not in verdict  # it would end sooner only with b moved


def decide_group(
    offered: list[Bid],
    *,
    stand: dict[str, str],
    made: int = 0,
    planned_steps: tuple[str, ...] = ("r", "s"),
) -> list[Move]:
    """Decides of steps kept together that are planned on the last bid, in another location."""
    moves, _ = choose_moves(
        planned(offered[-1], *planned_steps),
        [request(step, together="x") for step in planned_steps],
        offered,
        {step: standing(step, name, 3000) for step, name in stand.items()},
        moves_made={"s": made},
        latest_finish_ms=None,
        located=dict.fromkeys(stand, "here"),
    )
    return moves


def test_what_is_kept_together_moves_as_a_whole_or_not_at_all() -> None:
    old, cheap = bid("old", 3000), bid("cheap", 1500, location="there")
    stand = {"r": "old", "s": "old"}
    assert len(decide_group([old, cheap], stand=stand)) == 2
    assert decide_group([old, cheap], stand=stand, made=MAX_MOVES) == []
    near = bid("cheap", 1500)  # within a location each goes for itself
    assert len(decide_group([old, near], stand=stand, made=MAX_MOVES)) == 1


def test_what_must_move_takes_along_what_it_is_kept_together_with() -> None:
    old, dear = bid("old", 3000), bid("dear", 4000, location="there")
    moves = decide_group([old, dear], stand={"r": "gone", "s": "old"}, made=MAX_MOVES)
    assert [move.sentence() for move in moves] == [
        "r moves from gone to dear at $0.004000 an hour: gone is no longer offered",
        "s moves from old to dear at $0.004000 an hour: it stays with r, which must move",
    ]


def test_nothing_leaves_what_has_begun_meanwhile() -> None:
    old, cheap = bid("old", 3000), bid("cheap", 1500, location="there")
    assert decide_group([old, cheap], stand={"s": "old"}) == []
    assert decide_group([cheap], stand={"s": "gone"}) == []
    assert len(decide_group([old, cheap], stand={"s": "old"}, planned_steps=("s",))) == 1
