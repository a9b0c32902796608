"""What waits on rented CUs, planned anew: as steps end, as prices change, as CUs disappear."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sellers import NOW, Seller, market_of, run, step

from cu_market.domain.allocation import Allocation
from cu_market.domain.outline import RunOutline
from cu_market.domain.rental import Rental, RentalState
from cu_market.market.auction import Cleared, Market
from cu_market.market.renting.going import Going
from cu_market.market.renting.replans import Replanned, look
from cu_market.ral.provider import Capabilities

HOUR_MS = 3_600_000
HURRIED = {"value_of_time_usd_per_hour": "5"}
CLOUD = {"capabilities": Capabilities(), "profile": {"startup_ms": 60_000}}


class Run:
    """A run on shared CUs as its executor sees it, at a moment that the test sets."""

    def __init__(self, *sellers: Seller, outline: RunOutline) -> None:
        self.sellers = {seller.name: seller for seller in sellers}
        self.market: Market = market_of(*sellers)
        self.outline = outline
        self.cleared: Cleared = self.market.clear(outline, place="launcher")
        self.begun: set[str] = set()
        self.left_ms: dict[str, int] = {}
        self.at(0)

    def at(self, seconds: float) -> datetime:
        moment = NOW + timedelta(seconds=seconds)
        self.market.now = lambda: moment
        return moment

    def rentals(self) -> dict[str, Rental]:
        return {each.resource_id: each for each in self.market.ledger.rentals()}

    def open(self, name: str) -> None:
        rental = self.rentals()[name]
        room = rental.size.times(9)
        self.market.ledger.rent(rental, capacity=room, now=self.market.now())

    def begin(self, name: str, *, left_ms: int) -> Allocation:
        row = self.cleared.allocations[name]
        given = self.market.ledger.lease(
            row,
            capacity=self.rentals()[row.resource_id].size,
            expires_at=NOW + timedelta(days=1),
            now=self.market.now(),
        )
        assert isinstance(given, Allocation)
        self.begun.add(name)
        self.left_ms[name] = left_ms
        return given

    def end(self, row: Allocation) -> None:
        now = self.market.now()
        self.market.ledger.settle(row.key, row.fencing_token, ended_at=now, usage=None)
        del self.left_ms[row.step_key]

    def look(self, **fields: Any) -> Replanned:
        starts = {award.request_id: award.start_ms for award in self.cleared.plan.awards}
        ends = [a.start_ms + a.expected_ms for a in self.cleared.plan.awards]
        said: dict[str, Any] = {
            "run_id": "run",
            "origin": NOW,
            "parents": {each.step_key: each.depends_on for each in self.outline.steps},
            "begun": self.begun,
            "left_ms": self.left_ms,
            "planned_ms": starts,
            "spreads": {},
            "deadline_ms": max(ends),
            "reports": {each["step"]: each for each in self.cleared.auction.report["steps"]},
        }
        found = look(self.market, Going(**(said | fields)))
        assert found is not None
        return found


def pair(*sellers: Seller, **tags: str) -> Run:
    """Returns a run of two steps that fill a CU, and two more after the first."""
    wide = {"cpu_cores": "2"}
    outline = run(
        step("a", **wide), step("b", **wide), step("c", "a", **wide), step("d", "a", **wide), **tags
    )
    return Run(*sellers, outline=outline)


@pytest.fixture
def going() -> Run:
    return pair(Seller("cloud", 1.0, **CLOUD), value_of_time_usd_per_hour="0")


def test_as_planned_nothing_moves_and_every_start_is_told(going: Run) -> None:
    assert set(going.rentals()) == {"cloud/cu#1"}
    going.open("cloud/cu#1")
    found = going.look()
    assert (found.moves, found.gone, found.rentals) == ({}, (), ())
    assert set(found.planned_ms) == {"a", "b", "c", "d"}
    assert found.seen == {going.rentals()["cloud/cu#1"].rental_id}


def test_a_run_without_rentals_has_nothing_to_plan_anew() -> None:
    alone = Run(Seller("cloud"), outline=run(step("a"), step("b")))
    with pytest.raises(AssertionError):
        alone.look()


def test_what_is_ready_starts_as_soon_as_there_is_room(going: Run) -> None:
    going.open("cloud/cu#1")
    going.at(60)
    first, _ = going.begin("a", left_ms=HOUR_MS), going.begin("b", left_ms=HOUR_MS)
    going.at(600)  # a has ended much sooner than it was planned to
    going.end(first)
    found = going.look(left_ms={"b": HOUR_MS - 540_000})
    assert found.moves == {}
    assert min(found.planned_ms["c"], found.planned_ms["d"]) == 600_000


def test_a_step_that_runs_on_has_another_cu_rented_where_time_is_short(going: Run) -> None:
    going.open("cloud/cu#1")
    going.at(60)
    first = going.begin("a", left_ms=HOUR_MS)
    going.begin("b", left_ms=10 * HOUR_MS)
    going.at(3660)
    going.end(first)
    found = going.look(left_ms={"b": 10 * HOUR_MS}, deadline_ms=7_400_000)
    assert len(found.moves) == 1
    ((name, (before, after)),) = found.moves.items()
    assert (before.resource_id, after.resource_id) == ("cloud/cu#1", "cloud/cu#2")
    assert (after.attempt, after.auction_id) == (before.attempt + 1, found.auction.auction_id)
    (rental,) = found.rentals
    assert (rental.resource_id, rental.state) == ("cloud/cu#2", RentalState.PLANNED)
    going.market.ledger.record_auction(found.auction, [after], found.asked, found.rentals)
    (told,) = found.auction.report["steps"]
    assert (told["step"], told["winner"]["resource_id"]) == (name, "cloud/cu#2")
    assert "cloud/cu#1" in told["binding"]
    assert found.sentences() == [f"{name} moves from cloud/cu#1 to cloud/cu#2"]


def test_a_run_with_a_budget_rents_nothing_that_it_had_not_planned(going: Run) -> None:
    going.open("cloud/cu#1")
    going.at(60)
    first = going.begin("a", left_ms=HOUR_MS)
    going.begin("b", left_ms=10 * HOUR_MS)
    going.at(3660)
    going.end(first)
    found = going.look(left_ms={"b": 10 * HOUR_MS}, deadline_ms=7_400_000, has_budget=True)
    assert (found.moves, found.rentals) == ({}, ())


def test_where_a_cu_to_be_rented_has_become_dear_another_is_rented() -> None:
    going = pair(Seller("cloud", 1.0, **CLOUD), Seller("other", 1.5, **CLOUD))
    assert {name.split("/")[0] for name in going.rentals()} == {"cloud"}
    going.sellers["cloud"].price = 3.0
    found = going.look()
    assert {after.provider for _, after in found.moves.values()} == {"other"}
    assert set(found.moves) == {"a", "b", "c", "d"}
    assert {rental.price_microusd_per_hour for rental in found.rentals} == {1_500_000}


def test_an_open_cu_keeps_its_price() -> None:
    going = pair(Seller("cloud", 1.0, **CLOUD), Seller("other", 1.5, **CLOUD))
    for name in going.rentals():
        going.open(name)
    going.sellers["cloud"].price = 3.0
    assert going.look().moves == {}


def test_steps_on_a_cu_that_is_offered_no_more_are_for_another_auction() -> None:
    going = pair(Seller("cloud", 1.0, **CLOUD), Seller("other", 1.5, **CLOUD))
    going.market.providers.pop("cloud")
    found = going.look()
    assert found.gone == ("a", "b", "c", "d")
    assert found.moves == {}


def test_an_open_cu_that_is_offered_no_more_goes_on(going: Run) -> None:
    going.open("cloud/cu#1")
    going.market.providers.pop("cloud")
    found = going.look()
    assert (found.gone, found.moves) == ((), {})


def test_a_step_waits_for_what_runs_elsewhere() -> None:
    outline = run(
        step("x", provider="own", duration_seconds="7200"), step("a", "x"), step("b", "x")
    )
    own = Seller("own", 5.0, capabilities=Capabilities(exclusive=True))
    going = Run(own, Seller("cloud", 1.0, **CLOUD), outline=outline)
    placed = {key: row.provider for key, row in going.cleared.allocations.items()}
    assert placed == {"x": "own", "a": "cloud", "b": "cloud"}
    going.begun, going.left_ms = {"x"}, {"x": 5_000_000}
    found = going.look()
    assert min(found.planned_ms.values()) >= 5_000_000


def test_one_that_is_to_be_opened_later_is_told_when() -> None:
    steps = [step("a", cpu_cores="4"), *(step(f"b{n}", "a", cpu_cores="4") for n in range(2))]
    going = Run(Seller("cloud", 1.0, **CLOUD), outline=run(*steps, deadline_seconds="7300"))
    later = {each.rental_id: each for each in going.rentals().values() if each.opens_at > NOW}
    assert len(later) == 1
    going.open("cloud/cu#1")
    found = going.look()
    assert found.opens_ms == {next(iter(later)): 3_600_000}
    assert found.moves == {}


def test_no_more_are_rented_than_there_is_room_for() -> None:
    going = pair(Seller("cloud", 1.0, quantity=1, **CLOUD), value_of_time_usd_per_hour="0")
    going.open("cloud/cu#1")
    going.at(60)
    first = going.begin("a", left_ms=HOUR_MS)
    going.begin("b", left_ms=10 * HOUR_MS)
    going.at(3660)
    going.end(first)
    found = going.look(left_ms={"b": 10 * HOUR_MS}, deadline_ms=7_400_000)
    assert (found.moves, found.rentals) == ({}, ())


def test_what_will_never_run_is_waited_for_by_nobody() -> None:
    steps = (step("sk"), step("b"), step("d", "sk", "b"), step("e", "b"))
    going = Run(Seller("cloud", 1.0, **CLOUD), outline=run(*steps, **HURRIED))
    for name in going.rentals():
        going.open(name)
    going.at(60)
    row = going.begin("b", left_ms=HOUR_MS)
    going.at(3660)
    going.end(row)
    going.market.ledger.release(going.cleared.allocations["sk"].key, now=going.market.now())
    found = going.look(over=["sk"])
    assert found.planned_ms["d"] == 3_660_000
    assert "sk" not in found.planned_ms


def test_a_provider_that_does_not_answer_now_has_withdrawn_nothing(going: Run) -> None:
    def silent(*_: Any) -> list[Any]:
        raise OSError("away")

    going.sellers["cloud"].bid = silent  # type: ignore[method-assign, assignment]
    with pytest.raises(AssertionError):
        going.look()  # nothing is decided


def test_a_step_that_is_tried_again_stays_where_it_was_awarded(going: Run) -> None:
    going.open("cloud/cu#1")
    going.begun = {"a", "b", "c", "d"}  # each has had a lease, and has none now
    with pytest.raises(AssertionError):
        going.look()


def test_what_waits_elsewhere_for_a_step_keeps_that_in_its_time() -> None:
    said = {"cpu_cores": "1", "duration_seconds": "120"}
    steps = (step("a", **said), step("work[?]", "a", **said), step("z", "work[?]", **said))
    going = Run(Seller("cloud", 1.0, **CLOUD), outline=run(*steps, **HURRIED))
    assert {key: "#" in row.resource_id for key, row in going.cleared.allocations.items()} == {
        "a": True,
        "work[?]": False,
        "z": True,
    }
    found = going.look()
    assert found.planned_ms["a"] + 120_000 <= found.planned_ms["z"]
    assert found.moves == {}


def test_what_follows_mapped_steps_waits_for_all_of_them() -> None:
    said = {"cpu_cores": "1", "duration_seconds": "120"}
    steps = (step("a", **said), step("work[?]", "a", **said), step("z", "work[?]", **said))
    going = Run(Seller("cloud", 1.0, **CLOUD), outline=run(*steps, **HURRIED))
    mapped = run(step("work[0]", **said), step("work[1]", **said))
    again = going.market.clear(mapped, place="executor")
    going.begun, going.left_ms = {"a", "work[?]", "work[0]"}, {}
    found = going.look()
    assert set(found.planned_ms) == {"work[1]", "z"}
    assert found.planned_ms["work[1]"] + 120_000 <= found.planned_ms["z"]
    assert all("#" in row.resource_id for row in again.allocations.values())
