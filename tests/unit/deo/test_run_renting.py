"""A run worker and the CUs that its run rents: opened when due, shared, closed at their end."""

from __future__ import annotations

import time
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest
from sellers import NOW, Seller, market_of, run, step

from cu_market.deo.executor import endings as endings_module
from cu_market.deo.executor import rentals as rentals_module
from cu_market.deo.executor.endings import Endings
from cu_market.deo.executor.negotiation import Negotiation
from cu_market.deo.executor.rentals import Rentals
from cu_market.deo.executor.renting import NOT_DUE
from cu_market.deo.executor.state import Attempt, RunState
from cu_market.deo.executor.workers import WorkerGone
from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.lease import Refusal
from cu_market.domain.outline import RunOutline
from cu_market.domain.rental import Rental, RentalState
from cu_market.ral.provider import Capabilities, EndKind, WorkerEnd


class Going:
    """A run of steps that fill a CU each, two of them after the first, as its run worker has it."""

    def __init__(self, *, quantity: int = 4, **tags: str) -> None:
        seller = Seller(
            "cloud", quantity=quantity, capabilities=Capabilities(), profile={"startup_ms": 60_000}
        )
        self.market = market_of(seller)
        wide = {"cpu_cores": "4"}
        steps = (step("a", **wide), step("b", "a", **wide), step("c", "a", **wide))
        self.outline: RunOutline = run(*steps, **tags)
        cleared = self.market.clear(self.outline, place="launcher")
        self.market.ledger.hold_run("run", "h", expires_at=NOW + timedelta(days=1))
        self.negotiation = Negotiation(
            self.market, self.outline, cleared.allocations, cleared.auction
        )
        self.leases = self.negotiation.leases
        self.renting = self.leases.renting

    def at(self, seconds: int) -> None:
        moment = NOW + timedelta(seconds=seconds)
        self.market.now = lambda: moment

    def award(self, name: str) -> Allocation:
        return self.negotiation.award(name)

    def lease(self, name: str) -> Allocation:
        taken = self.negotiation.lease(self.award(name), "holder")
        assert isinstance(taken, Allocation)
        return taken

    def settle(self, row: Allocation) -> None:
        now = self.market.now()
        self.market.ledger.settle(row.key, row.fencing_token, ended_at=now, usage=None)

    def rental(self, name: str) -> Rental:
        found = self.renting.of(self.award(name))
        assert found is not None
        return found

    def states(self) -> dict[str, RentalState]:
        return {each.resource_id: each.state for each in self.market.ledger.rentals()}


TWO = {"deadline_seconds": "7300"}
"""In time only on two CUs, the second opened once the first step is about to end."""


@pytest.fixture
def going() -> Going:
    return Going(**TWO)


def later(going: Going) -> str:
    """Returns the step whose CU is to be opened later."""
    return max("bc", key=lambda name: going.rental(name).opens_at)


def test_an_award_of_no_share_is_nobodys_rental(going: Going) -> None:
    alone = market_of(Seller("own")).clear(run(step("x")), place="launcher").allocations["x"]
    assert going.renting.of(alone) is None
    assert going.renting.open(alone) is None
    assert going.renting.bought(alone) == alone
    assert not going.renting.is_over(alone)


def test_it_is_opened_when_it_is_due_and_not_before(going: Going) -> None:
    name = later(going)
    assert going.renting.open(going.award(name)) == NOT_DUE
    assert going.rental(name).state is RentalState.PLANNED
    going.at(3600)
    assert going.renting.open(going.award(name)) is None
    assert going.rental(name).opened_at == NOW + timedelta(seconds=3600)
    assert going.market.ledger.held("cloud/cu") == going.rental(name).size


def test_where_nothing_runs_it_is_opened_at_once(going: Going) -> None:
    name = later(going)
    assert going.renting.open(going.award(name), is_due=True) is None
    assert going.renting.is_open(going.award(name))


