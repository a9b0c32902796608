"""What holds for every selection: plans verify, bounds are bounds, order of arrival is nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from cu_market.dnm import planner
from cu_market.dnm.bounds.bound import lagrangian_bound
from cu_market.dnm.handover import Turn, turns_of
from cu_market.dnm.offers import RunningLease, tabulate
from cu_market.dnm.placement.construction import construct
from cu_market.dnm.placement.timeline import Timeline
from cu_market.dnm.planner import plan
from cu_market.dnm.programs.rows import assemble
from cu_market.dnm.programs.solve import InProcessSolver
from cu_market.dnm.surcharges import Priced
from cu_market.dnm.verify import violations
from cu_market.domain.bid import Bid, Rates
from cu_market.domain.inputs import InputData, Place
from cu_market.domain.plan import Plan
from cu_market.domain.profile import CUProfile
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GIB

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CORES = st.integers(1, 4)
PLACE = Place(location="there", egress_microusd_per_gb=90_000)
INPUTS = st.sampled_from([(), (), (InputData(source="gone", size_bytes=10**9, place=PLACE),)])


@st.composite
def asked(
    draw: st.DrawFn, most: int = 6, starts: Sequence[int] = (0, 0, 10_000)
) -> list[ResourceRequest]:
    """Up to six requests, each after some of those before it."""
    count = draw(st.integers(1, most))
    return [
        ResourceRequest(
            request_id=f"r{i}",
            timestamp=NOW,
            quantity=draw(st.sampled_from([1, 1, 1, 2])),
            duration_ms=draw(st.sampled_from([0, 1, 30_000, 60_000, 61_000])),
            needs=ResourceVector(
                cpu_millis=1000 * draw(CORES), memory_bytes=GIB + draw(st.integers(0, 9))
            ),
            depends_on=tuple(f"r{j}" for j in range(i) if draw(st.integers(0, 3)) == 0),
            earliest_start_ms=draw(st.sampled_from(starts)),
            latest_finish_ms=draw(st.sampled_from([None, None, 100_000])),
            value_of_time_microusd_per_hour=draw(st.sampled_from([0, 10**5, 10**7])),
            priority=draw(st.integers(0, 1)),
            retry_must_fit=draw(st.booleans()),
            inputs=draw(INPUTS),
        )
        for i in range(count)
    ]


@st.composite
def offered(draw: st.DrawFn) -> list[Bid]:
    """Up to four bids on two capacities, whole or elastic, often equal to one another."""
    bids = []
    for k in range(draw(st.integers(1, 4))):
        cores, price = draw(CORES), draw(st.sampled_from([10_000, 10_000, 77_777, 300_000]))
        is_elastic = draw(st.booleans())
        profile = CUProfile(
            cu_id=draw(st.sampled_from(["x", "y"])),
            provider="p",
            location=draw(st.sampled_from(["here", "here", "there"])),
            network_bandwidth_mbps=draw(st.sampled_from([0, 800])),
            interruption_millis_per_hour=draw(st.sampled_from([0, 0, 9000])),
            capacity_id=f"c{draw(st.integers(0, 1))}",
            cpu_millis=1000 * cores,
            memory_bytes=2 * GIB,
            price_microusd_per_hour=price * cores,
            startup_ms=draw(st.sampled_from([0, 5000])),
        )
        bids.append(
            Bid(
                bid_id=f"b{k}",
                profile=profile,
                price_microusd_per_hour=price * cores,
                performance_millis=draw(st.sampled_from([700, 1000, 1500])),
                rates=Rates(
                    core_microusd_per_hour=price,
                    gb_microusd_per_hour=100,
                    minimum_ms=draw(st.sampled_from([0, 45_000])),
                )
                if is_elastic
                else None,
                quantity=draw(st.integers(1, 2)),
            )
        )
    return bids


CAPACITIES = st.fixed_dictionaries(
    {
        name: st.builds(
            ResourceVector,
            cpu_millis=st.integers(0, 6).map(lambda n: 1000 * n),
            memory_bytes=st.integers(1, 4).map(lambda n: n * GIB),
        )
        for name in ("c0", "c1")
    }
)
RUNNING = st.lists(
    st.builds(
        RunningLease,
        capacity_id=st.sampled_from(["c0", "c1"]),
        size=st.builds(ResourceVector, cpu_millis=st.just(2000), memory_bytes=st.just(GIB)),
        until_ms=st.sampled_from([0, 1000, 40_000]),
    ),
    max_size=2,
)


def planned(
    requests: list[ResourceRequest],
    bids: list[Bid],
    capacities: dict[str, ResourceVector],
    running: list[RunningLease],
    *,
    fixed: bool,
    is_solved: bool = True,
    largest: int = planner.LARGEST_FREE_TABLE,
) -> Plan:
    with patch.object(planner, "LARGEST_FREE_TABLE", largest):
        return plan(
            requests,
            bids,
            capacities,
            solver=InProcessSolver() if is_solved else None,
            limit_seconds=600,
            gap=0.0,
            fixed_starts=fixed,
            running=running,
            surcharges=Priced(),
        )


LARGEST = st.sampled_from([planner.LARGEST_FREE_TABLE, 0])
"""How many pairs are one program: none, that is, all are chosen in arrays."""


@settings(max_examples=120, deadline=None)
@given(asked(), offered(), CAPACITIES, RUNNING, st.booleans(), LARGEST)
def test_plans_verify_and_no_solver_makes_them_dearer(
    requests: list[ResourceRequest],
    bids: list[Bid],
    capacities: dict[str, ResourceVector],
    running: list[RunningLease],
    fixed: bool,
    largest: int,
) -> None:
    found = planned(requests, bids, capacities, running, fixed=fixed, largest=largest)
    alone = planned(requests, bids, capacities, running, fixed=fixed, is_solved=False)
    assert not violations(
        requests,
        bids,
        capacities,
        found.awards,
        running=running,
        fixed_starts=fixed,
        surcharges=Priced(),
    )
    assert found.bound_microusd <= found.objective_microusd <= alone.objective_microusd
    assert len(found.awards) + len(found.unserved) == len(requests)
    for award in found.awards:
        told = {loss.bid_id for loss in award.losses}
        assert told | {award.bid_id} == {bid.bid_id for bid in bids}
        assert len(award.losses) == len(bids) - 1
    for entry in found.unserved:
        assert {loss.bid_id for loss in entry.losses} == {bid.bid_id for bid in bids}


@settings(max_examples=120, deadline=None)
@given(asked(), offered(), CAPACITIES, RUNNING, st.booleans(), st.integers(0, 2**32), LARGEST)
def test_the_order_of_arrival_changes_nothing(
    requests: list[ResourceRequest],
    bids: list[Bid],
    capacities: dict[str, ResourceVector],
    running: list[RunningLease],
    fixed: bool,
    seed: int,
    largest: int,
) -> None:
    first = planned(requests, bids, capacities, running, fixed=fixed, largest=largest)
    mixed_requests, mixed_bids, mixed_running = list(requests), list(bids), list(running)
    for items in (mixed_requests, mixed_bids, mixed_running):
        Random(seed).shuffle(items)
    mixed_capacities = dict(reversed(capacities.items()))
    second = planned(
        mixed_requests, mixed_bids, mixed_capacities, mixed_running, fixed=fixed, largest=largest
    )
    assert sorted(first.awards, key=lambda a: a.request_id) == sorted(
        second.awards, key=lambda a: a.request_id
    )
    assert [a.request_id for a in second.awards] == [
        r.request_id for r in mixed_requests if second.award_for(r.request_id)
    ]
    assert (first.objective_microusd, first.bound_microusd, first.solver) == (
        second.objective_microusd,
        second.bound_microusd,
        second.solver,
    )


@settings(max_examples=120, deadline=None)
@given(
    asked(),
    offered(),
    CAPACITIES,
    RUNNING,
    st.dictionaries(st.integers(-1, 12), st.floats(0, 1e7) | st.just(float("nan"))),
)
def test_no_duals_whatever_lift_the_bound_above_an_optimal_plan(
    requests: list[ResourceRequest],
    bids: list[Bid],
    capacities: dict[str, ResourceVector],
    running: list[RunningLease],
    duals: dict[int, float],
) -> None:
    best = planned(requests, bids, capacities, running, fixed=True)
    table = tabulate(requests, bids, capacities, running=running, surcharges=Priced())
    data = assemble(table, construct(table, fixed_starts=True))
    assert lagrangian_bound(data, duals) <= best.objective_microusd


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10), st.integers(1, 3)), max_size=8),
    st.integers(0, 30),
    st.integers(1, 10),
    st.integers(1, 4),
)
def test_a_timeline_agrees_with_counting_every_moment(
    taken: list[tuple[int, int, int]], start: int, length: int, amount: int
) -> None:
    limit = 4
    timeline, used = Timeline(limit), [0] * 60
    for begin, duration, held in taken:
        timeline.take(begin, begin + duration, held)
        for moment in range(begin, begin + duration):
            used[moment] += held
    full = [m for m in range(start, start + length) if used[m] + amount > limit]
    clear = timeline.conflict_end(start, start + length, amount)
    assert [timeline.used_at(m) for m in range(60)] == used
    assert (clear == start) == (not full)
    if full:
        assert clear is not None
        assert clear > max(full)
        assert all(used[m] + amount > limit for m in range(max(full), clear))


@settings(max_examples=150, deadline=None)
@given(asked(), offered(), CAPACITIES, RUNNING, st.randoms(use_true_random=False))
def test_a_plan_walked_in_its_order_fits_whatever_times_turn_out_to_be(
    requests: list[ResourceRequest],
    bids: list[Bid],
    capacities: dict[str, ResourceVector],
    running: list[RunningLease],
    draws: Random,
) -> None:
    found = planned(requests, bids, capacities, running, fixed=False, is_solved=False)
    turns = turns_of(found.awards, requests, bids, capacities, running)
    assert sorted(turn.award.request_id for turn in turns) == sorted(
        award.request_id for award in found.awards
    )
    starts, _ = walked(turns, {turn.request.request_id: turn.award.expected_ms for turn in turns})
    for award in found.awards:
        assert starts[award.request_id] <= award.start_ms
    takes = {turn.request.request_id: draws.randint(1, 150_000) for turn in turns}
    starts, ends = walked(turns, takes)
    asked_for = {request.request_id: request for request in requests}
    for award in found.awards:
        request, at = asked_for[award.request_id], starts[award.request_id]
        assert at >= request.earliest_start_ms
        assert all(ends[parent] <= at for parent in request.depends_on if parent in ends)
        there = [a for a in found.awards if starts[a.request_id] <= at < ends[a.request_id]]
        for dimension in ("cpu_millis", "memory_bytes"):
            taken = sum(
                getattr(a.size, dimension) * asked_for[a.request_id].quantity
                for a in there
                if a.capacity_id == award.capacity_id
            )
            back = sum(
                getattr(lease.size, dimension)
                for lease in running
                if lease.capacity_id == award.capacity_id and 0 < lease.until_ms <= at
            )
            assert taken <= getattr(capacities[award.capacity_id], dimension) + back
        bid = next(bid for bid in bids if bid.bid_id == award.bid_id)
        units = sum(asked_for[a.request_id].quantity for a in there if a.bid_id == award.bid_id)
        assert bid.rates is not None or units <= bid.quantity


def walked(
    turns: tuple[Turn, ...], takes: dict[str, int]
) -> tuple[dict[str, float], dict[str, float]]:
    """Returns starts and ends where everything takes so long."""
    starts, ends = dict[str, float](), dict[str, float]()
    for turn in turns:
        name = turn.request.request_id
        starts[name] = max([turn.not_before_ms, *(ends[other] for other in turn.after)])
        ends[name] = starts[name] + takes[name]
    return starts, ends
