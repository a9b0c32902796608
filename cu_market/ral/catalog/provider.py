"""A provider whose prices come from a catalogue file.

It quotes: what a run would have cost there is shown by ``recommend`` and ``cu-market quote``. With
a way to start configured (another provider's), it sells at its prices what the other one starts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Self

from cu_market.domain.allocation import Allocation
from cu_market.domain.bid import Bid
from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.domain.profile import CUProfile, ResourcePool
from cu_market.domain.request import ResourceRequest
from cu_market.ral.catalog.config import CatalogConfig, find_catalog, read_config
from cu_market.ral.catalog.offers import profiles_of, without_dominated
from cu_market.ral.catalog.store import Catalog
from cu_market.ral.provider import (
    Capabilities,
    HolderStatus,
    Provider,
    StepLimits,
    Worker,
    WorkerLaunch,
)
from cu_market.ral.registry import load_providers


class CatalogProvider:
    """Offers a catalogue's CUs, whole.

    Attributes:
        name: first part of its cu_ids.
        capabilities: those of what starts its workers; without it, quotes only.
        catalog: where its prices come from.
        profiles: what it sells, dominated types left out.
    """

    def __init__(
        self, name: str, *, catalog: Catalog, config: CatalogConfig, starter: Provider | None = None
    ) -> None:
        self.name = name
        self.catalog = catalog
        self._config = config
        self._starter = starter
        self.capabilities = (
            Capabilities(quotes_only=True)
            if starter is None
            else replace(starter.capabilities, elastic=False, one_worker=False, grows=False)
        )
        self.profiles = without_dominated(profiles_of(catalog.rows, config.terms(name)))
        self._pool = ResourcePool(
            profiles=tuple(self.profiles),
            capacities={p.capacity_id: p.size.times(config.quantity) for p in self.profiles},
        )

    @classmethod
    def from_config(cls, name: str, config: Mapping[str, object]) -> Self:
        """Returns the provider that a configuration describes; see CatalogConfig.

        Raises:
            InvalidInputError: every problem in it, or in its catalogue.
        """
        read = read_config(name, config)
        starter = None
        if read.start is not None:
            starter = load_providers({f"{name}.start": read.start})[0]
        found = cls(name, catalog=find_catalog(name, read), config=read, starter=starter)
        if not found.profiles:
            remedy = "widen regions, instance_types or architectures"
            what = f"no row of catalogue {found.catalog.source!r} is left"
            value = f"{read.regions} {read.instance_types} {read.architectures}"
            raise InvalidInputError(
                [Problem(where=f"provider {name!r}", value=value, what=what, remedy=remedy)]
            )
        return found

    def notice(self, now: datetime) -> str:
        """Returns how old its prices are, in words; says so where they are old."""
        age = max(timedelta(0), now - self.catalog.as_of)
        is_old = age > timedelta(days=self._config.old_after_days)
        days = f"{age.days} day{'' if age.days == 1 else 's'}"
        remedy = "; OLD: import newer ones with `cu-market catalog import`" if is_old else ""
        date, source = f"{self.catalog.as_of:%Y-%m-%d}", self.catalog.source
        return f"prices of {date} from {source}, {days} old{remedy}"

    def pool(self) -> ResourcePool:
        """Returns its CUs; each type has a capacity of its own."""
        return self._pool

    def bid(self, requests: Sequence[ResourceRequest], now: datetime) -> Sequence[Bid]:
        """Returns an offer of every CU that is large enough for at least one request."""
        return [
            Bid(
                bid_id=profile.cu_id,
                profile=profile,
                price_microusd_per_hour=profile.price_microusd_per_hour,
                quantity=self._config.quantity,
            )
            for profile in self.profiles
            if any(_can_serve(profile, request) for request in requests)
        ]

    def worker_key(self, allocation: Allocation) -> str:
        """Returns a key per CU type: steps on different types never share a worker."""
        return f"{allocation.resource_id}:{self._started().worker_key(allocation)}"

    def limits(self, allocation: Allocation) -> StepLimits:
        """Returns what the starter allows."""
        return self._started().limits(allocation)

    def start(self, launch: WorkerLaunch) -> Worker:
        """Starts a worker by the configured way.

        Raises:
            OSError: it cannot be started, or there is no way to.
        """
        return self._started().start(launch)

    def check(self, holder: str) -> HolderStatus:
        """Returns whether that worker still runs."""
        return HolderStatus.UNKNOWN if self._starter is None else self._starter.check(holder)

    def stop(self, holder: str) -> None:
        """Ends that worker; does nothing where none was ever started."""
        if self._starter is not None:
            self._starter.stop(holder)

    def reap(self, holders: Sequence[str]) -> Sequence[str]:
        """Ends what is left of those workers."""
        return [] if self._starter is None else self._starter.reap(holders)

    def _started(self) -> Provider:
        if self._starter is None:
            raise OSError(f"provider {self.name!r} only quotes: configure `start` to run steps")
        return self._starter


def _can_serve(profile: CUProfile, request: ResourceRequest) -> bool:
    wanted = (request.gpu_type or "").lower()
    return request.needs.fits_in(profile.size) and wanted in ("", (profile.gpu_type or "").lower())
