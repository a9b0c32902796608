"""Auctions of CUs that are sold whole: rented and shared where that costs less, and told."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sellers import NOW, Seller, market_of, run, step
from unsure import unsure

from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.inputs import Place
from cu_market.domain.outline import RunOutline, StepOutline
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.rental import Rental, RentalState
from cu_market.ledger.memory import InMemoryLedger
from cu_market.market.auction import Cleared, Market
from cu_market.market.bill import read_bill
from cu_market.market.quote import quote_run
from cu_market.ral.provider import Capabilities

STARTUP = timedelta(seconds=60)


def sharing(name: str = "cloud", price: float = 1.0, **fields: Any) -> Seller:
    """Returns a seller of CUs of four cores, started in a minute, that take several steps."""
    said = {"capabilities": Capabilities(), "profile": {"startup_ms": 60_000}}
    return Seller(name, price, **(said | fields))


def clear(market: Market, *names: str, **tags: str) -> Cleared:
    return market.clear(run(*map(step, names), **tags), place="launcher")


def names(found: Cleared) -> dict[str, str]:
    return {key: row.resource_id for key, row in found.allocations.items()}


def rent(market: Market, rental: Rental) -> Rental:
    opened = market.ledger.rent(rental, capacity=rental.size.times(4), now=market.now())
    assert isinstance(opened, Rental)
    return opened


def test_steps_share_one_cu_that_is_rented_for_them() -> None:
    market = market_of(sharing())
    found = clear(market, "a", "b", "c", "d")
    assert names(found) == dict.fromkeys("abcd", "cloud/cu#1")
    (rental,) = market.ledger.rentals()
    assert (rental.run_id, rental.state, rental.auction_id) == (
        "run",
        RentalState.PLANNED,
        found.auction.auction_id,
    )
    assert (rental.bid_id, rental.capacity_id) == ("cloud/cu", "cloud/cu")
    assert {row.capacity_id for row in found.allocations.values()} == {rental.rental_id}
    assert {award.start_ms for award in found.plan.awards} == {60_000}  # once it has started
    assert rental.expected_ms == 3_660_000
    # 61 minutes at a dollar an hour, in all; a CU for each would have been 4.07.
    assert found.plan.money_microusd == rental.bill_microusd(1000 * rental.expected_ms) == 1_016_667
    assert found.auction.report["expected_cost_usd"] == pytest.approx(1.016667)
    (note,) = [n for n in found.auction.report["notes"] if n.startswith("rented whole")]
    assert "cloud/cu#1 (4 steps)" in note


def test_each_step_has_one_to_itself_where_none_is_to_be_shared() -> None:
    alone = {"a": "cloud/cu", "b": "cloud/cu"}
    for market in (
        market_of(sharing(), share_cus=False),
        market_of(sharing(), pricing="second-price"),
        market_of(sharing(capabilities=Capabilities(exclusive=True))),
        market_of(sharing(capabilities=Capabilities(one_worker=True))),
    ):
        assert names(clear(market, "a", "b")) == alone
        assert list(market.ledger.rentals()) == []


def test_one_step_alone_is_awarded_as_ever() -> None:
    market = market_of(sharing())
    assert names(clear(market, "a")) == {"a": "cloud/cu"}


SPOT = {"interruption_millis_per_hour": 50, "startup_ms": 60_000}


def test_what_may_be_revoked_is_shared_where_a_retry_still_fits() -> None:
    sellers = (sharing(), sharing("spot", 0.35, profile=SPOT))
    free = clear(market_of(*sellers), "a", "b")
    assert set(names(free).values()) == {"spot/cu#1"}
    assert all(award.loss_microusd > 0 for award in free.plan.awards)
    patient = clear(market_of(*sellers), "a", "b", deadline_seconds="20000")
    assert set(names(patient).values()) == {"spot/cu#1"}
    pressed = clear(market_of(*sellers), "a", "b", deadline_seconds="5000")
    assert set(names(pressed).values()) == {"cloud/cu#1"}


def test_what_must_not_be_interrupted_shares_nothing_that_may_be_revoked() -> None:
    steps = [step(name, interruptible="false") for name in "ab"]
    sellers = (sharing(), sharing("spot", 0.35, profile=SPOT))
    found = market_of(*sellers).clear(run(*steps), place="launcher")
    assert set(names(found).values()) == {"cloud/cu#1"}


def test_each_step_goes_where_it_may() -> None:
    early = [step(name) for name in "ab"]
    late = [step(name, "a", "b", duration_seconds="7200") for name in "cd"]
    sellers = (sharing(), sharing("spot", 0.35, profile=SPOT))
    found = market_of(*sellers).clear(
        run(*early, *late, deadline_seconds="15000"), place="launcher"
    )
    placed = {key: name.split("#")[0] for key, name in names(found).items()}
    assert placed == {"a": "spot/cu", "b": "spot/cu", "c": "cloud/cu", "d": "cloud/cu"}


def test_steps_that_wait_for_one_another_have_it_one_after_another() -> None:
    market = market_of(sharing())
    found = market.clear(run(step("a"), step("b", "a"), step("c", "b")), place="launcher")
    starts = {award.request_id: award.start_ms for award in found.plan.awards}
    assert starts == {"a": 60_000, "b": 3_660_000, "c": 7_260_000}
    assert len(set(names(found).values())) == 1


def test_a_deadline_buys_as_many_as_it_needs() -> None:
    steps = [step(f"s{n}", cpu_cores="2") for n in range(4)]
    patient = {"value_of_time_usd_per_hour": "0"}
    late = market_of(sharing()).clear(
        run(*steps, deadline_seconds="20000", **patient), place="launcher"
    )
    assert set(names(late).values()) == {"cloud/cu#1"}
    soon = market_of(sharing()).clear(run(*steps, deadline_seconds="3700"), place="launcher")
    assert set(names(soon).values()) == {"cloud/cu#1", "cloud/cu#2"}
    assert max(a.start_ms + a.expected_ms for a in soon.plan.awards) <= 3_700_000


def test_unsure_steps_share_as_many_as_the_confidence_needs() -> None:
    tags = {"deadline_seconds": str(2.3 * 3600), "value_of_time_usd_per_hour": "0"}
    # With eight CUs to be had, each step could have one and be in time; with four it could not.
    for quantity, confidence, rented in ((4, "0.5", 1), (4, "0.95", 2), (8, "0.95", 2)):
        market = market_of(sharing(quantity=quantity))
        market = unsure(market, **dict.fromkeys("abcdefgh", 1.4))
        found = clear(market, *"abcdefgh", **tags, deadline_confidence=confidence)
        assert len(found.auction.report["rentals"]) == rented
        told = found.auction.report.get("deadline")
        assert (told is None) == (confidence == "0.5")
        assert told is None or told["is_kept"]


def test_steps_that_end_in_time_only_where_their_cu_starts_once_share_one() -> None:
    chain = (step("a"), step("b", "a"), step("c", "a"))
    found = market_of(sharing()).clear(run(*chain, deadline_seconds="7300"), place="launcher")
    assert set(names(found).values()) == {"cloud/cu#1"}
    (note,) = [n for n in found.auction.report["notes"] if n.startswith("rented whole")]
    assert note.endswith("with a CU for each step it would not end in time")
    with pytest.raises(InvalidInputError, match="ends at 7320 s"):
        market_of(sharing(), share_cus=False).clear(
            run(*chain, deadline_seconds="7300"), place="launcher"
        )
    with pytest.raises(InvalidInputError):
        market_of(sharing()).clear(run(*chain, deadline_seconds="7000"), place="launcher")


def test_it_shares_where_its_steps_are_kept() -> None:
    near = sharing("near", 2.0, place=Place(location="near"))
    far = sharing("far", 1.0, place=Place(location="far"))
    kept = [step(name, location="near") for name in "ab"]
    found = market_of(near, far).clear(run(*kept), place="launcher")
    assert set(names(found).values()) == {"near/cu#1"}
    free = market_of(near, far).clear(run(step("a"), step("b")), place="launcher")
    assert set(names(free).values()) == {"far/cu#1"}


def test_steps_that_are_kept_together_share_in_one_location() -> None:
    near = sharing("near", 1.0, place=Place(location="near"), quantity=1)
    far = sharing("far", 1.2, place=Place(location="far"))
    kin = [step(name, together="x", cpu_cores="3") for name in "ab"]
    found = market_of(near, far).clear(run(*kin, deadline_seconds="4000"), place="launcher")
    assert {name.split("/")[0] for name in names(found).values()} == {"far"}


def test_a_step_that_stands_for_mapped_ones_has_its_own() -> None:
    steps = (step("a"), step("b"), step("work[?]", "a"))
    found = market_of(sharing()).clear(run(*steps), place="launcher")
    assert names(found) == {"a": "cloud/cu#1", "b": "cloud/cu#1", "work[?]": "cloud/cu"}


def test_no_more_are_rented_than_are_free() -> None:
    ledger = InMemoryLedger()
    market = market_of(sharing(quantity=2), ledger=ledger)
    steps = [step(f"s{n}", cpu_cores="3") for n in range(4)]
    found = market.clear(run(*steps), place="launcher")
    assert len(set(names(found).values())) <= 2


def test_a_cu_that_is_withdrawn_before_the_commit_is_replaced() -> None:
    market = market_of(sharing("flighty", 0.5, leaves_after=1), sharing("steady"))
    found = clear(market, "a", "b")
    assert set(names(found).values()) == {"steady/cu#1"}
    (note,) = [n for n in found.auction.report["notes"] if n.startswith("round 1")]
    assert note == (
        "round 1: flighty/cu was withdrawn (no longer in its provider's pool), which had won a, b"
    )


def test_every_step_is_told_who_lost_and_at_what_price_it_would_have_won() -> None:
    found = clear(market_of(sharing(), sharing("dear", 3.0)), "a", "b")
    for award in found.plan.awards:
        lost = {loss.resource_id: loss for loss in award.losses}
        assert set(lost) >= {"cloud/cu", "dear/cu"}
        assert lost["dear/cu"].wins_at_microusd_per_hour is not None
        assert award.runner_up is not None
        assert "run/" not in award.binding


def test_nothing_is_rented_where_it_is_only_recommended() -> None:
    market = market_of(sharing(), mode="recommend")
    found = clear(market, "a", "b")
    assert found.allocations == {}
    assert list(market.ledger.rentals()) == []
    assert {a.resource_id for a in found.plan.awards} == {"cloud/cu#1"}


def test_a_quote_is_what_the_shared_cus_cost() -> None:
    market = market_of(sharing())
    quote = quote_run(market, run(step("a"), step("b"), step("c", "a", "b")))
    cost = quote.cleared.plan.money_microusd
    assert quote.asked.cost_microusd == pytest.approx((cost, cost), abs=3)
    assert quote.asked.finish_ms == (7_260_000, 7_260_000)
    costs = [point.cost_microusd[0] for point in quote.curve if point.is_feasible]
    assert costs == sorted(costs, reverse=True)
    assert list(market.ledger.rentals()) == []


def test_a_cu_that_the_run_has_is_offered_to_its_next_auctions() -> None:
    market = market_of(sharing())
    clear(market, "a", "b")
    (rental,) = market.ledger.rentals()
    rent(market, rental)
    again = market.clear(run(step("c")), place="executor")
    assert names(again) == {"c": "cloud/cu#1"}
    (award,) = again.plan.awards
    assert award.start_ms == 60_000  # it has just been opened


def test_one_that_did_not_deliver_is_not() -> None:
    market = market_of(sharing())
    clear(market, "a", "b")
    rent(market, market.ledger.rentals()[0])
    again = market.clear(run(step("c")), place="executor", excluded=["cloud/cu#1"])
    assert names(again) == {"c": "cloud/cu"}


def test_a_number_is_used_once() -> None:
    market = market_of(sharing())
    clear(market, "a", "b")
    market.ledger.release_awards("run", now=NOW)
    market.ledger.close_rentals("run", now=NOW)
    again = market.clear(run(step("a"), step("b")), place="executor", attempts={"a": 2, "b": 2})
    assert set(names(again).values()) == {"cloud/cu#2"}


def test_an_open_one_is_in_the_way_of_others() -> None:
    market = market_of(sharing(quantity=1))
    clear(market, "a", "b")
    rent(market, market.ledger.rentals()[0])
    other = RunOutline(run_id="other", job_name="job", steps=(step("x"),))
    found = market.clear(other, place="launcher")
    (award,) = found.plan.awards
    assert award.start_ms >= 3_660_000  # when it is expected to be closed


def lease_and_settle(market: Market, row: Allocation, seconds: int) -> None:
    ledger, size = market.ledger, market.ledger.rentals()[0].size
    given = ledger.lease(row, capacity=size, expires_at=NOW + timedelta(hours=1), now=NOW)
    assert isinstance(given, Allocation)
    ended_at = NOW + timedelta(seconds=seconds)
    ledger.settle(given.key, given.fencing_token, ended_at=ended_at, usage=None)


def test_the_bill_is_the_steps_shares_and_what_they_leave_of_the_cus() -> None:
    market = market_of(sharing())
    found = clear(market, "a", "b")
    rent(market, market.ledger.rentals()[0])
    assert read_bill(market.ledger, "run").open_leases == 1
    for name, seconds in (("a", 1800), ("b", 3600)):
        lease_and_settle(market, found.allocations[name], seconds)
    market.ledger.close_rentals("run", now=NOW + timedelta(hours=2))
    bill = read_bill(market.ledger, "run")
    (line,) = bill.rentals
    assert (line.name, line.steps, line.held_us) == ("cloud/cu#1", ("a", "b"), 3_600_000_000)
    assert line.cost_microusd == bill.cost_microusd == 1_000_000
    shares = sum(each.cost_microusd for each in bill.by_step)
    assert line.rest_microusd == 1_000_000 - shares
    assert [each.cost_microusd for each in bill.by_provider] == [1_000_000]
    assert bill.open_leases == 0
    assert bill.to_record()["rentals"] == [line.to_record()]


def test_an_award_of_a_share_has_no_end_of_its_own() -> None:
    until = NOW + timedelta(minutes=5)
    market = market_of(sharing(bid_fields={"valid_until": until}))
    found = clear(market, "a", "b")
    assert {row.valid_until for row in found.allocations.values()} == {None}
    assert market.ledger.rentals()[0].valid_until == until


def test_what_is_left_of_a_budget_counts_the_whole_cu() -> None:
    market = market_of(sharing())
    clear(market, "a", "b", budget_usd="3")
    rental = rent(market, market.ledger.rentals()[0])
    demand, _ = market.offers(run(step("c"), budget_usd="3"), {}, NOW)
    bill = rental.bill_microusd(1000 * rental.expected_ms)
    assert demand.left_microusd == 3_000_000 - bill
    rows = market.ledger.allocations(states=[AllocationState.AWARDED])
    assert {row.step_key for row in rows} == {"a", "b"}
    assert replace(rental, state=RentalState.DROPPED).foreseen_microusd(NOW) == 0


def other(*steps: StepOutline, run_id: str = "other", **tags: str) -> RunOutline:
    return replace(run(*steps, **tags), run_id=run_id)


def alive(market: Market, *runs: str) -> None:
    for run_id in runs:
        market.ledger.hold_run(run_id, "h", expires_at=NOW + timedelta(days=1))


@pytest.mark.parametrize("deadline", [{}, {"deadline_seconds": "90000"}])
def test_a_run_shares_beside_another_that_waits(deadline: dict[str, str]) -> None:
    market = market_of(sharing())
    alive(market, "other")
    market.clear(other(step("x")), place="launcher")
    found = clear(market, "a", "b", **deadline)
    assert set(names(found).values()) == {"cloud/cu#1"}
    assert len(found.auction.report["together"]["runs"]) == 1


def test_what_waits_on_cus_of_another_run_is_no_demand_of_this_one() -> None:
    market = market_of(sharing(quantity=2))
    alive(market, "run")
    clear(market, "a", "b", "c", "d")
    rent(market, market.ledger.rentals()[0])
    found = market.clear(other(step("x"), deadline_seconds="5000"), place="launcher")
    (award,) = found.plan.awards
    assert award.start_ms == 0  # a CU is free
    told = found.auction.report["together"]
    assert (told["is_late"], told["left_out"], told["runs"]) == (False, 4, [])


def test_nobody_else_wins_a_cu_that_a_run_has() -> None:
    market = market_of(sharing())
    alive(market, "run", "other")
    market.clear(other(step("x")), place="launcher")
    clear(market, "a", "b")
    rent(market, next(each for each in market.ledger.rentals() if each.run_id == "run"))
    again = market.clear(run(step("c")), place="executor")
    assert names(again) == {"c": "cloud/cu#1"}
    moved = market.ledger.allocations(run_id="other", states=[AllocationState.AWARDED])
    assert {row.resource_id for row in moved} == {"cloud/cu"}


def test_the_room_of_rented_cus_is_not_given_to_the_runs_other_steps() -> None:
    market = market_of(sharing(quantity=1))
    steps = (step("x"), step("m[?]", "x"), step("a"), step("b"), step("c", "m[?]"))
    found = market.clear(run(*steps), place="launcher")
    awards = {award.request_id: award for award in found.plan.awards}
    rentals = market.ledger.rentals()
    for rental in rentals:
        opens_ms = (rental.opens_at - NOW) / timedelta(milliseconds=1)
        for award in awards.values():
            if award.capacity_id == "cloud/cu":
                ends_ms = award.start_ms + award.expected_ms
                is_apart = ends_ms <= opens_ms or award.start_ms >= opens_ms + rental.expected_ms
                assert is_apart


def test_one_whose_offer_has_ended_is_offered_no_more() -> None:
    until = NOW + timedelta(minutes=15)
    market = market_of(sharing(bid_fields={"valid_until": until}))
    clear(market, "a", "b")
    later = NOW + timedelta(minutes=30)
    market.now = lambda: later
    market.providers["cloud"].bid_fields = {}  # type: ignore[attr-defined]
    again = market.clear(run(step("a")), place="executor", attempts={"a": 2})
    assert names(again) == {"a": "cloud/cu"}


def test_one_that_has_begun_sooner_than_foreseen_has_no_more_room_for_that() -> None:
    market = market_of(sharing())
    first = clear(market, "a", "b", "c", "d")
    rent(market, market.ledger.rentals()[0])
    size = market.ledger.rentals()[0].size
    for row in first.allocations.values():
        taken = market.ledger.lease(row, capacity=size, expires_at=NOW + timedelta(days=1), now=NOW)
        assert isinstance(taken, Allocation)
    again = market.clear(run(step("e"), deadline_seconds="20000"), place="executor")
    (award,) = again.plan.awards
    assert award.resource_id == "cloud/cu" or award.start_ms >= 3_600_000