def test_without_room_it_waits_and_says_what_its_provider_is_short_of() -> None:
    going = Going(quantity=2, **TWO)
    other = Allocation(
        run_id="other",
        step_key="x",
        attempt=1,
        state=AllocationState.AWARDED,
        auction_id="x",
        bid_id="x",
        provider="cloud",
        resource_id="cloud/cu",
        capacity_id="cloud/cu",
        size=going.rental("a").size.times(2),
        price_microusd_per_hour=1,
        expected_ms=1,
        awarded_at=NOW,
    )
    until = NOW + timedelta(days=1)
    going.market.ledger.lease(other, capacity=other.size, expires_at=until, now=NOW)
    refused = going.renting.open(going.award("a"))
    assert isinstance(refused, Refusal)
    assert (refused.capacity_id, refused.short_of) == ("cloud/cu", ("cpu_millis", "memory_bytes"))
    assert going.renting.bought(going.award("a")).size == going.rental("a").size


def test_a_budget_is_asked_for_the_whole_cu_and_then_no_more() -> None:
    going = Going(**TWO)
    going.leases.purse.budget_microusd = 100
    refused = going.renting.open(going.award("a"))
    assert isinstance(refused, Refusal)
    assert refused.is_for_money
    going.leases.purse.budget_microusd = None
    assert going.renting.open(going.award("a")) is None
    going.leases.purse.budget_microusd = 100
    assert going.leases.shortage(going.award("a")) is None  # it is paid for
    assert not going.leases.fails_for_budget(going.award("a"))


def test_its_steps_lease_of_it_and_nothing_beyond(going: Going) -> None:
    going.renting.open(going.award("a"))
    going.lease("a")
    rental = going.rental("a")
    second = next((n for n in "bc" if going.rental(n).rental_id == rental.rental_id), None)
    assert second is not None
    refused = going.leases.shortage(going.award(second))
    assert isinstance(refused, Refusal)
    assert (refused.capacity_id, refused.short_of[0]) == (rental.rental_id, "cpu_millis")


def test_it_is_closed_once_no_step_is_on_it_nor_is_to_be(going: Going) -> None:
    going.renting.open(going.award("a"))
    row = going.lease("a")
    going.at(3660)
    going.settle(row)
    assert going.renting.close() == []  # another step is to come
    going.market.ledger.release_awards("run", now=going.market.now())
    kept = [going.rental("a").rental_id]
    assert [each.state for each in going.renting.close(kept)] == [RentalState.DROPPED]
    (closed,) = going.renting.close()
    assert (closed.state, closed.closed_at) == (RentalState.CLOSED, going.market.now())
    assert going.renting.is_over(going.award("b"))
    assert going.leases.has_ended(going.award("b"))  # it is auctioned again


def test_a_step_that_is_planned_for_later_waits_for_its_time(going: Going) -> None:
    award = going.award("a")
    assert not going.renting.is_early(award)
    going.renting.follow({"a": NOW + timedelta(seconds=10)}, {})
    assert going.renting.is_early(award)
    going.at(10)
    assert not going.renting.is_early(award)


def test_a_plan_says_anew_when_a_cu_is_opened(going: Going) -> None:
    name = later(going)
    rental = going.rental(name)
    going.renting.follow({}, {rental.rental_id: NOW + timedelta(seconds=5)})
    assert going.renting.open(going.award(name)) == NOT_DUE
    going.at(5)
    assert going.renting.open(going.award(name)) is None


class Looking:
    """A run as the one that looks after its rentals sees it."""

    def __init__(
        self, going: Going, *names: str, waits_for_room: bool = False, is_starting: bool = False
    ) -> None:
        self.negotiation = going.negotiation
        self.active = SimpleNamespace(
            is_over=lambda name: name in names, retried_within=lambda _: []
        )
        self.waiting = SimpleNamespace(for_room=lambda _: waits_for_room)
        self.unleased: dict[str, Any] = {}
        self.attempts: dict[int, Any] = {}
        self.context = None
        self.workers = SimpleNamespace(
            end_rented=lambda _: None, is_starting_rented=lambda: is_starting
        )


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    event = SimpleNamespace(engine_event=lambda _context, sentence, _data: told.append(sentence))
    monkeypatch.setattr(rentals_module, "DagsterEvent", event)
    return told


