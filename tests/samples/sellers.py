"""A provider that sells what it is told to, and may change its mind between two questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from unhurried import UNHURRIED

from cu_market.domain.bid import Bid
from cu_market.domain.inputs import Place
from cu_market.domain.outline import RunOutline, StepOutline
from cu_market.domain.profile import CUProfile, ResourcePool
from cu_market.domain.request import ResourceRequest, StepIdentity
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GIB
from cu_market.ledger.memory import InMemoryLedger
from cu_market.market.auction import Market
from cu_market.market.settings import MarketSettings
from cu_market.ral.provider import Capabilities

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Seller:
    """Sells one kind of CU, whole.

    Attributes:
        name, price, quantity: of the CU ``<name>/cu``, dollars an hour and how many.
        place: where it is.
        profile: more fields of the profile.
        bid_fields: more fields of the bid.
        leaves_after: it says so often that its CU is there, and then no more.
        capabilities: unless told otherwise, its CUs take one step at a time.
    """

    name: str
    price: float = 1.0
    quantity: int = 4
    place: Place = field(default_factory=lambda: Place(location="here"))
    profile: dict[str, Any] = field(default_factory=dict)
    bid_fields: dict[str, Any] = field(default_factory=dict)
    leaves_after: int | None = None
    capabilities: Capabilities = field(default_factory=lambda: Capabilities(exclusive=True))
    asked: int = 0

    def pool(self) -> ResourcePool:
        self.asked += 1
        if self.leaves_after is not None and self.asked > self.leaves_after:
            return ResourcePool(profiles=(), capacities={})
        profile = self._profile()
        return ResourcePool(
            profiles=(profile,),
            capacities={profile.capacity_id: profile.size.times(self.quantity)},
        )

    def bid(self, requests: Sequence[ResourceRequest], now: datetime) -> Sequence[Bid]:
        profile = self._profile()
        if not any(request.needs.fits_in(profile.size) for request in requests):
            return ()
        return (
            Bid(
                bid_id=profile.cu_id,
                profile=profile,
                price_microusd_per_hour=profile.price_microusd_per_hour,
                quantity=self.quantity,
                **self.bid_fields,
            ),
        )

    def _profile(self) -> CUProfile:
        size = ResourceVector(cpu_millis=4000, memory_bytes=8 * GIB)
        fields = {
            "cu_id": f"{self.name}/cu",
            "provider": self.name,
            "location": self.place.location,
            "egress_microusd_per_gb": self.place.egress_microusd_per_gb,
            "network_bandwidth_mbps": self.place.bandwidth_mbps,
            "capacity_id": f"{self.name}/cu",
            "cpu_millis": size.cpu_millis,
            "memory_bytes": size.memory_bytes,
            "price_microusd_per_hour": round(10**6 * self.price),
        }
        return CUProfile(**(fields | self.profile))


def market_of(*sellers: Seller, ledger: InMemoryLedger | None = None, **settings: Any) -> Market:
    """Returns an open market of these sellers, its clock standing at NOW."""
    return Market(
        settings=MarketSettings(**(UNHURRIED | settings)),
        ledger=ledger or InMemoryLedger(),
        providers=sellers,  # type: ignore[arg-type]
        now=lambda: NOW,
    )


def step(name: str, *sources: str, **tags: str) -> StepOutline:
    """Returns an hour's step that reads one output of each source."""
    said = {"cpu_cores": "1", "memory_gb": "1", "duration_seconds": "3600"} | tags
    return StepOutline(
        step_key=name,
        op_name=name,
        identity=StepIdentity(node=name),
        tags={f"cu/{key}": value for key, value in said.items()},
        depends_on=sources,
        sources=tuple((source, "result") for source in sources),
    )


def run(*steps: StepOutline, **tags: str) -> RunOutline:
    """Returns a run of these steps."""
    said = {f"cu/{key}": value for key, value in tags.items()}
    return RunOutline(run_id="run", job_name="job", tags=said, steps=steps)
