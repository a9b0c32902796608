from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.inputs import Place
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GB, GIB
from cu_market.ral.local.machine import Machine
from cu_market.ral.local.provider import LocalProvider
from cu_market.ral.provider import Provider

NOW = datetime(2025, 1, 1, tzinfo=UTC)
MACHINE = Machine(cpu_millis=4000, memory_bytes=16 * GIB)


def make(config: Mapping[str, object] | None = None, name: str = "local") -> LocalProvider:
    return LocalProvider.from_config(name, config or {}, machine=MACHINE)


def request(cpu_millis: int = 1000, memory_bytes: int = GB, **more: object) -> ResourceRequest:
    needs = ResourceVector(
        cpu_millis=cpu_millis, memory_bytes=memory_bytes, gpu_count=int("gpu_type" in more)
    )
    gpu_type = str(more["gpu_type"]) if "gpu_type" in more else None
    return ResourceRequest(
        request_id="step", timestamp=NOW, duration_ms=1000, needs=needs, gpu_type=gpu_type
    )


def allocation(resource_id: str) -> Allocation:
    return Allocation(
        run_id="run",
        step_key="step",
        attempt=1,
        state=AllocationState.LEASED,
        auction_id="auction",
        bid_id=resource_id,
        provider="local",
        resource_id=resource_id,
        capacity_id="local",
        size=ResourceVector(cpu_millis=1500, memory_bytes=GB),
        price_microusd_per_hour=1,
        expected_ms=1,
        awarded_at=NOW,
    )


def problems(config: Mapping[str, object]) -> list[str]:
    with pytest.raises(InvalidInputError) as caught:
        make(config)
    return [str(problem) for problem in caught.value.problems]


def test_it_is_a_provider() -> None:
    assert isinstance(make(), Provider)


def test_pool_has_one_cu_per_tariff_cut_from_one_capacity() -> None:
    pool = make(name="here").pool()
    assert [p.cu_id for p in pool.profiles] == ["here/standard", "here/economy"]
    assert {p.capacity_id for p in pool.profiles} == {"here"}
    reserve = 16 * GIB // 10
    assert pool.capacities == {
        "here": ResourceVector(cpu_millis=4000, memory_bytes=16 * GIB - reserve)
    }


def test_prices_of_the_defaults_in_exact_microdollars() -> None:
    standard, economy = make().bid([request()], NOW)
    one_core_one_gb = ResourceVector(cpu_millis=1000, memory_bytes=GB)
    assert standard.price_for(one_core_one_gb) == 48_000 + 6_500
    assert economy.price_for(one_core_one_gb) == 28_800 + 3_900
    assert standard.price_microusd_per_hour == standard.price_for(standard.profile.size)


def test_one_request_that_fits_is_enough_for_a_bid() -> None:
    assert len(make().bid([request(cpu_millis=99_000), request()], NOW)) == 2


@pytest.mark.parametrize(
    "asked",
    [request(cpu_millis=4001), request(memory_bytes=16 * GIB), request(gpu_type="A100")],
    ids=["cores", "memory", "gpu"],
)
def test_what_does_not_fit_gets_no_bid(asked: ResourceRequest) -> None:
    assert make().bid([asked], NOW) == []


def test_no_requests_no_bids() -> None:
    assert make().bid([], NOW) == []


@pytest.mark.parametrize(
    ("resource_id", "niceness"),
    [("local/standard", 0), ("local/economy", 10), ("local/since-removed", 0)],
)
def test_limits_are_the_lease_and_the_tariffs_niceness(resource_id: str, niceness: int) -> None:
    limits = make().limits(allocation(resource_id))
    assert (limits.cpu_millis, limits.memory_bytes) == (1500, GB)
    assert limits.niceness == niceness


def test_both_tariffs_share_a_worker() -> None:
    provider = make()
    keys = {provider.worker_key(allocation(f"local/{t}")) for t in ("standard", "economy")}
    assert keys == {"local"}


