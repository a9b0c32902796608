"""What nobody serves now: too much for ever, to be asked again, or perhaps somebody silent's."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from unhurried import UNHURRIED

from cu_market.domain.bid import Bid
from cu_market.domain.outline import RunOutline, StepOutline
from cu_market.domain.problem import InvalidInputError
from cu_market.domain.profile import ResourcePool
from cu_market.domain.request import ResourceRequest, StepIdentity
from cu_market.domain.units import GIB
from cu_market.ledger.memory import InMemoryLedger
from cu_market.market.auction import Market
from cu_market.market.settings import MarketSettings
from cu_market.market.unserved import MarketUnavailableError, NoRoomYetError
from cu_market.ral.local.machine import Machine
from cu_market.ral.local.provider import LocalProvider
from cu_market.ral.provider import Capabilities

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Cluster:
    """A provider without room now, of which only what the market asks is there."""

    largest_millis: int = 64_000
    failure: str = ""
    name: str = "cluster"
    capabilities: Capabilities = field(default_factory=Capabilities)

    def pool(self) -> ResourcePool:
        return ResourcePool(profiles=(), capacities={})

    def bid(self, requests: Sequence[ResourceRequest], now: datetime) -> Sequence[Bid]:
        if self.failure:
            raise ConnectionError(self.failure)
        return ()

    def could_serve(self, request: ResourceRequest) -> bool:
        return request.needs.cpu_millis <= self.largest_millis


def clear(cluster: Cluster, *cores: int, has_local: bool = True) -> Mapping[str, object]:
    """Holds the auction of a run with a step of each of these sizes, two cores being here."""
    machine = Machine(cpu_millis=2000, memory_bytes=16 * GIB)
    local = LocalProvider.from_config("local", {}, machine=machine)
    steps = tuple(
        StepOutline(
            step_key=f"s{n}",
            op_name=f"s{n}",
            identity=StepIdentity(node=f"s{n}"),
            tags={"cu/cpu_cores": str(count), "cu/memory_gb": "0.1"},
        )
        for n, count in enumerate(cores)
    )
    providers = [local, cluster] if has_local else [cluster]
    market = Market(
        settings=MarketSettings(**UNHURRIED),
        ledger=InMemoryLedger(),
        providers=providers,  # type: ignore[arg-type]
        now=lambda: NOW,
    )
    outline = RunOutline(run_id="run", job_name="job", steps=steps)
    return market.clear(outline, place="executor").allocations


def test_what_fits_here_needs_nobody_else() -> None:
    assert set(clear(Cluster(failure="no route to host"), 1, 2)) == {"s0", "s1"}


@pytest.mark.parametrize("has_local", [True, False])
def test_what_a_full_cluster_could_hold_is_for_later(has_local: bool) -> None:
    with pytest.raises(NoRoomYetError, match="step 's1'") as raised:
        clear(Cluster(), 1, 8, has_local=has_local)
    assert str(raised.value).startswith("nobody has room now: ")
    assert str(raised.value).endswith(
        "; there may be room when a lease ends; else ask for less, raise its limits, or add a "
        "provider that has such a CU"
    )


def test_what_nobody_could_ever_hold_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="no CU can serve it"):
        clear(Cluster(largest_millis=4000), 1, 8)


def test_one_step_too_large_for_ever_refuses_the_run() -> None:
    with pytest.raises(InvalidInputError, match="step 's1'"):
        clear(Cluster(largest_millis=8000), 8, 80)


def test_a_silent_provider_may_be_who_could_serve_it() -> None:
    with pytest.raises(MarketUnavailableError, match="no answer from cluster") as raised:
        clear(Cluster(failure="no route to host"), 1, 8)
    assert not isinstance(raised.value, NoRoomYetError)
    assert "no route to host" in str(raised.value)
    assert str(raised.value).endswith(
        "; see with `cu-market pool` why cluster did not answer, or raise the setting "
        "bid_deadline_seconds"
    )


def test_where_nobody_answers_at_all_each_is_named() -> None:
    with pytest.raises(MarketUnavailableError, match="no provider answered within") as raised:
        clear(Cluster(failure="no route to host"), 1, has_local=False)
    assert "why cluster did not answer" in raised.value.remedy


def test_a_market_without_providers_says_where_to_name_one() -> None:
    market = Market(
        settings=MarketSettings(**UNHURRIED), ledger=InMemoryLedger(), providers=[], now=lambda: NOW
    )
    step = StepOutline(step_key="s", op_name="s", identity=StepIdentity(node="s"))
    with pytest.raises(MarketUnavailableError, match="no provider is configured; name one in"):
        market.clear(RunOutline(run_id="run", job_name="job", steps=(step,)), place="executor")


def test_its_errors_come_whole_from_another_process() -> None:
    error = pickle.loads(pickle.dumps(NoRoomYetError("it is full", "wait")))
    assert isinstance(error, NoRoomYetError)
    assert str(error) == "it is full; wait"


def refused(step_tags: Mapping[str, str], run_tags: Mapping[str, str] | None = None) -> list[str]:
    """Returns what is said of a run with one step that this machine alone could serve."""
    machine = Machine(cpu_millis=2000, memory_bytes=16 * GIB)
    market = Market(
        settings=MarketSettings(**UNHURRIED),
        ledger=InMemoryLedger(),
        providers=[LocalProvider.from_config("local", {}, machine=machine)],
        now=lambda: NOW,
    )
    step = StepOutline(
        step_key="s", op_name="s", identity=StepIdentity(node="s"), tags=dict(step_tags)
    )
    outline = RunOutline(run_id="run", job_name="job", steps=(step,), tags=dict(run_tags or {}))
    with pytest.raises(InvalidInputError) as raised:
        market.clear(outline, place="executor")
    return [str(problem) for problem in raised.value.problems]


def test_a_provider_that_there_is_none_of_is_said_with_the_other_tags() -> None:
    said = refused({"cu/provider": "lcal", "cu/cpu_cores": "-2"})
    assert len(said) == 2
    (unknown,) = (each for each in said if "lcal" in each)
    assert unknown == (
        "op 's': tag cu/provider: provider lcal='lcal': unknown provider; did you mean local?"
    )


@pytest.mark.parametrize(
    ("tag", "value", "said_value", "remedy"),
    [
        ("cu/max_price_usd_per_hour", "0.0001", "$0.000100/h", "allow a higher price"),
        ("cu/location", "mars", "mars", "allow another location"),
    ],
)
def test_a_limit_that_nobody_meets_is_named(
    tag: str, value: str, said_value: str, remedy: str
) -> None:
    (said,) = refused({tag: value})
    assert said.startswith(f"step 's': tag {tag}='{said_value}': no CU can serve it")
    assert said.endswith(f"; {remedy}, or add a provider")


def test_a_deadline_that_nobody_meets_is_named() -> None:
    (said,) = refused({}, {"cu/deadline_seconds": "0.001"})
    assert said.startswith("step 's': tag cu/deadline_seconds='0.001 s'")
    assert "allow more time" in said
