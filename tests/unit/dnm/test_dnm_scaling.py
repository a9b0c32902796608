"""A cheap slow CU against a dear fast one: a step's own scaling decides."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dnm_records import HOUR, asks, offers

from cu_market.dnm import plan
from cu_market.dnm.programs.solve import InProcessSolver
from cu_market.dnm.selection.arrays import tabulate
from cu_market.domain.bid import Rates
from cu_market.domain.scaling import Scaling
from cu_market.domain.units import lease_cost_microusd

SERIAL = Scaling(waiting_ms=0, serial_ms=HOUR)
SHARED = Scaling(waiting_ms=0, serial_ms=HOUR // 10, parallel_ms=HOUR * 9 // 10, most_millis=16_000)
IDLE = Scaling(waiting_ms=HOUR * 9 // 10, serial_ms=HOUR // 10)

SMALL = offers("small", 100, cores=1)
LARGE = offers("large", 300, cores=8)
QUICK = offers("quick", 150, cores=1, bid={"performance_millis": 2000})


@pytest.mark.parametrize(
    ("scaling", "bids", "winner", "expected_ms"),
    [
        (None, [SMALL, LARGE], "small", HOUR),
        (SERIAL, [SMALL, LARGE], "small", HOUR),
        # 8 cores for the price of 3: 0.1 + 0.9/8 of an hour.
        (SHARED, [SMALL, LARGE], "large", HOUR // 10 + HOUR * 9 // 80),
        (SERIAL, [SMALL, QUICK], "quick", HOUR // 2),
        (None, [SMALL, QUICK], "quick", HOUR // 2),
        # What waits most of its time gains little from a quicker core.
        (IDLE, [SMALL, QUICK], "small", HOUR),
    ],
)
def test_the_winner_follows_from_how_a_steps_time_scales(
    scaling: Scaling | None, bids: list, winner: str, expected_ms: int
) -> None:
    request = replace(asks("r"), scaling=scaling)
    found = plan([request], bids, {}, solver=InProcessSolver(), limit_seconds=600)
    [award] = found.awards
    assert (award.bid_id, award.expected_ms) == (winner, expected_ms)


def test_both_planners_take_the_same_times() -> None:
    cut = replace(
        offers("cut", 400, cores=4, capacity_id="cap"),
        rates=Rates(core_microusd_per_hour=100, gb_microusd_per_hour=0),
    )
    bids = [SMALL, LARGE, QUICK, cut]
    scalings = (None, SERIAL, SHARED, IDLE)
    requests = [replace(asks(f"r{n}"), scaling=each) for n, each in enumerate(scalings)]
    table = tabulate(requests, bids, {"cap": cut.profile.size})
    for i, request in enumerate(table.requests):
        for k, bid in enumerate(table.bids):
            price, takes_ms = bid.price_for(request.needs), bid.duration_of(request)
            assert table.costs[i, k] == lease_cost_microusd(price, takes_ms)
    by_id = {bid.bid_id: bid for bid in bids}
    assert by_id["cut"].duration_of(requests[2]) == HOUR  # one core is cut for it
