"""Where a run's outputs lie: where their steps last ran, as their provider says it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from cu_market.deo.executor.origins import Origins
from cu_market.domain.allocation import Allocation, AllocationState
from cu_market.domain.inputs import InputData, Place
from cu_market.domain.outline import StepOutline
from cu_market.domain.profile import CUProfile, ResourcePool
from cu_market.domain.request import StepIdentity
from cu_market.domain.resources import ResourceVector

SIZE = ResourceVector(cpu_millis=1000, memory_bytes=2**30)


class Provider:
    """Two CUs in two places; away until it is there."""

    def __init__(self) -> None:
        self.is_away = False

    def pool(self) -> ResourcePool:
        if self.is_away:
            raise ConnectionError("no route to host")
        profiles = tuple(
            CUProfile(
                cu_id=f"p/{name}",
                provider="p",
                location=name,
                capacity_id="p",
                cpu_millis=1000,
                memory_bytes=2**30,
                price_microusd_per_hour=1,
            )
            for name in ("x", "y")
        )
        return ResourcePool(profiles=profiles, capacities={"p": SIZE})


def lease(step: str, cu: str, token: int) -> Allocation:
    return Allocation(
        run_id="run",
        step_key=step,
        attempt=1,
        state=AllocationState.LEASED,
        auction_id="a",
        bid_id="b",
        provider="p",
        resource_id=f"p/{cu}",
        capacity_id="p",
        size=SIZE,
        price_microusd_per_hour=1,
        expected_ms=1,
        fencing_token=token,
        awarded_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def places(origins: Origins, *sources: str) -> list[Place | None]:
    step = StepOutline(
        step_key="reader",
        op_name="reader",
        identity=StepIdentity(node="reader"),
        inputs=tuple(InputData(source=source, size_bytes=1) for source in sources),
    )
    return [data.place for data in origins.placed(step).inputs]


def market(provider: Provider) -> Any:
    return SimpleNamespace(providers={"p": provider})


def test_outputs_lie_where_their_step_ran_last() -> None:
    origins = Origins(market(Provider()))
    origins.note(lease("a", "y", 2))
    origins.note(lease("a", "x", 1))
    origins.note(lease("gone", "z", 3))
    assert places(origins, "a", "b", "gone") == [Place(location="y"), None, None]


def test_mapped_steps_stand_together_under_their_template() -> None:
    origins = Origins(market(Provider()))
    origins.note(lease("work[k1]", "x", 1))
    origins.note(replace(lease("work[k2]", "y", 2)))
    assert places(origins, "work[k1]", "work[?]") == [Place(location="x"), Place(location="y")]


def test_a_provider_that_is_away_is_asked_again() -> None:
    provider = Provider()
    origins = Origins(market(provider))
    origins.note(lease("a", "x", 1))
    provider.is_away = True
    assert places(origins, "a") == [None]
    provider.is_away = False
    assert places(origins, "a") == [Place(location="x")]
