"""Somebody else's provider: chosen cores of this machine, for steps that must not be disturbed.

Copy it, change it, ship it: name it in your package's metadata,

    [project.entry-points."cu_market.providers"]
    pinned = "pinned_provider:PinnedProvider"

and configure it as ``pinned: {kind: pinned, cores: [4, 5, 6, 7], memory: 16GiB}``; or, without any
package, as ``kind: "pinned_provider:PinnedProvider"`` where Python finds the module.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from cu_market.domain.allocation import Allocation
from cu_market.domain.bid import Bid, Rates
from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.domain.profile import CUProfile, ResourcePool
from cu_market.domain.request import ResourceRequest
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import parse_size

# What a provider needs whose workers are processes of this host; one that starts them elsewhere
# brings its own Worker and its own way to find and end what it has started.
from cu_market.ral.local.process import is_alive, kill_tree
from cu_market.ral.local.worker_process import LocalWorker, start_worker
from cu_market.ral.provider import Capabilities, HolderStatus, StepLimits, WorkerLaunch

RATES = Rates(core_microusd_per_hour=60_000, gb_microusd_per_hour=8_000)


class PinnedProvider:
    """Sells some cores of this machine: whatever runs there runs nowhere else."""

    # relay: its workers send what steps say home over their channel, so no step needs a database.
    # warm: one worker takes step after step. limits: the worker ends a step past its memory.
    # reap: what a killed run worker has left is found by its holder and ended.
    # elastic: a CU is as large as the step asks.
    capabilities = Capabilities(relay=True, warm=True, limits=True, reap=True, elastic=True)

    def __init__(self, name: str, cores: Sequence[int], memory_bytes: int) -> None:
        self.name = name
        self._cores = set(cores)
        self._capacity = ResourceVector(
            cpu_millis=1000 * len(self._cores), memory_bytes=memory_bytes
        )

    @classmethod
    def from_config(cls, name: str, config: Mapping[str, Any]) -> PinnedProvider:
        """Returns the provider that a configuration describes; says all that is wrong with it."""
        problems: list[Problem] = []
        where = f"provider {name!r}"
        has = sorted(os.sched_getaffinity(0))
        cores = config.get("cores")
        if not isinstance(cores, list) or not cores or not set(cores) <= set(has):
            what, remedy = f"not a list of cores among {has}", f"write cores: [{has[-1]}]"
            wrong = Problem(where=f"{where}: cores", value=str(cores), what=what, remedy=remedy)
            problems.append(wrong)
        memory, memory_bytes = config.get("memory", "1GiB"), 0
        try:
            memory_bytes = parse_size(memory)
        except ValueError as error:
            wrong = Problem(
                where=f"{where}: memory", value=str(memory), what=str(error), remedy="write 1GiB"
            )
            problems.append(wrong)
        if problems:
            raise InvalidInputError(problems)
        return cls(name, cores, memory_bytes)

    # -- what is offered

    def pool(self) -> ResourcePool:
        """Returns one CU, as large as all that is sold; the market sees to what is free of it."""
        profile = CUProfile(
            cu_id=f"{self.name}/cores",
            provider=self.name,
            location="this machine",
            capacity_id=self.name,
            cpu_millis=self._capacity.cpu_millis,
            memory_bytes=self._capacity.memory_bytes,
            price_microusd_per_hour=RATES.price_microusd_per_hour(self._capacity),
        )
        return ResourcePool(profiles=(profile,), capacities={self.name: self._capacity})

    def bid(self, requests: Sequence[ResourceRequest], now: datetime) -> Sequence[Bid]:
        """Returns an offer by the asked size if anything asked fits; a no is an empty list."""
        if not any(r.gpu_type is None and r.needs.fits_in(self._capacity) for r in requests):
            return []
        (profile,) = self.pool().profiles
        price = profile.price_microusd_per_hour
        return [
            Bid(bid_id=profile.cu_id, profile=profile, price_microusd_per_hour=price, rates=RATES)
        ]

    def worker_key(self, allocation: Allocation) -> str:
        """Returns what steps must have in common to share a warm worker: here, nothing."""
        return self.name

    def limits(self, allocation: Allocation) -> StepLimits:
        """Returns what a step is held to: what was leased for it."""
        size = allocation.size
        return StepLimits(cpu_millis=size.cpu_millis, memory_bytes=size.memory_bytes)

    # -- what is started

    def start(self, launch: WorkerLaunch) -> LocalWorker:
        """Starts a worker and binds it, and so all that it will start, to the cores."""
        worker = start_worker(launch)
        os.sched_setaffinity(worker.pid, self._cores)
        return worker

    def check(self, holder: str) -> HolderStatus:
        """Returns whether that worker still runs."""
        return is_alive(holder)

    def stop(self, holder: str) -> None:
        """Ends that worker and all that it has started."""
        kill_tree(holder)

    def reap(self, holders: Sequence[str]) -> Sequence[str]:
        """Ends what is left of those workers; returns the holders of which something was."""
        return [holder for holder in holders if kill_tree(holder)]
