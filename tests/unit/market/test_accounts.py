from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.resources import ResourceVector
from cu_market.domain.tender import Tender
from cu_market.market.accounts.spending import (
    Terms,
    committed_microusd,
    expected_microusd,
    goes_first,
    used_core_ms,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CORE = ResourceVector(cpu_millis=1000, memory_bytes=1)
FOUR = CORE.times(4)


def lease(run_id: str, began: float, ended: float | None, **fields: object) -> Allocation:
    """A lease of one core from began to ended, in seconds before now."""
    values: dict[str, object] = {
        "state": AllocationState.ACCEPTED if ended is None else AllocationState.SETTLED,
        "leased_at": NOW - timedelta(seconds=began),
        "ended_at": None if ended is None else NOW - timedelta(seconds=ended),
        "price_microusd_per_hour": 3_600_000,
        "expected_ms": 1000,
        "size": CORE,
    }
    return Allocation(
        run_id=run_id,
        step_key="s",
        attempt=1,
        auction_id="a",
        bid_id="b",
        provider="p",
        resource_id="p/x",
        capacity_id="p",
        awarded_at=NOW,
        **(values | fields),  # type: ignore[arg-type]
    )


def tender(
    account: str,
    size: ResourceVector = CORE,
    age: float = 0,
    where: str = "p",
    priority: int = 0,
    run_id: str = "",
) -> Tender:
    return Tender(
        run_id=run_id or f"run of {account}",
        account=account,
        capacity_id=where,
        size=size,
        priority=priority,
        noted_at=NOW - timedelta(seconds=age),
    )


def first(used: dict[str, int], *others: Tender, free: ResourceVector = CORE) -> str | None:
    terms = {"own": Terms(weight=Fraction(2))}
    found = goes_first(tender("own"), others, used, terms, free=free, total=FOUR, now=NOW)
    return None if found is None else found.account


def test_use_is_counted_inside_the_window_and_to_the_expected_end() -> None:
    since = NOW - timedelta(seconds=10)
    leases = [lease("r", 20, 5), lease("r", 4, 3), lease("q", 2, None, expected_ms=7000)]
    used = used_core_ms(leases, {"r": "x"}, since=since, now=NOW)
    assert used == {"x": 5000 + 1000, "default": 7000}


def test_the_account_that_has_used_least_for_its_weight_goes_first() -> None:
    used = {"own": 4000, "less": 1000, "as much": 2000, "more": 3000}
    assert first(used, tender("less"), tender("as much"), tender("more")) == "less"
    assert first(used, tender("as much"), tender("more")) is None  # 4000 / 2 is no more than 2000


def test_who_does_not_wait_here_and_now_for_what_is_free_is_passed() -> None:
    used = {"own": 4000}
    big = ResourceVector(cpu_millis=2000, memory_bytes=1)
    assert first(used, tender("x", size=big)) is None
    assert first(used, tender("x", age=10)) is None
    assert first(used, tender("x", where="elsewhere")) is None
    assert first(used, tender("own")) is None
    assert first(used, tender("x")) == "x"


def test_of_one_account_the_run_of_most_priority_goes_first() -> None:
    urgent, other = (tender("own", priority=n, run_id=f"run {n}") for n in (3, 2))
    own = tender("own", priority=1, run_id="run 1")

    def first_of(*others: Tender, asking: Tender = own) -> Tender | None:
        used = {"own": 4000, "x": 1}
        return goes_first(asking, others, used, {}, free=CORE, total=FOUR, now=NOW)

    assert first_of(other, urgent, own) is urgent
    assert first_of(other, own, asking=urgent) is None
    assert first_of(tender("own", priority=1, run_id="as urgent")) is None
    assert first_of(tender("own", priority=5, run_id="run 1")) is None  # its own, before it changed
    assert first_of(tender("own", priority=9, age=10)) is None  # it waits no more
    assert first_of(tender("own", priority=9, where="elsewhere")) is None
    # A large step would never find room if each core that becomes free went to a small one.
    assert first_of(tender("own", priority=9, size=FOUR)) is not None
    assert first_of(tender("own", priority=9, size=CORE.times(5))) is None  # nor if it waits
    # Between accounts the weights decide, however urgent a run is to its own.
    assert first_of(tender("own", priority=9), asking=tender("x")) is None
    least = tender("x", priority=-9)
    assert first_of(least, urgent) is least


def test_what_is_committed_is_what_was_paid_and_what_is_expected_at_least() -> None:
    leases = [
        lease("r", 20, 5, cost_microusd=77),
        lease("r", 2, None, expected_ms=5000),
        lease("r", 9, None, expected_ms=5000),
        lease("r", 9, 4, state=AllocationState.EXPIRED),
    ]
    assert committed_microusd(leases, NOW) == 77 + 5000 + 9000 + 5000
    assert expected_microusd(lease("r", 0, None, expected_ms=10, minimum_ms=60_000)) == 60_000


def test_egress_is_committed_where_inputs_are_read_and_nowhere_else() -> None:
    read = {"egress_microusd": 90_000, "accepted_at": NOW}
    leases = [
        lease("r", 20, 5, cost_microusd=77, **read),
        lease("r", 2, None, expected_ms=5000, **read),
        lease("r", 2, None, expected_ms=5000, egress_microusd=500, state=AllocationState.LEASED),
        lease("r", 9, 4, state=AllocationState.EXPIRED, **read),
        lease("r", 9, 8, state=AllocationState.RELEASED, cost_microusd=0, egress_microusd=10**9),
        lease("r", 9, 8, state=AllocationState.SETTLED, cost_microusd=0, egress_microusd=10**9),
    ]
    assert committed_microusd(leases, NOW) == 3 * 90_000 + 500 + 77 + 5000 + 5000 + 5000
    assert expected_microusd(lease("r", 0, None, expected_ms=10, **read)) == 90_010


@settings(deadline=None)
@given(
    weights=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=5),
)
def test_served_one_by_one_shares_come_out_by_weight(
    weights: list[int], lengths: list[int]
) -> None:
    """One place, everybody always waits: nobody is ever further off than one lease each."""
    names = [f"account {k}" for k in range(len(weights))]
    terms = {n: Terms(weight=Fraction(w)) for n, w in zip(names, weights, strict=True)}
    used = dict.fromkeys(names, 0)
    for turn in range(300):
        served = [
            name
            for name in names
            if goes_first(
                tender(name),
                [tender(n) for n in names],
                used,
                terms,
                free=CORE,
                total=CORE,
                now=NOW,
            )
            is None
        ]
        assert served
        used[served[0]] += lengths[turn % len(lengths)]
    claims = [used[name] / weight for name, weight in zip(names, weights, strict=True)]
    assert max(claims) - min(claims) <= max(lengths)
