"""Guesses of places end with the clock, and are the same wherever it does not end them."""

from __future__ import annotations

from itertools import count

from dnm_records import asks, offers

from cu_market.dnm.offers import OfferTable, tabulate
from cu_market.dnm.placement.guesses import guess_places
from cu_market.dnm.placement.placing import plan_placed
from cu_market.dnm.programs.solve import Clock, no_clock
from cu_market.dnm.surcharges import Priced
from cu_market.domain.bid import Bid
from cu_market.domain.inputs import InputData
from cu_market.domain.plan import Plan
from cu_market.domain.request import ResourceRequest
from cu_market.domain.units import GB

STEPS = 12


def chain() -> tuple[list[ResourceRequest], list[Bid]]:
    """Returns steps that each read from the one before; the cheapest CUs lie apart from one."""
    requests = [asks("s00")]
    for i in range(1, STEPS):
        before = f"s{i - 1:02}"
        inputs = (InputData(source=before, size_bytes=GB * (1 + i % 5)),)
        needs = {"gpus": 1} if i % 4 == 0 else {}
        requests.append(asks(f"s{i:02}", depends_on=(before,), inputs=inputs, **needs))
    bids = [
        offers(f"b{k}", 20_000 + 30_000 * k, location=f"l{k}", egress_microusd_per_gb=40_000)
        for k in range(4)
    ]
    bids.append(offers("gpu", 500_000, location="l3", gpu_type="T4", gpu_count=1))
    return requests, bids


def table() -> OfferTable:
    return tabulate(*chain(), {}, surcharges=Priced())


def planned(clock: Clock) -> Plan:
    return plan_placed(*chain(), {}, solver=None, limit_seconds=1, clock=clock)


def test_a_plan_whose_guesses_the_clock_ends_says_so_and_serves_everyone() -> None:
    reads = count()
    found = planned(lambda: next(reads) * 0.02)  # a move takes 20 ms: all take some seconds
    assert found.is_cut
    assert len(found.awards) == STEPS
    whole = planned(no_clock)
    assert not whole.is_cut
    assert whole.objective_microusd <= found.objective_microusd
    assert next(reads) * 0.02 < 1


def test_no_move_is_tried_once_the_time_is_over() -> None:
    asked = count()
    at_once, is_cut = guess_places(table(), lambda: next(asked) >= 0)
    assert is_cut
    assert next(asked) <= 5  # once by each start: each alone, and all in one of four locations
    assert at_once[0].keys() == {request.request_id for request in table().requests}


def test_time_that_does_not_end_it_changes_nothing() -> None:
    asked = count()
    free, is_cut = guess_places(table())
    assert not is_cut
    assert guess_places(table(), lambda: next(asked) < 0) == (free, False)
    moves = next(asked)
    some, is_cut = guess_places(table(), lambda: next(asked) > moves + moves // 2)
    assert is_cut
    assert len(some) == len(free)
