"""Buying ahead: never for less than it costs, never more than there is room for, nothing twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cu_market.domain.purchase import OPEN, Purchase, PurchaseState
from cu_market.domain.resources import ResourceVector
from cu_market.market.ahead.buying import Want, plan_ahead, purchase_of
from cu_market.market.ahead.newsvendor import plan_purchase

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR_MS = 3_600_000

times_ms = st.lists(st.integers(0, 600_000), min_size=1, max_size=8)
prices = st.integers(0, 5_000_000)


def expected_cost(
    lead_ms: int, startups: list[int], lags: list[int], price: int, value: int
) -> float:
    """What being early and being late cost, by hand: the mean over every pair."""
    pairs = [(startup, lag) for startup in startups for lag in lags]
    early = sum(max(0, lead_ms + lag - startup) for startup, lag in pairs) / len(pairs)
    late = sum(max(0, startup - lag - lead_ms) for startup, lag in pairs) / len(pairs)
    return (early * price + late * value) / HOUR_MS


@given(times_ms, times_ms, prices, prices, st.integers(0, 1000), st.integers(0, 60_000))
def test_what_is_bought_saves_more_than_it_costs(
    startups: list[int], lags: list[int], price: int, value: int, permille: int, patience: int
) -> None:
    bought = plan_purchase(
        startups,
        price_microusd_per_hour=price,
        value_of_time_microusd_per_hour=value,
        probability_permille=permille,
        lags_ms=lags,
        patience_ms=patience,
    )
    if bought is None:
        return
    assert value > 0
    assert permille > 0
    assert bought.waiting_saved_microusd > bought.holding_microusd >= 0
    most = max(startups) * value / HOUR_MS
    assert bought.waiting_saved_microusd <= most


@given(times_ms, times_ms, prices, st.integers(1, 5_000_000))
def test_no_other_moment_costs_less(
    startups: list[int], lags: list[int], price: int, value: int
) -> None:
    bought = plan_purchase(
        startups, price_microusd_per_hour=price, value_of_time_microusd_per_hour=value, lags_ms=lags
    )
    if bought is None:
        return
    best = expected_cost(bought.lead_ms, startups, lags, price, value)
    for lead in {startup - lag for startup in startups for lag in lags}:
        assert best <= expected_cost(lead, startups, lags, price, value) + 1e-6


@given(times_ms, st.integers(0, 600_000), prices, prices, st.integers(0, 1000))
def test_what_may_be_billed_for_nothing_counts_with_its_minimum(
    startups: list[int], minimum: int, price: int, value: int, permille: int
) -> None:
    def bought(minimum_ms: int) -> int | None:
        found = plan_purchase(
            startups,
            price_microusd_per_hour=price,
            value_of_time_microusd_per_hour=value,
            probability_permille=permille,
            minimum_ms=minimum_ms,
        )
        return None if found is None else found.holding_microusd

    without, with_minimum = bought(0), bought(minimum)
    mean = sum(startups) // len(startups)
    if minimum <= mean or permille == 1000:
        assert with_minimum == without
    elif without is None:
        assert with_minimum is None
    elif with_minimum is not None:
        more = (1000 - permille) * (minimum - mean) / 1000 * price / HOUR_MS
        assert with_minimum - without == pytest.approx(more, abs=2 + price / HOUR_MS)


@given(times_ms, prices)
def test_nothing_is_bought_where_time_has_no_value(startups: list[int], price: int) -> None:
    bought = plan_purchase(
        startups, price_microusd_per_hour=price, value_of_time_microusd_per_hour=0
    )
    assert bought is None


@st.composite
def wants(draw: st.DrawFn, number: int) -> Want:
    return Want(
        want_id=f"want-{number}",
        code_location="here",
        job="nightly",
        step_key="a",
        account="default",
        source=draw(st.sampled_from(["schedule", "queue"])),
        expected_at=NOW + timedelta(milliseconds=draw(st.integers(0, 900_000))),
        fit=draw(st.sampled_from(["one", "other"])),
        provider="p",
        resource_id="p/cu",
        capacity_id=draw(st.sampled_from(["c", "d"])),
        size=ResourceVector(
            cpu_millis=draw(st.integers(1, 4000)), memory_bytes=draw(st.integers(1, 2**33))
        ),
        price_microusd_per_hour=draw(prices),
        value_of_time_microusd_per_hour=draw(prices),
        startups_ms=tuple(draw(times_ms)),
        lags_ms=tuple(draw(times_ms)),
        probability_permille=draw(st.integers(0, 1000)),
    )


@st.composite
def bought_before(draw: st.DrawFn, number: int) -> Purchase:
    started_at = NOW - timedelta(milliseconds=draw(st.integers(0, 900_000)))
    expected_at = NOW + timedelta(milliseconds=draw(st.integers(-900_000, 900_000)))
    return Purchase(
        purchase_id=draw(st.sampled_from([f"want-{number}", f"other-{number}"])),
        state=draw(st.sampled_from(list(PurchaseState))),
        provider="p",
        resource_id="p/cu",
        capacity_id=draw(st.sampled_from(["c", "d"])),
        size=ResourceVector(
            cpu_millis=draw(st.integers(1, 4000)), memory_bytes=draw(st.integers(1, 2**33))
        ),
        price_microusd_per_hour=draw(prices),
        code_location="here",
        job="nightly",
        step_key="a",
        source="schedule",
        account="default",
        fit=draw(st.sampled_from(["one", "other"])),
        waiting_saved_microusd=draw(prices),
        holding_microusd=0,
        reason="",
        buyer="me",
        started_at=started_at,
        expected_at=expected_at,
        expires_at=expected_at + timedelta(milliseconds=draw(st.integers(1, 900_000))),
    )


@given(st.data(), st.integers(0, 4), st.integers(0, 4), st.integers(0, 5))
def test_a_plan_keeps_to_its_rules(data: st.DataObject, wanted: int, there: int, most: int) -> None:
    asked = [data.draw(wants(number)) for number in range(wanted)]
    bought = [data.draw(bought_before(number)) for number in range(there)]
    free = {
        name: ResourceVector(
            cpu_millis=data.draw(st.integers(0, 8000)),
            memory_bytes=data.draw(st.integers(0, 2**34)),
        )
        for name in ("c", "d")
    }
    money = (
        {"default": data.draw(st.integers(-1000, 2_000_000))} if data.draw(st.booleans()) else {}
    )
    plan = plan_ahead(asked, bought, now=NOW, free=free, most=most, money=money)
    standing = [each for each in bought if each.is_used is None]
    released = [each for each, _ in plan.releases]
    # Nothing is bought twice, before it is due, or for more than it saves.
    ids = [buy.want.want_id for buy in plan.buys]
    assert len(ids) == len(set(ids))
    assert not set(ids) & {each.purchase_id for each in bought}
    for buy in plan.buys:
        assert buy.want.value_of_time_microusd_per_hour > 0
        assert buy.terms.waiting_saved_microusd > buy.terms.holding_microusd
        assert buy.want.expected_at - timedelta(milliseconds=buy.terms.lead_ms) <= NOW
        assert buy.expires_at > buy.want.expected_at
    # Only what nobody has taken is let go or kept for another, and not both.
    moved = [*released, *(each for each, _ in plan.extends)]
    assert all(each.state in OPEN for each in moved)
    assert len({each.purchase_id for each in moved}) == len(moved)
    # What is overdue and awaited by nobody goes.
    for each in standing:
        is_own = each.purchase_id in {want.want_id for want in asked}
        if each.state in OPEN and each.expires_at <= NOW and not is_own:
            assert each in released
    # What is left fits: beside everything that stays.
    for name, room in free.items():
        given_back = sum((r.size for r in released if r.capacity_id == name), ResourceVector())
        added = sum(
            (b.want.size for b in plan.buys if b.want.capacity_id == name), ResourceVector()
        )
        assert added.fits_in(room + given_back)
    # What is bought is paid for, and so is what stays, to its end; where nothing is left, all goes.
    if money:
        until = {each.purchase_id: end for each, end in plan.extends}
        stays = [each for each in standing if each.state in OPEN and each not in released]
        if plan.buys:
            costs = sum(
                each.cost_until(max(NOW, until.get(each.purchase_id, each.expires_at)))
                - each.cost_until(NOW)
                for each in stays
            )
            for buy in plan.buys:
                made = purchase_of(buy, buyer="me", now=NOW)
                costs += made.cost_until(made.expires_at)
            assert costs <= money["default"]
        assert not stays or money["default"] > 0
    if plan.buys:
        assert len(standing) - len(released) + len(plan.buys) <= most


def a_want(**fields: object) -> Want:
    defaults: dict[str, object] = {
        "want_id": "w",
        "code_location": "here",
        "job": "nightly",
        "step_key": "a",
        "account": "default",
        "source": "schedule",
        "expected_at": NOW + timedelta(seconds=10),
        "fit": "one",
        "provider": "p",
        "resource_id": "p/cu",
        "capacity_id": "c",
        "size": ResourceVector(cpu_millis=1000),
        "price_microusd_per_hour": 360_000,
        "value_of_time_microusd_per_hour": 3_600_000,
        "startups_ms": (20_000,),
    }
    return Want(**(defaults | fields))  # type: ignore[arg-type]


FREE = {"c": ResourceVector(cpu_millis=8000)}


def test_the_life_of_a_purchase() -> None:
    want = a_want()
    (buy,) = plan_ahead([want], [], now=NOW, free=FREE, most=4).buys
    assert "nightly is scheduled at 12:00:10 UTC" in buy.terms.reason
    assert "20.0 s of waiting saved are worth 20000 micro-dollars" in buy.terms.reason
    made = purchase_of(buy, buyer="me", now=NOW)
    # Bought once; kept until the launch, and while that may be late.
    kept = plan_ahead([want], [made], now=NOW, free=FREE, most=4)
    assert (kept.buys, kept.releases) == ((), ())
    late = NOW + timedelta(seconds=60)
    assert plan_ahead([], [made], now=late, free=FREE, most=4).releases == ()
    # 20,000 micro-dollars are what 200 s of standing by cost: then it is let go.
    ((gone, why),) = plan_ahead(
        [], [made], now=NOW + timedelta(seconds=210), free=FREE, most=4
    ).releases
    assert gone is made
    assert why == "nobody came within 200 s of the expected launch"
    # A schedule that was turned off is noticed before its tick.
    ((_, why),) = plan_ahead([], [made], now=NOW, free=FREE, most=4).releases
    assert why == "its launch is expected no more"


def test_it_is_kept_for_the_next_launch_where_that_is_cheaper() -> None:
    (buy,) = plan_ahead([a_want()], [], now=NOW, free=FREE, most=4).buys
    made = purchase_of(buy, buyer="me", now=NOW)
    now = NOW + timedelta(seconds=15)
    near = a_want(want_id="near", expected_at=NOW + timedelta(seconds=120))
    plan = plan_ahead([near], [made], now=now, free=FREE, most=4)
    assert (plan.buys, plan.releases, plan.extends) == ((), (), ())  # it stands until then anyway
    far = replace(near, expected_at=NOW + timedelta(seconds=600))
    plan = plan_ahead([far], [made], now=now, free=FREE, most=4)
    assert (plan.extends, plan.releases) == ((), ())
    assert plan.next_at == far.expected_at - timedelta(seconds=20)
    cheap = replace(made, price_microusd_per_hour=3600)
    ((kept, until),) = plan_ahead([far], [cheap], now=now, free=FREE, most=4).extends
    assert kept is cheap
    assert until == far.expected_at + timedelta(seconds=30)


def test_a_launch_whose_run_takes_long_to_ask_is_bought_for_later() -> None:
    want = a_want(lags_ms=(30_000,))
    plan = plan_ahead([want], [], now=NOW, free=FREE, most=4)
    assert plan.buys == ()
    assert plan.next_at == want.expected_at + timedelta(seconds=10)


def test_one_that_was_let_go_is_not_bought_again() -> None:
    want = a_want()
    (buy,) = plan_ahead([want], [], now=NOW, free=FREE, most=4).buys
    gone = replace(purchase_of(buy, buyer="me", now=NOW), state=PurchaseState.LET_GO)
    assert plan_ahead([want], [gone], now=NOW, free=FREE, most=4).buys == ()


def test_nothing_is_bought_beyond_the_accounts_ceiling() -> None:
    want = a_want()
    (buy,) = plan_ahead([want], [], now=NOW, free=FREE, most=4).buys
    made = purchase_of(buy, buyer="me", now=NOW)
    costs = made.cost_until(made.expires_at)
    assert plan_ahead([want], [], now=NOW, free=FREE, most=4, money={"default": costs}).buys
    plan = plan_ahead([want], [], now=NOW, free=FREE, most=4, money={"default": costs - 1})
    assert plan.buys == ()
    assert plan.declined == {
        "w": "standing by may cost $0.021000, more than the ceiling of account 'default' leaves"
    }
    assert plan_ahead([want], [], now=NOW, free=FREE, most=4, money={"other": 0}).buys
    # Another one that stands has what it may cost yet; where nothing is left, it goes.
    other = a_want(want_id="v")
    both = {"default": 2 * costs - 1}
    plan = plan_ahead([want, other], [made], now=NOW, free=FREE, most=4, money=both)
    assert (plan.buys, plan.releases) == ((), ())
    none = {"default": 0}
    ((gone, why),) = plan_ahead([want], [made], now=NOW, free=FREE, most=4, money=none).releases
    assert (gone, why) == (made, "the ceiling of account 'default' is reached")