def test_nothing_is_kept_for_steps_that_will_never_run(going: Going, said: list[str]) -> None:
    going.renting.open(going.award("a"))
    row = going.lease("a")
    going.at(3660)
    going.settle(row)
    list(Rentals(Looking(going, "b", "c")).close(is_end=True))  # type: ignore[arg-type]
    assert set(going.states().values()) == {RentalState.CLOSED, RentalState.DROPPED}
    assert len(said) == 1
    assert "rented whole and shared" in said[0]


def test_a_run_that_waits_for_room_gives_back_what_stands_idle(
    going: Going, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    going.renting.open(going.award("a"))
    row = going.lease("a")
    going.at(3660)
    going.settle(row)
    there = [n for n in "bc" if going.renting.is_open(going.award(n))]
    assert there

    def looked(after: float, **how: bool) -> bool:
        """Returns whether anything is open once it has been looked at again so much later."""
        began = time.monotonic()
        looking = Rentals(Looking(going, **how))  # type: ignore[arg-type]
        monkeypatch.setattr(rentals_module.time, "monotonic", lambda: began + after)
        list(looking.close(is_end=True))
        monkeypatch.undo()
        return RentalState.OPEN in going.states().values()

    monkeypatch.setattr(rentals_module, "DagsterEvent", MagicMock())
    assert looked(60)  # nobody waits
    assert looked(1, waits_for_room=True)  # not for long yet
    assert looked(60, waits_for_room=True, is_starting=True)
    event = SimpleNamespace(engine_event=lambda _context, sentence, _data: said.append(sentence))
    monkeypatch.setattr(rentals_module, "DagsterEvent", event)
    assert not looked(60, waits_for_room=True)
    assert all(going.leases.has_ended(going.award(name)) for name in there)  # auctioned again


@pytest.mark.parametrize("kind", [EndKind.NODE_LOST, EndKind.PREEMPTED, EndKind.UNSTARTED])
def test_what_was_on_a_cu_that_is_gone_is_auctioned_again_together(
    kind: EndKind, going: Going, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endings_module.DagsterEvent, "engine_event", MagicMock())
    going.renting.open(going.award("a"))
    row = going.lease("a")
    behind = [n for n in "bc" if going.award(n).resource_id == row.resource_id]
    going.at(600)
    run = RunState(
        executor=MagicMock(),
        context=MagicMock(),
        active=MagicMock(),
        negotiation=going.negotiation,
        workers=MagicMock(),
        max_concurrent=4,
    )
    worker = MagicMock(
        streams={row.fencing_token},
        is_ready=kind is not EndKind.UNSTARTED,
        rented=row.resource_id,
        key=("cloud", "", ""),
        purchase=None,
    )
    run.attempts[row.fencing_token] = Attempt(step_key="a", lease=row, worker=worker)
    run.contexts["a"] = MagicMock()
    gone = WorkerGone(
        worker=worker, exit_code=None, detail="closed", end=WorkerEnd(kind=kind, detail="gone")
    )
    if kind is EndKind.UNSTARTED:  # its like are not asked either: nobody else serves it
        list(Endings(run).lose_worker(gone))
        assert "cloud/cu" in going.negotiation.excluded()
        assert list(run.unleased) == ["a"]
        return
    list(Endings(run).lose_worker(gone))
    assert list(run.unleased) == ["a"]
    now_on = {going.award(name).resource_id for name in ["a", *behind]}
    assert row.resource_id not in now_on
    assert "cloud/cu" not in going.negotiation.excluded()
    closed = going.renting.close({going.award("a").capacity_id})
    assert row.resource_id in {each.resource_id for each in closed}
