"""What binds an award, and what more time or money would change."""

from __future__ import annotations

from dataclasses import replace

from dnm_records import HOUR, asks, offers

from cu_market.dnm import plan
from cu_market.dnm.programs.solve import InProcessSolver
from cu_market.domain.bid import Bid, Rates
from cu_market.domain.plan import Award
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GIB

CHEAP = offers("cheap", 100_000, bid={"performance_millis": 500})
DEAR = offers("dear", 400_000)
QUICK = offers("quick", 1_600_000, bid={"performance_millis": 2000})


def awarded(
    requests: list[ResourceRequest],
    bids: list[Bid],
    capacities: dict[str, ResourceVector] | None = None,
) -> dict[str, Award]:
    found = plan(requests, bids, capacities or {}, solver=InProcessSolver(), limit_seconds=600)
    assert not found.unserved
    return {award.request_id: award for award in found.awards}


def test_the_cheapest_bid_at_once_is_bound_by_nothing() -> None:
    award = awarded([asks("r")], [CHEAP])["r"]
    assert award.binding == "nothing: it starts at once, on its cheapest bid"
    assert (award.more_time, award.more_money) == ("", "")


def test_a_deadline_binds_and_more_time_is_worth_what_the_cheaper_bid_saves() -> None:
    in_time = replace(asks("r"), latest_finish_ms=HOUR)
    award = awarded([in_time], [CHEAP, DEAR])["r"]
    assert award.bid_id == "dear"
    assert award.binding == "time: without it cu-cheap would save $0.200000"
    assert award.more_time == "ending 3600.0 s later, on cu-cheap, would save $0.200000"
    assert award.more_money == ""


def test_more_money_ends_it_sooner_by_the_best_rate() -> None:
    quicker = offers("quicker", 40_000_000, bid={"performance_millis": 4000})
    award = awarded([asks("r")], [DEAR, QUICK, quicker])["r"]
    assert award.bid_id == "dear"
    # 1.6 an hour for half an hour: 0.4 more for 1800 s. Quicker: 9.6 more for 2700 s.
    assert award.more_money == "$0.400000 more would end it 1800.0 s sooner, on cu-quick"


def test_what_waits_for_room_says_how_long_and_where() -> None:
    cut = replace(
        offers("cut", 100_000, capacity_id="room"),
        rates=Rates(core_microusd_per_hour=100_000, gb_microusd_per_hour=0),
    )
    room = {"room": ResourceVector(cpu_millis=1000, memory_bytes=4 * GIB)}
    found = awarded([asks("first"), asks("second")], [cut], room)
    late = max(found.values(), key=lambda award: award.start_ms)
    early = min(found.values(), key=lambda award: award.start_ms)
    assert late.binding == "room on room: it could start 3600.0 s earlier"
    assert early.binding.startswith("nothing")


def test_what_follows_another_is_bound_by_it() -> None:
    found = awarded(
        [asks("a"), replace(asks("b"), depends_on=("a",))], [replace(CHEAP, quantity=2)]
    )
    assert found["b"].binding == "what it depends on: it starts as they end, on its cheapest bid"


def test_a_cheaper_bid_whose_only_unit_another_has_is_a_lack_of_room() -> None:
    hurried = [
        replace(asks(name), value_of_time_microusd_per_hour=10_000_000) for name in ("a", "b")
    ]
    found = awarded(hurried, [DEAR, offers("x", 500_000)])
    second = next(award for award in found.values() if award.bid_id == "x")
    assert second.binding.startswith("room: with it cu-dear would save $0.100000")
