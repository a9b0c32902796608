"""CUs that runs rent whole: planned with an auction, opened under a capacity, closed and billed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from contract_rows import MINUTE, SIZE, T0, auction, award, lease

from cu_market.domain.allocation import Allocation
from cu_market.domain.lease import Refusal
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.profile import CUProfile
from cu_market.domain.rental import Rental, RentalState, rented_name
from cu_market.domain.resources import ResourceVector
from cu_market.ledger.errors import LeaseLostError
from cu_market.ledger.interface import Ledger

SECOND = timedelta(seconds=1)
PROFILE = CUProfile(
    cu_id="cloud/large",
    provider="cloud",
    location="here",
    capacity_id="cloud",
    cpu_millis=2000,
    memory_bytes=2**33,
    price_microusd_per_hour=3_600_000,
    startup_ms=10_000,
)
ONE = PROFILE.size
"""Room for one such CU."""


def rental(number: int = 1, run: str = "run", **fields: Any) -> Rental:
    name = rented_name(PROFILE.cu_id, number)
    defaults: dict[str, Any] = {
        "auction_id": "auction-1",
        "bid_id": "cloud/large",
        "profile": replace(PROFILE, cu_id=name, capacity_id=f"{run}/{name}"),
        "capacity_id": "cloud",
        "price_microusd_per_hour": 3_600_000,
        "expected_ms": 60_000,
        "planned_at": T0,
        "opens_at": T0,
    }
    return Rental(rental_id=f"{run}/{name}", run_id=run, **(defaults | fields))


def share(of: Rental, step: str = "a", attempt: int = 1, **fields: Any) -> Allocation:
    taken = {"resource_id": of.resource_id, "capacity_id": of.rental_id, "provider": "cloud"}
    return award(step, attempt, run=of.run_id, **(taken | fields))


def planned(ledger: Ledger, *rentals: Rental, steps: tuple[Allocation, ...] = ()) -> None:
    ledger.record_auction(auction(), steps, rentals=rentals)


def opened(ledger: Ledger, of: Rental, **fields: Any) -> Rental:
    terms = {"capacity": ONE, "now": T0}
    found = ledger.rent(of, **(terms | fields))
    assert isinstance(found, Rental)
    return found


def taken(ledger: Ledger, of: Rental, step: str = "a", **fields: Any) -> Allocation:
    return lease(ledger, share(of, step), **({"capacity": of.size} | fields))


def ended(ledger: Ledger, row: Allocation, after: timedelta) -> Allocation:
    return ledger.settle(row.key, row.fencing_token, ended_at=T0 + after, usage=None)


def test_it_is_kept_as_it_was_planned_and_holds_no_room_yet(ledger: Ledger) -> None:
    one = rental(valid_until=T0 + MINUTE, minimum_ms=5000)
    planned(ledger, one)
    assert list(ledger.rentals()) == [one]
    assert ledger.held("cloud") == ResourceVector()


def test_an_auction_recorded_again_changes_nothing(ledger: Ledger) -> None:
    planned(ledger, rental())
    opened(ledger, rental())
    planned(ledger, rental())
    assert [each.state for each in ledger.rentals()] == [RentalState.OPEN]


def test_one_of_another_run_is_refused_with_its_auction(ledger: Ledger) -> None:
    with pytest.raises(InvalidInputError, match="not planned for that auction's run"):
        planned(ledger, rental(run="another"))
    assert list(ledger.rentals()) == []


def test_open_it_holds_all_of_its_room(ledger: Ledger) -> None:
    planned(ledger, rental(1), rental(2))
    first = opened(ledger, rental(1), now=T0 + SECOND)
    assert (first.state, first.opened_at) == (RentalState.OPEN, T0 + SECOND)
    assert ledger.held("cloud") == ONE
    refused = ledger.rent(rental(2), capacity=ONE, now=T0)
    assert isinstance(refused, Refusal)
    assert refused.short_of == ("cpu_millis", "memory_bytes")
    assert [each.state for each in ledger.rentals()] == [RentalState.OPEN, RentalState.PLANNED]


def test_opened_again_it_is_as_it_was(ledger: Ledger) -> None:
    planned(ledger, rental())
    first = opened(ledger, rental())
    assert opened(ledger, rental(), now=T0 + MINUTE) == first


def test_what_others_lease_of_its_provider_is_in_its_way_and_it_in_theirs(ledger: Ledger) -> None:
    planned(ledger, rental())
    lease(ledger, award("b", capacity_id="cloud"), capacity=ONE)
    assert isinstance(ledger.rent(rental(), capacity=ONE, now=T0), Refusal)
    opened(ledger, rental(), capacity=ONE + SIZE)
    more = ledger.lease(
        award("c", capacity_id="cloud"), capacity=ONE + SIZE, expires_at=T0 + MINUTE, now=T0
    )
    assert isinstance(more, Refusal)


def test_an_offer_that_has_ended_is_opened_no_more(ledger: Ledger) -> None:
    planned(ledger, rental(valid_until=T0 + SECOND))
    refused = ledger.rent(rental(), capacity=ONE, now=T0 + SECOND)
    assert isinstance(refused, Refusal)
    assert refused.is_expired


def test_one_that_is_unknown_or_closed_is_opened_no_more(ledger: Ledger) -> None:
    with pytest.raises(LeaseLostError, match="none of that name"):
        ledger.rent(rental(), capacity=ONE, now=T0)
    planned(ledger, rental())
    ledger.close_rentals("run", now=T0)
    with pytest.raises(LeaseLostError, match="opens no more"):
        ledger.rent(rental(), capacity=ONE, now=T0)


def test_its_steps_share_its_room_and_nothing_beyond(ledger: Ledger) -> None:
    planned(ledger, rental())
    opened(ledger, rental())
    taken(ledger, rental(), "a")
    taken(ledger, rental(), "b")
    third = ledger.lease(share(rental(), "c"), capacity=ONE, expires_at=T0 + MINUTE, now=T0)
    assert isinstance(third, Refusal)
    assert third.short_of == ("cpu_millis",)
    assert ledger.held("cloud") == ONE


@pytest.mark.parametrize("is_closed", [False, True])
def test_nothing_is_leased_on_one_that_is_not_open(ledger: Ledger, is_closed: bool) -> None:
    planned(ledger, rental())
    if is_closed:
        opened(ledger, rental())
        ledger.close_rentals("run", now=T0)
    refused = ledger.lease(share(rental()), capacity=ONE, expires_at=T0 + MINUTE, now=T0)
    assert isinstance(refused, Refusal)
    assert refused.is_expired
    assert "is rented no more" in refused.reason


def test_it_is_billed_from_its_opening_to_its_last_leases_end(ledger: Ledger) -> None:
    planned(ledger, rental())
    opened(ledger, rental())
    first = taken(ledger, rental(), "a", now=T0 + 10 * SECOND)
    second = taken(ledger, rental(), "b", now=T0 + 20 * SECOND)
    paid = ended(ledger, second, 30 * SECOND).cost_microusd or 0
    assert list(ledger.close_rentals("run", now=T0 + 31 * SECOND)) == []
    paid += ended(ledger, first, 40 * SECOND).cost_microusd or 0
    (closed,) = ledger.close_rentals("run", now=T0 + MINUTE)
    assert (closed.state, closed.closed_at) == (RentalState.CLOSED, T0 + 40 * SECOND)
    assert closed.cost_microusd == 40_000  # 40 s at 3.6 dollars an hour
    assert closed.rest_microusd == 40_000 - paid == 0
    assert list(ledger.rentals()) == [closed]
    assert ledger.held("cloud") == ResourceVector()
    assert list(ledger.close_rentals("run", now=T0 + MINUTE)) == []


def test_what_its_shares_leave_of_its_bill_is_its_rest(ledger: Ledger) -> None:
    planned(ledger, rental())
    opened(ledger, rental())
    cheap = lease(ledger, share(rental(), price_microusd_per_hour=360_000), capacity=ONE)
    ended(ledger, cheap, 10 * SECOND)
    (closed,) = ledger.close_rentals("run", now=T0 + MINUTE)
    assert (closed.cost_microusd, closed.rest_microusd) == (10_000, 9_000)


def test_its_least_time_is_billed(ledger: Ledger) -> None:
    planned(ledger, rental(minimum_ms=60_000))
    opened(ledger, rental())
    ended(ledger, taken(ledger, rental()), SECOND)
    (closed,) = ledger.close_rentals("run", now=T0 + MINUTE)
    assert closed.cost_microusd == 60_000


def test_one_that_nobody_used_is_billed_until_it_is_closed(ledger: Ledger) -> None:
    planned(ledger, rental())
    opened(ledger, rental())
    (closed,) = ledger.close_rentals("run", now=T0 + 7 * SECOND)
    assert (closed.cost_microusd, closed.rest_microusd) == (7_000, 7_000)


def test_one_that_was_never_opened_is_dropped_at_no_cost(ledger: Ledger) -> None:
    planned(ledger, rental(), steps=(share(rental()),))
    assert list(ledger.close_rentals("run", now=T0)) == []  # its step is still to come
    ledger.release_awards("run", now=T0)
    (dropped,) = ledger.close_rentals("run", now=T0 + SECOND)
    assert (dropped.state, dropped.cost_microusd) == (RentalState.DROPPED, None)


def test_one_whose_lease_waits_to_be_settled_stays(ledger: Ledger) -> None:
    planned(ledger, rental())
    opened(ledger, rental())
    row = taken(ledger, rental())
    ledger.revoke("run", now=T0 + 5 * SECOND)
    assert list(ledger.close_rentals("run", now=T0 + MINUTE)) == []
    ended(ledger, row, MINUTE)
    (closed,) = ledger.close_rentals("run", now=T0 + MINUTE)
    assert closed.closed_at == T0 + 5 * SECOND


def test_those_that_are_kept_stay(ledger: Ledger) -> None:
    planned(ledger, rental(1), rental(2))
    closed = ledger.close_rentals("run", now=T0, kept=[rental(1).rental_id])
    assert [each.rental_id for each in closed] == [rental(2).rental_id]


def test_they_are_found_by_run_state_and_time(ledger: Ledger) -> None:
    planned(ledger, rental(1), rental(2))
    other = rental(run="other", auction_id="auction-2", planned_at=T0 + SECOND)
    ledger.record_auction(auction("auction-2", run="other"), (), rentals=[other])
    ledger.close_rentals("other", now=T0 + MINUTE)
    opened(ledger, rental(1))

    def names(**which: Any) -> list[str]:
        return [each.rental_id for each in ledger.rentals(**which)]

    ours, theirs = [rental(1).rental_id, rental(2).rental_id], other.rental_id
    assert names() == [*ours, theirs]
    assert names(run_id="run") == ours
    assert names(states=[RentalState.OPEN]) == ours[:1]
    assert names(since=T0 + MINUTE) == ours
    assert names(since=T0) == [*ours, theirs]
