"""A node pool: which nodes, at which price, and what an autoscaler may add to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from cu_market.domain.bid import Rates
from cu_market.domain.resources import ResourceVector

NVIDIA_GPU = "nvidia.com/gpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscale:
    """What a cluster autoscaler may add to a pool.

    Attributes:
        max_nodes: nodes of the pool at most.
        size: allocatable of one such node.
        startup_ms: from a pod that finds no room until its new node takes it.
    """

    max_nodes: int
    size: ResourceVector
    startup_ms: int = 120_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePool:
    """Nodes that are sold at one price.

    Attributes:
        name: last part of the cu_id.
        rates: its prices where nothing of it is leased.
        node_selector: labels that its nodes have.
        tolerations: as a pod's spec writes them.
        is_spot: whether its nodes may be taken away.
        interruption_millis_per_hour: expected revocations an hour, in thousandths.
        gpu_type: its GPUs' name, or None.
        gpu_resource: what the device plugin calls them.
        autoscale: what may be added, or None.
        startup_ms: from the lease until a step can run, where a node has room.
        congestion_permille: how much dearer it is when all of it is leased, in thousandths.
    """

    name: str
    rates: Rates
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, object], ...] = ()
    is_spot: bool = False
    interruption_millis_per_hour: int = 0
    gpu_type: str | None = None
    gpu_resource: str = NVIDIA_GPU
    autoscale: Autoscale | None = None
    startup_ms: int = 5_000
    congestion_permille: int = 0

    def cut(self, room: ResourceVector) -> tuple[ResourceVector, Rates] | None:
        """Returns the largest pod that is sold where that much is free, and the prices by which.

        Where sizes are sold: the dearest one that fits there, and those that it holds. None where
        no pod fits.
        """
        rates = self.rates
        if not rates.classes:
            return (room, rates) if room.cpu_millis and room.memory_bytes else None
        fitting = [size for size in rates.classes if size.fits_in(room)]
        if not fitting:
            return None
        largest = max(fitting, key=rates.price_microusd_per_hour)
        held = [size for size in fitting if size.fits_in(largest) and size != largest]
        return largest, replace(rates, classes=(*held, largest))

    def sizes_for(self, needs: ResourceVector) -> tuple[ResourceVector, ...]:
        """Returns the pods that would hold those needs, of the sizes that are sold."""
        classes = self.rates.classes
        return tuple(size for size in classes if needs.fits_in(size)) if classes else (needs,)
