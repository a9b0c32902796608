"""What holds whenever runs are cleared together, whatever they ask for and whoever offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from cu_market.dnm.planner import plan
from cu_market.dnm.standing import Hold, Standing
from cu_market.dnm.verify import violations
from cu_market.domain.allocation import Allocation
from cu_market.domain.bid import Bid, Rates
from cu_market.domain.open_request import OpenRequest, request_from, request_record
from cu_market.domain.plan import Award, Plan
from cu_market.domain.profile import CUProfile
from cu_market.domain.request import ResourceRequest, StepIdentity
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GIB, lease_cost_microusd
from cu_market.market.awarding import allocation_of
from cu_market.market.together.crowd import Crowd, StandingStep, joint_id
from cu_market.market.together.joint import Together, plan_together

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NO_BUDGETS: Mapping[str, int] = {}
ROOM = {
    name: ResourceVector(cpu_millis=cores * 1000, memory_bytes=64 * GIB)
    for name, cores in (("c0", 1), ("c1", 2))
}


@st.composite
def asked(draw: st.DrawFn) -> list[ResourceRequest]:
    """One to four steps of a run, each after some of those before it, now and then in a hurry."""
    latest = draw(st.sampled_from([None, None, 90_000, 200_000]))
    value = draw(st.sampled_from([0, 10**5, 10**7, 10**9]))
    return [
        ResourceRequest(
            request_id=f"s{i}",
            timestamp=NOW,
            duration_ms=draw(st.sampled_from([1, 10_000, 30_000, 61_000])),
            needs=ResourceVector(cpu_millis=1000, memory_bytes=GIB),
            identity=StepIdentity(node=f"s{i}"),
            together=draw(st.sampled_from(["", "", "x"])),
            depends_on=tuple(f"s{j}" for j in range(i) if draw(st.integers(0, 2)) == 0),
            latest_finish_ms=latest,
            value_of_time_microusd_per_hour=value,
        )
        for i in range(draw(st.integers(1, 4)))
    ]


@st.composite
def offered(draw: st.DrawFn) -> list[Bid]:
    """One to three tariffs on two capacities."""
    found = []
    for k in range(draw(st.integers(1, 3))):
        price = draw(st.sampled_from([10_000, 77_777, 3_000_000]))
        name = f"c{draw(st.integers(0, 1))}"
        profile = CUProfile(
            cu_id=f"{name}/t{k}",
            provider=name,
            location=draw(st.sampled_from(["here", name])),
            capacity_id=name,
            cpu_millis=ROOM[name].cpu_millis,
            memory_bytes=ROOM[name].memory_bytes,
            price_microusd_per_hour=price,
        )
        rates = Rates(core_microusd_per_hour=price, gb_microusd_per_hour=0)
        speed = draw(st.sampled_from([700, 1000, 1500]))
        found.append(
            Bid(
                bid_id=f"b{k}",
                profile=profile,
                price_microusd_per_hour=price,
                performance_millis=speed,
                rates=rates,
            )
        )
    return found


def standing_of(
    run: str, requests: Sequence[ResourceRequest], awarded: Plan, account: str
) -> list[StandingStep]:
    """Returns a run's steps as they stand after its auction."""
    found = []
    for request in requests:
        award = awarded.award_for(request.request_id)
        assert award is not None
        kept = OpenRequest(
            run_id=run,
            step_key=request.request_id,
            account=account,
            job_name=run,
            request=request_from(request_record(request)),
        )
        joint = replace(
            kept.request,
            request_id=joint_id(run, request.request_id),
            run_id=run,
            depends_on=tuple(joint_id(run, parent) for parent in request.depends_on),
        )
        row = allocation_of(award, run, "auction", 1, NOW)
        found.append(StandingStep(award=row, asked=kept, request=joint))
    return found


def solver(bids: Sequence[Bid]):  # type: ignore[no-untyped-def]
    def solve(
        requests: Sequence[ResourceRequest],
        *,
        standing: Mapping[str, Standing],
        limit_seconds: float,
    ) -> Plan:
        found = plan(requests, bids, ROOM, solver=None, limit_seconds=0, standing=standing)
        assert not violations(requests, bids, ROOM, found.awards)
        return found

    return solve


def together(
    requests: Sequence[ResourceRequest],
    bids: Sequence[Bid],
    steps: Sequence[StandingStep],
    spare: Mapping[str, int] = NO_BUDGETS,
) -> Together:
    return plan_together(
        "mine",
        "account",
        requests,
        bids,
        Crowd(steps=tuple(steps), spare_microusd=spare),
        solver(bids),
        limit_seconds=1.0,
        clock=lambda: 0.0,
    )


