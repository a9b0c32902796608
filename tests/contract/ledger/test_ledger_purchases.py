"""CUs bought ahead hold room, are taken by one run, and end used or let go, billed once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from contract_rows import MINUTE, ROOM_FOR_TWO, SIZE, T0, award, lease

from cu_market.domain.lease import Refusal
from cu_market.domain.purchase import Purchase, PurchaseState
from cu_market.domain.resources import ResourceVector
from cu_market.ledger.interface import Ledger

SECOND = timedelta(seconds=1)


def purchase(purchase_id: str = "p", **fields: Any) -> Purchase:
    defaults: dict[str, Any] = {
        "provider": "local",
        "resource_id": "local/standard",
        "capacity_id": "local",
        "size": SIZE,
        "price_microusd_per_hour": 3_600_000,
        "code_location": "here",
        "job": "nightly",
        "step_key": "a",
        "source": "schedule",
        "account": "default",
        "fit": "fit",
        "expected_at": T0 + MINUTE,
        "waiting_saved_microusd": 7,
        "holding_microusd": 3,
        "reason": "since",
        "buyer": "me",
        "started_at": T0,
        "expires_at": T0 + 2 * MINUTE,
    }
    return Purchase(purchase_id=purchase_id, **(defaults | fields))


def bought(ledger: Ledger, purchase_id: str = "p", **fields: Any) -> Purchase:
    made = ledger.buy(purchase(purchase_id, **fields), capacity=ROOM_FOR_TWO)
    assert isinstance(made, Purchase)
    return made


def test_it_is_kept_as_it_was_bought_and_holds_room(ledger: Ledger) -> None:
    made = bought(ledger)
    assert list(ledger.purchases()) == [made] == [purchase()]
    assert ledger.held("local") == SIZE
    assert ledger.held("another") == ResourceVector()
    assert made.is_used is None


def test_bought_again_it_is_the_row_that_is_there(ledger: Ledger) -> None:
    first = bought(ledger)
    again = ledger.buy(purchase(buyer="another"), capacity=ROOM_FOR_TWO)
    assert again == first
    ledger.let_go("p", outcome="nobody came", now=T0 + SECOND)
    ended = ledger.buy(purchase(), capacity=ROOM_FOR_TWO)
    assert isinstance(ended, Purchase)
    assert ended.state is PurchaseState.LET_GO


def test_nothing_is_sold_twice(ledger: Ledger) -> None:
    bought(ledger, "p")
    lease(ledger, award("a"))
    refused = ledger.buy(purchase("q"), capacity=ROOM_FOR_TWO)
    assert isinstance(refused, Refusal)
    assert refused.short_of == ("cpu_millis",)
    assert len(ledger.purchases()) == 1
    wanted = ledger.lease(award("b"), capacity=ROOM_FOR_TWO, expires_at=T0 + MINUTE, now=T0)
    assert isinstance(wanted, Refusal)
    ledger.let_go("p", outcome="gives way", now=T0)
    lease(ledger, award("b"))


def test_a_lease_does_not_grow_into_it(ledger: Ledger) -> None:
    held = lease(ledger, award("a"))
    bought(ledger)
    grown = ledger.grow(
        held,
        size=replace(SIZE, cpu_millis=1500),
        price_microusd_per_hour=5_000_000,
        capacity=ROOM_FOR_TWO,
        now=T0 + SECOND,
    )
    assert isinstance(grown, Refusal)


def test_getting_on(ledger: Ledger) -> None:
    bought(ledger)
    assert ledger.advance_purchase("p", holder="h/1/2") == purchase(holder="h/1/2")
    longer = ledger.advance_purchase("p", expires_at=T0 + 5 * MINUTE)
    assert longer == purchase(holder="h/1/2", expires_at=T0 + 5 * MINUTE)
    ready = ledger.advance_purchase("p", ready_at=T0 + SECOND)
    assert ready is not None
    assert (ready.state, ready.ready_at) == (PurchaseState.READY, T0 + SECOND)
    assert ledger.advance_purchase("nothing", holder="h") is None
    ledger.take_purchase("p", run_id="run", now=T0 + SECOND)
    assert ledger.advance_purchase("p", holder="late") is None


@pytest.mark.parametrize("is_ready", [True, False])
def test_one_run_takes_it(ledger: Ledger, is_ready: bool) -> None:
    bought(ledger)
    if is_ready:
        ledger.advance_purchase("p", ready_at=T0 + SECOND)
    taken = ledger.take_purchase("p", run_id="run", now=T0 + 2 * SECOND)
    assert taken is not None
    assert (taken.state, taken.run_id) == (PurchaseState.TAKEN, "run")
    assert taken.taken_at == T0 + 2 * SECOND
    assert ledger.take_purchase("p", run_id="run", now=T0 + 3 * SECOND) == taken
    assert ledger.take_purchase("p", run_id="other", now=T0 + 3 * SECOND) is None
    assert ledger.take_purchase("nothing", run_id="run", now=T0) is None
    assert list(ledger.purchases(run_id="run", states=[PurchaseState.TAKEN])) == [taken]


def test_its_room_goes_to_the_lease_of_who_took_it(ledger: Ledger) -> None:
    bought(ledger, "p", holder="h/1")
    bought(ledger, "q", holder="h/2")
    ledger.take_purchase("p", run_id="run", now=T0 + SECOND)
    refused = ledger.lease(
        award("z", run="other", holder="h/1"),
        capacity=ROOM_FOR_TWO,
        expires_at=T0 + MINUTE,
        now=T0 + SECOND,
    )
    assert isinstance(refused, Refusal)
    given = lease(ledger, award("a", holder="h/1"), now=T0 + 2 * SECOND)
    assert given.size == SIZE
    (used,) = ledger.purchases(states=[PurchaseState.USED])
    assert (used.purchase_id, used.run_id, used.is_used) == ("p", "run", True)
    assert (used.ended_at, used.cost_microusd) == (T0 + 2 * SECOND, 2_000)
    assert ledger.held("local") == SIZE + SIZE
    (standing,) = ledger.purchases(states=[PurchaseState.STARTING])
    assert standing.purchase_id == "q"


def test_what_a_run_sees_held(ledger: Ledger) -> None:
    bought(ledger, "p")
    bought(ledger, "q")
    assert ledger.held("local") == SIZE + SIZE
    assert ledger.held("local", run_id="run") == ResourceVector()  # all give way to it
    ledger.take_purchase("p", run_id="run", now=T0)
    assert ledger.held("local", run_id="run") == ResourceVector()
    assert ledger.held("local", run_id="other") == SIZE


def test_it_is_let_go_once_and_billed(ledger: Ledger) -> None:
    bought(ledger)
    gone = ledger.let_go("p", outcome="nobody came", now=T0 + MINUTE)
    assert gone is not None
    assert (gone.state, gone.is_used) == (PurchaseState.LET_GO, False)
    assert (gone.cost_microusd, gone.outcome) == (60_000, "nobody came")
    assert ledger.let_go("p", outcome="again", now=T0 + 2 * MINUTE) is None
    assert ledger.take_purchase("p", run_id="run", now=T0) is None
    assert list(ledger.purchases()) == [gone]
    assert ledger.held("local") == ResourceVector()


def test_let_go_once_it_was_ready_it_costs_its_minimum(ledger: Ledger) -> None:
    ends = {"starting": 2, "ready": 2, "long": 90}
    costs = {}
    for name, seconds in ends.items():
        bought(ledger, name, minimum_ms=60_000, size=ResourceVector(cpu_millis=1))
        if name != "starting":
            ledger.advance_purchase(name, ready_at=T0 + SECOND)
        gone = ledger.let_go(name, outcome="nobody came", now=T0 + seconds * SECOND)
        assert gone is not None
        assert gone.minimum_ms == 60_000
        costs[name] = gone.cost_microusd
    assert costs == {"starting": 2_000, "ready": 60_000, "long": 90_000}


def test_what_is_taken_is_let_go_by_its_run_alone(ledger: Ledger) -> None:
    bought(ledger)
    ledger.take_purchase("p", run_id="run", now=T0)
    assert ledger.let_go("p", outcome="no", now=T0) is None
    assert ledger.let_go("p", outcome="no", now=T0, run_id="other") is None
    gone = ledger.let_go("p", outcome="ended first", now=T0 + SECOND, run_id="run")
    assert gone is not None
    assert gone.cost_microusd == 1_000


def test_what_was_used_is_not_let_go(ledger: Ledger) -> None:
    bought(ledger, holder="h/1")
    ledger.take_purchase("p", run_id="run", now=T0)
    lease(ledger, award("a", holder="h/1"))
    assert ledger.let_go("p", outcome="no", now=T0, run_id="run") is None
    assert ledger.let_go("p", outcome="no", now=T0) is None


def test_what_stands_or_has_ended_since(ledger: Ledger) -> None:
    small = ResourceVector(cpu_millis=1)
    for name in ("early", "late", "taken", "stands"):
        bought(ledger, name, size=small)
    ledger.let_go("early", outcome="nobody came", now=T0 + SECOND)
    ledger.let_go("late", outcome="nobody came", now=T0 + 3 * SECOND)
    ledger.take_purchase("taken", run_id="run", now=T0 + SECOND)

    def since(after: int) -> set[str]:
        return {each.purchase_id for each in ledger.purchases(since=T0 + after * SECOND)}

    assert since(0) == {"early", "late", "taken", "stands"}
    assert since(1) == since(2) == {"late", "taken", "stands"}
    assert since(3) == {"taken", "stands"}
    of_run = ledger.purchases(since=T0, run_id="run", states=[PurchaseState.TAKEN])
    assert [each.purchase_id for each in of_run] == ["taken"]


def test_newest_first(ledger: Ledger) -> None:
    for number in range(3):
        at = T0 + number * SECOND
        ledger.buy(
            purchase(f"p{number}", started_at=at, size=ResourceVector(cpu_millis=1)),
            capacity=ROOM_FOR_TWO,
        )
    assert [each.purchase_id for each in ledger.purchases(limit=2)] == ["p2", "p1"]
