"""Egress, transfer, interruption and minimum billing: exact figures of small cases."""

from __future__ import annotations

from dataclasses import replace
from math import exp

import pytest
from dnm_records import HOUR, asks, offers

from cu_market.dnm.placement.placing import plan_placed
from cu_market.dnm.planner import plan
from cu_market.dnm.programs.solve import no_clock
from cu_market.dnm.surcharges import Priced, interruption_microusd
from cu_market.dnm.verify import violations
from cu_market.domain.bid import Bid, Rates
from cu_market.domain.inputs import InputData, Place
from cu_market.domain.plan import LossReason, Plan
from cu_market.domain.request import ResourceRequest
from cu_market.domain.units import GB

FAR = Place(location="far", egress_microusd_per_gb=90_000, bandwidth_mbps=1000)


def planned(requests: list[ResourceRequest], bids: list[Bid]) -> Plan:
    return plan_placed(requests, bids, {}, solver=None, limit_seconds=1, clock=no_clock)


def winners(found: Plan) -> dict[str, str]:
    return {award.request_id: award.bid_id for award in found.awards}


def test_what_was_written_elsewhere_is_paid_for_and_takes_time() -> None:
    request = asks("a", inputs=(InputData(source="gone", size_bytes=10 * GB, place=FAR),))
    here = offers("here", 100_000, location="here", network_bandwidth_mbps=500)
    there = offers("there", 100_000, location="far")
    surcharge = Priced()(request, here)
    assert (surcharge.microusd, surcharge.extra_ms) == (900_000, 160_000)  # 80 Gbit at 500 Mbit/s
    assert Priced()(request, there).microusd == 0
    found = planned([request], [here, there])
    assert winners(found) == {"a": "there"}
    (award,) = found.awards
    assert award.losses[0].cost_microusd == 900_000 + 100_000 * (HOUR + 160_000) // HOUR


def test_a_slower_end_that_does_not_say_its_bandwidth_takes_no_time() -> None:
    size, unknown = 10 * GB, Place(location="x")
    assert FAR.transfer_ms(size, unknown) == 80_000
    assert unknown.transfer_ms(size, Place(location="y")) == 0


def test_a_dearer_cu_beside_the_data_wins_only_as_far_as_egress_goes() -> None:
    for gigabytes, winner in ((1, "here"), (2, "there")):
        data = InputData(source="gone", size_bytes=gigabytes * GB, place=FAR)
        bids = [
            offers("here", 100_000, location="here"),
            offers("there", 200_000, location="far"),
        ]
        assert winners(planned([asks("a", inputs=(data,))], bids)) == {"a": winner}


def test_a_source_of_the_same_plan_comes_to_its_only_possible_reader() -> None:
    writes = asks("a", duration_ms=60_000)
    reads = asks(
        "b", gpus=1, depends_on=("a",), inputs=(InputData(source="a", size_bytes=50 * GB),)
    )
    cheap = offers("cheap", 10_000, location="x", egress_microusd_per_gb=90_000)
    dear = offers("dear", 50_000, location="y", egress_microusd_per_gb=90_000)
    gpu = offers("gpu", 900_000, location="y", gpu_type="T4", gpu_count=1)
    found = planned([writes, reads], [cheap, dear, gpu])
    assert winners(found) == {"a": "dear", "b": "gpu"}
    assert [award.egress_microusd for award in found.awards] == [0, 0]
    little = replace(reads, inputs=(InputData(source="a", size_bytes=1000),))
    assert winners(planned([writes, little], [cheap, dear, gpu]))["a"] == "cheap"


def test_the_checker_knows_every_new_cost() -> None:
    request = asks("a", inputs=(InputData(source="gone", size_bytes=GB, place=FAR),))
    bid = offers("b", 100_000, network_bandwidth_mbps=100, interruption_millis_per_hour=500)
    (award,) = planned([request], [bid]).awards
    assert min(award.egress_microusd, award.transfer_ms, award.loss_microusd) > 0
    assert violations([request], [bid], {}, [award], surcharges=Priced()) == ()
    for field in ("egress_microusd", "transfer_ms", "loss_microusd", "cost_microusd"):
        wrong = replace(award, **{field: getattr(award, field) - 1})
        assert violations([request], [bid], {}, [wrong], surcharges=Priced())
    assert violations([request], [bid], {}, [award])  # without surcharges it is another award


def test_an_interruption_costs_half_the_lease_and_its_time_as_often_as_it_happens() -> None:
    request = asks("a", value_of_time_microusd_per_hour=200_000)
    spot = offers("spot", 100_000, interruption_millis_per_hour=1000)
    expected = (1 - exp(-1)) * (50_000 + 100_000)
    assert interruption_microusd(request, spot) == round(expected)
    assert interruption_microusd(request, offers("own", 100_000)) == 0


@pytest.mark.parametrize(("price", "winner"), [(150_000, "spot"), (130_000, "own")])
def test_spot_wins_where_it_is_cheaper_with_what_is_lost(price: int, winner: str) -> None:
    spot = offers("spot", 100_000, interruption_millis_per_hour=1000)  # 131,606 in all
    assert winners(planned([asks("a")], [spot, offers("own", price)])) == {"a": winner}


@pytest.mark.parametrize(
    ("deadline_ms", "must_fit", "winner"),
    [
        (2 * HOUR + 60_000, True, "spot"),
        (2 * HOUR + 59_999, True, "own"),
        (2 * HOUR + 59_999, False, "spot"),
    ],
)
def test_spot_only_where_a_retry_and_what_follows_still_fit(
    deadline_ms: int, must_fit: bool, winner: str
) -> None:
    first = asks("a", latest_finish_ms=deadline_ms, retry_must_fit=must_fit)
    then = asks("b", depends_on=("a",), latest_finish_ms=deadline_ms, duration_ms=60_000)
    spot = offers("spot", 100, interruption_millis_per_hour=1)
    found = planned([first, then], [spot, offers("own", 900_000)])
    assert winners(found)["a"] == winner
    if winner == "own":
        assert found.awards[0].losses[0].reason is LossReason.NO_RETRY


def test_the_checker_refuses_spot_without_time_for_a_retry() -> None:
    request = asks("a", latest_finish_ms=2 * HOUR)
    spot = offers("spot", 100, interruption_millis_per_hour=1)
    (award,) = planned([request], [spot]).awards
    late = replace(request, latest_finish_ms=2 * HOUR - 1)
    assert violations([request], [spot], {}, [award], surcharges=Priced()) == ()
    assert violations([late], [spot], {}, [award], surcharges=Priced())


def test_a_lease_is_billed_for_its_minimum_in_the_plan_too() -> None:
    cheap = offers(
        "minimum",
        100_000,
        bid={
            "rates": Rates(core_microusd_per_hour=100_000, gb_microusd_per_hour=0, minimum_ms=HOUR)
        },
    )
    request = asks("a", duration_ms=HOUR // 10)
    room = {"cap-minimum": cheap.profile.size}
    (award,) = plan([request], [cheap], room, solver=None, limit_seconds=1).awards
    assert award.money_microusd == 100_000
    dearer = offers("exact", 900_000)
    found = plan([request], [cheap, dearer], room, solver=None, limit_seconds=1)
    assert winners(found) == {"a": "exact"}  # 90,000 for six minutes
