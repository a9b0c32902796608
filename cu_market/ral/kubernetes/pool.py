"""A node pool: which nodes, at which price, and what an autoscaler may add to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

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

    def sold(self, has_room: Callable[[ResourceVector], bool]) -> tuple[ResourceVector, ...]:
        """Returns the sizes that are sold, the largest last: of those that have room the dearest,
        and what that one holds, since one CU holds all that is cut from it."""
        fitting = [size for size in self.rates.classes if has_room(size)]
        if not fitting:
            return ()
        largest = max(fitting, key=self.rates.price_microusd_per_hour)
        return (*(s for s in fitting if s.fits_in(largest) and s != largest), largest)
