"""Shared CUs: whatever is asked and offered, the plan holds, adds up, and costs no more."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sellers import NOW, Seller, market_of, run, step

from cu_market.domain.outline import StepOutline
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.rental import Rental, offered_name, rented_name, share_rates
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GB, MS_PER_HOUR, divide_half_even
from cu_market.market.auction import Cleared
from cu_market.ral.provider import Capabilities

AMOUNTS = st.integers(min_value=1, max_value=8)


@given(
    cores=st.integers(min_value=1, max_value=64),
    gb=st.integers(min_value=1, max_value=512),
    gpus=st.integers(min_value=0, max_value=8),
    price=st.integers(min_value=0, max_value=50_000_000),
    cuts=st.lists(st.integers(min_value=0, max_value=1000), min_size=1, max_size=6),
)
def test_parts_of_a_cu_never_cost_more_than_it_does(
    cores: int, gb: int, gpus: int, price: int, cuts: Sequence[int]
) -> None:
    whole = ResourceVector(cpu_millis=1000 * cores, memory_bytes=gb * GB, gpu_count=gpus)
    rates = share_rates(whole, price)
    at = [0, *sorted(cuts), 1000]
    parts = [
        ResourceVector(
            cpu_millis=whole.cpu_millis * (b - a) // 1000,
            memory_bytes=whole.memory_bytes * (b - a) // 1000,
            gpu_count=gpus * b // 1000 - gpus * a // 1000,
        )
        for a, b in pairwise(at)
    ]
    # Each part's price is rounded by itself, by half a micro-dollar at most.
    assert sum(map(rates.price_microusd_per_hour, parts)) <= price + len(parts) / 2


@given(name=st.from_regex(r"[a-z]+/[a-z0-9.]+", fullmatch=True), number=st.integers(1, 999))
def test_a_rentals_name_tells_the_cu(name: str, number: int) -> None:
    assert offered_name(rented_name(name, number)) == name
    assert offered_name(name) == name


@st.composite
def steps(draw: st.DrawFn) -> list[StepOutline]:
    made: list[StepOutline] = []
    for number in range(draw(st.integers(min_value=2, max_value=9))):
        before = [made[k].step_key for k in range(number) if draw(st.integers(0, 4)) == 0]
        said = {
            "cpu_cores": str(draw(st.integers(min_value=1, max_value=4))),
            "memory_gb": str(draw(AMOUNTS)),
            "duration_seconds": str(60 * draw(AMOUNTS)),
        }
        made.append(step(f"s{number}", *before, **said))
    return made


@st.composite
def sellers(draw: st.DrawFn) -> list[Seller]:
    return [
        Seller(
            name,
            draw(st.integers(min_value=1, max_value=40)) / 10,
            quantity=draw(st.integers(min_value=1, max_value=9)),
            capabilities=Capabilities(exclusive=draw(st.integers(0, 4)) == 0),
            profile={
                "startup_ms": 1000 * draw(st.integers(min_value=0, max_value=120)),
                "interruption_millis_per_hour": draw(st.sampled_from([0, 0, 50])),
            },
        )
        for name in ("one", "two")
    ]


@settings(max_examples=60, deadline=None)
@given(
    asked=steps(),
    selling=sellers(),
    patience=st.sampled_from(["0", "0.05", "20"]),
    deadline=st.sampled_from([None, 1800, 3600, 7200]),
)
def test_a_plan_on_shared_cus_holds_and_is_no_dearer(
    asked: list[StepOutline], selling: list[Seller], patience: str, deadline: int | None
) -> None:
    until = {} if deadline is None else {"deadline_seconds": str(deadline)}
    outline = run(*asked, value_of_time_usd_per_hour=patience, **until)
    try:
        apart = market_of(*selling, share_cus=False).clear(outline, place="launcher")
    except InvalidInputError:
        assume(False)
    market = market_of(*selling)
    found = market.clear(outline, place="launcher")
    rentals = {rental.rental_id: rental for rental in market.ledger.rentals()}
    assert len(found.allocations) == len(asked)
    assert _cost(found) <= _cost(apart)
    _check(asked, selling, found, rentals)
    if deadline is not None and not found.auction.report.get("together"):
        _check_in_time(asked, selling, found, 1000 * deadline)
    if not rentals:
        assert [a.resource_id for a in found.plan.awards] == [
            a.resource_id for a in apart.plan.awards
        ]


def _cost(found: Cleared) -> int:
    return sum(award.cost_microusd for award in found.plan.awards) + found.plan.rest_microusd


def _check_in_time(
    asked: Sequence[StepOutline], selling: Sequence[Seller], found: Cleared, deadline_ms: int
) -> None:
    """Each ends in time; one that may be revoked, so early that all of it and what follows could
    run again."""
    revocable = {s.name for s in selling if s.profile["interruption_millis_per_hour"]}
    takes = {s.step_key: 1000 * int(s.tags["cu/duration_seconds"]) for s in asked}
    after = dict.fromkeys(takes, 0)
    for each in reversed(asked):
        for parent in each.depends_on:
            after[parent] = max(after[parent], after[each.step_key] + takes[each.step_key])
    risky = [note for note in found.plan.notes if "leaves no time for a retry" in note]
    for award in found.plan.awards:
        end = award.start_ms + award.expected_ms
        assert end <= deadline_ms
        if award.provider in revocable and not risky:
            assert end + award.expected_ms + after[award.request_id] <= deadline_ms


def _check(
    asked: Sequence[StepOutline],
    selling: Sequence[Seller],
    found: Cleared,
    rentals: dict[str, Rental],
) -> None:
    """From the records alone: order, room and units at every moment, each bill exactly."""
    awards = {award.request_id: award for award in found.plan.awards}
    ends = {name: award.start_ms + award.expected_ms for name, award in awards.items()}
    for each in asked:
        for parent in each.depends_on:
            assert awards[each.step_key].start_ms >= ends[parent]
    on: dict[str, list[str]] = defaultdict(list)
    for name, award in awards.items():
        on[award.capacity_id].append(name)
    for rental_id, rental in rentals.items():
        there = on[rental_id]
        assert there, "nothing is rented for nobody"
        opens_ms = (rental.opens_at - NOW).total_seconds() * 1000
        first = min(awards[name].start_ms for name in there)
        last = max(ends[name] for name in there)
        assert opens_ms == first - rental.profile.startup_ms >= 0
        assert rental.expected_ms == last - opens_ms
        for moment in {awards[name].start_ms for name in there}:
            held = sum(
                (awards[n].size for n in there if awards[n].start_ms <= moment < ends[n]),
                ResourceVector(),
            )
            assert held.fits_in(rental.size)
    bills = sum(
        divide_half_even(rental.price_microusd_per_hour * rental.expected_ms, MS_PER_HOUR)
        for rental in rentals.values()
    )
    alone = sum(a.money_microusd for a in awards.values() if a.capacity_id not in rentals)
    assert found.plan.money_microusd - alone - bills in range(len(awards) + 1)
    for seller in selling:
        moments = [0, *(award.start_ms for award in awards.values())]
        for moment in moments:
            whole = sum(
                a.start_ms <= moment < ends[n]
                for n, a in awards.items()
                if a.capacity_id == f"{seller.name}/cu"
            )
            whole += sum(
                (rental.opens_at - NOW).total_seconds() * 1000
                <= moment
                < (rental.opens_at - NOW).total_seconds() * 1000 + rental.expected_ms
                for rental in rentals.values()
                if rental.capacity_id == f"{seller.name}/cu"
            )
            assert whole <= seller.quantity
