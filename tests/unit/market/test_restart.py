"""When a running step is better ended and run again: by hand, and what can never be."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.plan import Award
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.market.renegotiation.restart import Restart, restart_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SIZE = ResourceVector(cpu_millis=1000, memory_bytes=2**30)
HOUR = 3_600_000
LEASE = Allocation(
    run_id="r",
    step_key="s",
    attempt=1,
    state=AllocationState.ACCEPTED,
    auction_id="a",
    bid_id="b",
    provider="p",
    resource_id="here",
    capacity_id="c",
    size=SIZE,
    price_microusd_per_hour=1_000_000,
    expected_ms=2 * HOUR,
    awarded_at=NOW,
)
REQUEST = ResourceRequest(request_id="s", timestamp=NOW, duration_ms=2 * HOUR, needs=SIZE)
THERE = Award(
    request_id="s",
    bid_id="t",
    provider="p",
    resource_id="there",
    capacity_id="d",
    size=SIZE,
    price_microusd_per_hour=200_000,
    start_ms=0,
    expected_ms=2 * HOUR,
    money_microusd=400_000,
    cost_microusd=400_000,
)


def restarted(request: ResourceRequest = REQUEST, award: Award | None = THERE, **more: int | None):  # type: ignore[no-untyped-def]
    given = {"left_ms": HOUR, "after_ms": 0, "latest_ms": None, "spare_microusd": None}
    return restart_of(LEASE, request, award, **(given | more))


def test_what_is_left_here_costs_more_than_all_of_it_there() -> None:
    found = restarted()
    assert isinstance(found, Restart)
    assert (found.stays_microusd, found.again_microusd, found.is_saving) == (
        1_000_000,
        400_000,
        True,
    )
    assert found.sentence() == (
        "$1.000000 and 3600.0 s are left of it on here; all of it takes $0.400000 and 7200.0 s on "
        "there"
    )


@pytest.mark.parametrize(
    ("request_", "award", "more"),
    [
        (REQUEST, None, {}),
        (REQUEST, replace(THERE, resource_id="here"), {}),
        (replace(REQUEST, interruptible=False), THERE, {}),
        (REQUEST, THERE, {"left_ms": HOUR * 44 // 100}),  # $0.44 here: a tenth is not saved
        (REQUEST, replace(THERE, loss_microusd=300_000), {}),  # three tenths are not enough
        # An hour later, at 70 cents an hour.
        (replace(REQUEST, value_of_time_microusd_per_hour=700_000), THERE, {}),
        (REQUEST, THERE, {"latest_ms": 2 * HOUR - 1}),  # in time here, late there
        (REQUEST, THERE, {"latest_ms": 2 * HOUR, "after_ms": 1}),
    ],
)
def test_it_is_left_alone(
    request_: ResourceRequest, award: Award | None, more: dict[str, int]
) -> None:
    assert restarted(request_, award, **more) is None


def test_it_is_ended_where_just_enough_is_saved() -> None:
    assert restarted(award=replace(THERE, loss_microusd=299_999)) is not None


def test_a_late_run_ends_sooner_even_if_that_costs_more() -> None:
    quick = replace(THERE, expected_ms=HOUR // 4, money_microusd=5_000_000)
    found = restarted(award=quick, latest_ms=HOUR // 2)
    assert found is not None
    assert not found.is_saving
    assert found.sentence().startswith("the run would end late: ")
    assert restarted(award=quick, latest_ms=HOUR) is None  # it is in time as it stands
    assert restarted(award=quick, latest_ms=HOUR // 2, spare_microusd=3_999_999) is None
    assert restarted(award=quick, latest_ms=HOUR // 2, spare_microusd=4_000_000) is not None
    waits = replace(quick, start_ms=HOUR)
    assert restarted(award=waits, latest_ms=HOUR // 2) is None
