"""This machine as a provider: cut into CUs of the asked size, sold at several tariffs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Self

from cu_market.domain.allocation import Allocation
from cu_market.domain.bid import Bid, offered_until
from cu_market.domain.inputs import Place
from cu_market.domain.problem import Problem
from cu_market.domain.profile import CUProfile, ResourcePool
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import format_bytes, millis_to_cores, usd_to_microusd
from cu_market.ral.local import standby
from cu_market.ral.local.config import memory_reserve_bytes, read_config
from cu_market.ral.local.machine import Machine, read_machine
from cu_market.ral.local.process import is_alive, kill_tree
from cu_market.ral.local.tariff import DEFAULT_TARIFFS, Tariff
from cu_market.ral.local.worker_process import LocalWorker, start_worker
from cu_market.ral.provider import (
    Capabilities,
    HolderStatus,
    Standby,
    StepLimits,
    WorkerLaunch,
)

THIS_MACHINE = Place(location="this machine")


class LocalProvider:
    """Sells one capacity, this machine's, under one profile per tariff.

    All profiles share their capacity, so that no mix of tariffs sells a core twice; each is as
    large as the whole capacity and priced by what is asked of it.

    Attributes:
        name: first part of its cu_ids, and its capacity_id.
        capabilities: everything that a machine of one's own allows.
        capacity: what it sells in all.
        machine: what it is cut from.
    """

    def __init__(
        self,
        name: str,
        *,
        machine: Machine,
        capacity: ResourceVector,
        tariffs: Sequence[Tariff] = DEFAULT_TARIFFS,
        place: Place = THIS_MACHINE,
        offer_valid_seconds: float | None = None,
    ) -> None:
        self.name = name
        self.capabilities = Capabilities(
            relay=True,
            warm=True,
            limits=True,
            reap=True,
            elastic=True,
            one_worker=True,
            grows=True,
            ahead=standby.IS_POSSIBLE,
        )
        self.machine = machine
        self.capacity = capacity
        self._tariffs = {f"{name}/{tariff.name}": tariff for tariff in tariffs}
        self._place = place
        self._offer_valid_seconds = offer_valid_seconds
        self._used_permille = 0

    @classmethod
    def from_config(
        cls, name: str, config: Mapping[str, object], *, machine: Machine | None = None
    ) -> Self:
        """Returns the provider that a configuration describes; see LocalConfig for its options.

        Args:
            name: the provider's.
            config: the options as written, without ``kind``.
            machine: what the options may not exceed; read from the kernel if None.

        Raises:
            InvalidInputError: every problem in the configuration.
        """
        machine = read_machine() if machine is None else machine
        read = read_config(name, config, machine)
        offered = machine.memory_bytes - memory_reserve_bytes(read, machine)
        return cls(
            name,
            machine=machine,
            capacity=ResourceVector(
                cpu_millis=machine.cpu_millis if read.cores is None else read.cores,
                memory_bytes=offered if read.memory is None else read.memory,
            ),
            tariffs=[tariff.tariff() for tariff in read.tariffs],
            place=Place(
                location=read.location,
                egress_microusd_per_gb=usd_to_microusd(read.egress_usd_per_gb),
                bandwidth_mbps=read.network_mbps,
            ),
            offer_valid_seconds=read.offer_valid_seconds,
        )

    @staticmethod
    def conflicts(providers: Sequence[LocalProvider]) -> list[Problem]:
        """Returns what is wrong with several of these together: more sold than the machine has.

        Called by the registry with all configured providers of this class.
        """
        if len(providers) < 2:
            return []
        total = ResourceVector()
        for provider in providers:
            total += provider.capacity
        machine = providers[0].machine
        has = ResourceVector(cpu_millis=machine.cpu_millis, memory_bytes=machine.memory_bytes)
        if total.fits_in(has):
            return []
        return [
            Problem(
                where="providers of kind local",
                value=", ".join(provider.name for provider in providers),
                what=f"sell {_describe(total)} together, this machine has {_describe(has)}",
                remedy="give each its own cores and memory so that the sums fit",
            )
        ]

    def pool(self) -> ResourcePool:
        """Returns one profile per tariff, all cut from one capacity."""
        storage_bytes = shutil.disk_usage(tempfile.gettempdir()).free
        return ResourcePool(
            profiles=tuple(self._profile(cu_id, storage_bytes) for cu_id in self._tariffs),
            capacities={self.name: self.capacity},
        )

    @property
    def observed(self) -> Sequence[str]:
        """This machine, where a tariff rises with its use."""
        rises = any(tariff.congestion_permille for tariff in self._tariffs.values())
        return (self.name,) if rises else ()

    def observe(self, held: Mapping[str, ResourceVector]) -> None:
        """Takes what is leased of this machine now: congestion prices rise with it."""
        used = held.get(self.name, ResourceVector())
        self._used_permille = used.share_permille(self.capacity)

    def is_revocable(self, allocation: Allocation) -> bool:
        """Returns whether the lease is of a spot tariff."""
        tariff = self._tariffs.get(allocation.resource_id)
        return tariff is not None and tariff.is_spot

    def bid(self, requests: Sequence[ResourceRequest], now: datetime) -> Sequence[Bid]:
        """Returns an elastic bid per tariff, or none if no request fits this machine."""
        if not any(self._can_serve(request) for request in requests):
            return []
        return [
            Bid(
                bid_id=profile.cu_id,  # one offer per CU and auction
                profile=profile,
                price_microusd_per_hour=profile.price_microusd_per_hour,
                rates=self._tariffs[profile.cu_id].rates(self._used_permille),
                valid_until=offered_until(now, self._offer_valid_seconds),
            )
            for profile in self.pool().profiles
        ]

    def worker_key(self, allocation: Allocation) -> str:
        """Returns the provider's name: one warm worker serves every tariff.

        Niceness is set in the step after the fork, so a worker need not be of one tariff.
        """
        return self.name

    def limits(self, allocation: Allocation) -> StepLimits:
        """Returns the leased size and the tariff's niceness.

        A tariff that has gone from the configuration since the award leaves normal priority.
        """
        tariff = self._tariffs.get(allocation.resource_id)
        return StepLimits(
            cpu_millis=allocation.size.cpu_millis,
            memory_bytes=allocation.size.memory_bytes,
            niceness=0 if tariff is None else tariff.niceness,
        )

    def start(self, launch: WorkerLaunch) -> LocalWorker:
        """Starts a worker on this machine; see start_worker.

        Raises:
            OSError: it cannot be started.
        """
        return start_worker(launch)

    def fit(self, launch: WorkerLaunch) -> str:
        """Returns what tells a process on this machine from another."""
        return standby.fit_of(launch)

    def start_ahead(self, launch: WorkerLaunch) -> str:
        """Starts a worker that loads the code and stands by; see standby.

        Raises:
            OSError: it cannot be started.
        """
        return standby.start_standby(launch)

    def look_after(self, holder: str) -> Standby:
        """Returns how a worker that stands by gets on."""
        return standby.look_after(holder)

    def take_over(self, holder: str, launch: WorkerLaunch) -> LocalWorker:
        """Returns a worker that stood by.

        Raises:
            OSError: it has gone, or another has it.
        """
        return standby.take_over(holder, launch)

    def check(self, holder: str) -> HolderStatus:
        """Returns whether that worker still runs; UNKNOWN if it is on another host."""
        return is_alive(holder)

    def stop(self, holder: str) -> None:
        """Kills that worker and all that it started, and returns once they are gone."""
        kill_tree(holder)

    def reap(self, holders: Sequence[str]) -> Sequence[str]:
        """Kills what is left of those workers; returns the holders of which something was."""
        return [holder for holder in holders if kill_tree(holder)]

    def _can_serve(self, request: ResourceRequest) -> bool:
        """Whether one such CU fits this machine. Prices and places are the market's to judge."""
        return request.gpu_type is None and request.needs.fits_in(self.capacity)

    def _profile(self, cu_id: str, storage_bytes: int) -> CUProfile:
        """Returns the largest CU of a tariff: all that this provider sells."""
        tariff = self._tariffs[cu_id]
        return CUProfile(
            cu_id=cu_id,
            provider=self.name,
            location=self._place.location,
            capacity_id=self.name,
            cpu_millis=self.capacity.cpu_millis,
            memory_bytes=self.capacity.memory_bytes,
            storage_bytes=storage_bytes,
            network_bandwidth_mbps=self._place.bandwidth_mbps,
            egress_microusd_per_gb=self._place.egress_microusd_per_gb,
            price_microusd_per_hour=tariff.rates(self._used_permille).price_microusd_per_hour(
                self.capacity
            ),
            interruption_millis_per_hour=tariff.interruption_millis_per_hour,
        )


def _describe(size: ResourceVector) -> str:
    """Returns a size in words: ``2 cores and 4.0 GiB``."""
    return f"{millis_to_cores(size.cpu_millis)} cores and {format_bytes(size.memory_bytes)}"