def alone(requests: Sequence[ResourceRequest], bids: Sequence[Bid]) -> Plan:
    found = plan(requests, bids, ROOM, solver=None, limit_seconds=0)
    assume(not found.unserved)
    return found


@settings(deadline=None)
@given(first=asked(), second=asked(), bids=offered())
def test_together_never_costs_more_than_one_after_the_other(
    first: list[ResourceRequest], second: list[ResourceRequest], bids: list[Bid]
) -> None:
    steps = standing_of("theirs", first, alone(first, bids), "account")
    # One after the other: the first keeps its CUs and goes first, the second has what is left.
    kept = {
        step.request.request_id: Standing(bid_id=step.award.bid_id, hold=Hold.BID) for step in steps
    }
    theirs = plan(
        [step.request for step in steps], bids, ROOM, solver=None, limit_seconds=0, standing=kept
    )
    held = {
        award.request_id: Standing(bid_id=award.bid_id, start_ms=award.start_ms, hold=Hold.ALL)
        for award in theirs.awards
    }
    mine = [
        replace(
            request,
            request_id=joint_id("mine", request.request_id),
            run_id="mine",
            depends_on=tuple(joint_id("mine", parent) for parent in request.depends_on),
        )
        for request in second
    ]
    every = [*mine, *(step.request for step in steps)]
    after = plan(every, bids, ROOM, solver=None, limit_seconds=0, standing=held)
    assert {a.request_id: a.start_ms for a in theirs.awards}.items() <= {
        a.request_id: a.start_ms for a in after.awards
    }.items()  # whoever holds its place keeps it
    found = together(second, bids, steps)
    event(f"moved: {bool(found.moves)}")
    assert len(found.plan.unserved) <= len(after.unserved)
    if len(found.plan.unserved) == len(after.unserved):
        assert found.plan.objective_microusd <= after.objective_microusd
    if found.moves and len(found.plan.unserved) == len(after.unserved):
        assert found.moved_microusd < found.stays_microusd


@settings(deadline=None)
@given(runs=st.lists(asked(), min_size=2, max_size=3), bids=offered(), data=st.data())
def test_the_order_in_which_runs_are_read_changes_nothing(
    runs: list[list[ResourceRequest]], bids: list[Bid], data: st.DataObject
) -> None:
    second, *others = runs
    steps = [
        step
        for k, requests in enumerate(others)
        for step in standing_of(f"r{k}", requests, alone(requests, bids), "account")
    ]
    one = together(second, bids, steps)
    other = together(second, data.draw(st.permutations(bids)), data.draw(st.permutations(steps)))
    assert one.plan == other.plan
    assert (one.stays_microusd, one.moved_microusd) == (other.stays_microusd, other.moved_microusd)

    def moves(found: Together) -> set[tuple[str, str, str]]:
        return {(m.step.award.run_id, m.award.request_id, m.award.bid_id) for m in found.moves}

    assert moves(one) == moves(other)


@settings(deadline=None)
@given(first=asked(), second=asked(), bids=offered(), moves=st.sampled_from([0, 3]))
def test_what_may_not_move_keeps_its_place(
    first: list[ResourceRequest], second: list[ResourceRequest], bids: list[Bid], moves: int
) -> None:
    account = "account" if moves else "another"
    steps = standing_of("theirs", first, alone(first, bids), account)
    spent = [replace(step, asked=replace(step.asked, moves=moves)) for step in steps]
    assert together(second, bids, spent).moves == ()


@settings(deadline=None, max_examples=300)
@given(
    runs=st.lists(asked(), min_size=2, max_size=3),
    bids=offered(),
    spare=st.lists(st.sampled_from([0, 0, 100, 2000]), min_size=1, max_size=2),
)
def test_nobody_is_moved_beyond_its_budget(
    runs: list[list[ResourceRequest]], bids: list[Bid], spare: list[int]
) -> None:
    second, *others = runs
    steps = [
        step
        for k, requests in enumerate(others)
        for step in standing_of(f"r{k}", requests, alone(requests, bids), "account")
    ]
    budgets = {f"r{k}": amount for k, amount in enumerate(spare)}
    found = together(second, bids, steps, budgets)
    event(f"moved: {bool(found.moves)}, held: {bool(found.held)}")
    for run_id, amount in budgets.items():
        moves = [move for move in found.moves if move.step.award.run_id == run_id]
        assert sum(costs(m.award) - costs(m.step.award) for m in moves) <= amount


def costs(award: Award | Allocation) -> int:
    return lease_cost_microusd(award.price_microusd_per_hour, award.expected_ms)