def test_options_lower_what_the_machine_has_and_set_the_price_list() -> None:
    provider = make(
        {
            "cores": 1.5,
            "memory": "4GiB",
            "location": "rack 7",
            "egress_usd_per_gb": 0.09,
            "network_mbps": 10_000,
            "tariffs": [
                {"name": "free", "core_usd_per_hour": 0, "gb_usd_per_hour": "0", "niceness": 19}
            ],
        }
    )
    assert provider.capacity == ResourceVector(cpu_millis=1500, memory_bytes=4 * GIB)
    (profile,) = provider.pool().profiles
    assert (profile.cu_id, profile.location) == ("local/free", "rack 7")
    assert profile.place == Place(
        location="rack 7", egress_microusd_per_gb=90_000, bandwidth_mbps=10_000
    )
    assert profile.price_microusd_per_hour == 0
    assert provider.limits(allocation("local/free")).niceness == 19


def test_an_offer_ends_where_that_is_wanted() -> None:
    lasting = make().bid([request()], NOW)
    brief = make({"offer_valid_seconds": 90}).bid([request()], NOW)
    assert {bid.valid_until for bid in lasting} == {None}
    assert {bid.valid_until for bid in brief} == {NOW + timedelta(seconds=90)}
    with pytest.raises(InvalidInputError, match="offer_valid_seconds='0'"):
        make({"offer_valid_seconds": 0})


def test_reserve_may_be_set_to_nothing() -> None:
    assert make({"memory_reserve": 0}).capacity.memory_bytes == 16 * GIB


def test_null_means_left_out() -> None:
    assert make({"cores": None}).capacity.cpu_millis == 4000


def test_every_problem_is_said_at_once_with_its_remedy() -> None:
    found = problems(
        {
            "cores": 99,
            "memory": "8Gb",
            "memroy": 1,
            "location": "",
            "tariffs": [
                {"name": "a b", "core_usd_per_hour": "nan", "gb_usd_per_hour": -1, "niceness": 20},
                {"name": "x", "core_usd_per_hour": float("inf"), "gb_usd_per_hour": 1e9},
                {"name": "x", "core_usd_per_hour": 1, "gb_usd_per_hour": 1, "nicenes": 1},
                {},
                7,
            ],
        }
    )
    text = "\n".join(found)
    for part in (
        "provider 'local': cores='99': more than the 4 cores that this machine has",
        "provider 'local': memory='8Gb': not a size; write 8GiB or 8GB",
        "provider 'local': memroy='1': no such option; did you mean 'memory'?",
        "location='': not a name",
        "tariffs.0.name='a b'",
        "tariffs.0.core_usd_per_hour='nan': not a finite number",
        "tariffs.0.gb_usd_per_hour='-1': not between 0 and 1000000",
        "tariffs.0.niceness='20': not a whole number from 0 to 19",
        "tariffs.1.core_usd_per_hour='inf': not a finite number",
        "tariffs.1.gb_usd_per_hour='1000000000.0': not between",
        "tariffs.2.nicenes='1': no such option; did you mean 'niceness'?",
        "tariffs.3.name='': missing",
        "tariffs.4='7'",
        "tariffs='x': two tariffs with one name",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"tariffs": []}, "empty"),
        ({"tariffs": "cheap"}, "write a list"),
        ({"memory": "16GiB"}, "after the reserve"),
        ({"memory": "17GiB"}, "more than the 16.0 GiB that this machine has"),
        ({"memory_reserve": "16GiB"}, "leaves nothing"),
        ({"memory_reserve": "-1"}, "not above zero"),
        ({"cores": 0}, "not above zero"),
        ({"cores": "-2"}, "not above zero"),
        ({"cores": "NaN"}, "not a finite number"),
        ({"cores": True}, "not a number"),
    ],
)
def test_a_bad_option_is_named(config: Mapping[str, object], said: str) -> None:
    (found,) = problems(config)
    assert said in found


def test_two_of_them_may_not_sell_one_machine_twice() -> None:
    half = {"cores": 2, "memory": "7GiB"}
    assert LocalProvider.conflicts([make(half, "a"), make(half, "b")]) == []
    (problem,) = LocalProvider.conflicts([make(name="a"), make(half, "b")])
    assert "sell 6 cores" in str(problem)
    assert "this machine has 4 cores and 16.0 GiB" in str(problem)
