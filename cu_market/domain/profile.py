"""Compute Units and the pool they stand in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from cu_market.domain.inputs import Place
from cu_market.domain.problem import require
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import MICROUSD, bytes_to_gb, microusd_to_usd, millis_to_cores


@dataclass(frozen=True, slots=True, kw_only=True)
class CUProfile:
    """One Compute Unit that can be had: its size, speed, place and price.

    Attributes:
        cu_id: unique in a pool: ``local/standard``.
        provider: who offers it.
        location: where it is; steps with host-local data stay in one location.
        capacity_id: the capacity it is cut from. Profiles with the same one share its room.
        cpu_millis: thousandths of a core.
        memory_bytes: usable bytes.
        storage_bytes: bytes of scratch storage.
        gpu_type: the GPU's name, or None.
        gpu_count: whole GPUs.
        network_bandwidth_mbps: megabits a second; 0 where unknown.
        egress_microusd_per_gb: price of a GB (10^9 bytes) taken from there to another location.
        price_microusd_per_hour: price of the whole profile.
        performance_millis: speed, 1000 being the reference machine's.
        startup_ms: from the lease until a step can run.
        interruption_millis_per_hour: expected revocations an hour, in thousandths.
        trust_tier: who may see what runs there: ``own``, ``partner``, ``public``.
        environment_fingerprint: of interpreter and packages; empty where unknown.
    """

    cu_id: str
    provider: str
    location: str
    capacity_id: str
    cpu_millis: int
    memory_bytes: int
    storage_bytes: int = 0
    gpu_type: str | None = None
    gpu_count: int = 0
    network_bandwidth_mbps: int = 0
    egress_microusd_per_gb: int = 0
    price_microusd_per_hour: int
    performance_millis: int = 1000
    startup_ms: int = 0
    interruption_millis_per_hour: int = 0
    trust_tier: str = "own"
    environment_fingerprint: str = ""

    def __post_init__(self) -> None:
        where = f"CUProfile {self.cu_id!r}"
        require(bool(self.cu_id), "CUProfile.cu_id", self.cu_id, "empty", "name the CU")
        require(bool(self.provider), f"{where}.provider", "", "empty", "name the provider")
        for name in ("cpu_millis", "memory_bytes", "performance_millis"):
            value = getattr(self, name)
            require(
                isinstance(value, int) and value > 0,
                f"{where}.{name}",
                value,
                "not a whole number above 0",
                "give what the CU really has",
            )
        for name in (
            "storage_bytes",
            "gpu_count",
            "network_bandwidth_mbps",
            "egress_microusd_per_gb",
            "price_microusd_per_hour",
            "startup_ms",
            "interruption_millis_per_hour",
        ):
            value = getattr(self, name)
            require(
                isinstance(value, int) and value >= 0,
                f"{where}.{name}",
                value,
                "not a whole number of at least 0",
                "give a whole number",
            )

    @property
    def size(self) -> ResourceVector:
        """What the CU has, as a vector."""
        return ResourceVector(
            cpu_millis=self.cpu_millis, memory_bytes=self.memory_bytes, gpu_count=self.gpu_count
        )

    @property
    def place(self) -> Place:
        """Where what is written there lies."""
        return Place(
            location=self.location,
            egress_microusd_per_gb=self.egress_microusd_per_gb,
            bandwidth_mbps=self.network_bandwidth_mbps,
        )

    @property
    def cpu_cores(self) -> Decimal:
        """Cores."""
        return millis_to_cores(self.cpu_millis)

    @property
    def memory_gb(self) -> Decimal:
        """Memory in GB (10^9 bytes)."""
        return bytes_to_gb(self.memory_bytes)

    @property
    def storage_gb(self) -> Decimal:
        """Scratch storage in GB (10^9 bytes)."""
        return bytes_to_gb(self.storage_bytes)

    @property
    def cost_per_hour(self) -> Decimal:
        """Price of the whole CU in dollars an hour."""
        return microusd_to_usd(self.price_microusd_per_hour)

    def to_record(self) -> dict[str, object]:
        """Returns the profile under the mission's names, ready for JSON or a table."""
        return {
            "cu_id": self.cu_id,
            "cpu_cores": float(self.cpu_cores),
            "memory_gb": float(self.memory_gb),
            "gpu_type": self.gpu_type,
            "gpu_count": self.gpu_count,
            "network_bandwidth_mbps": self.network_bandwidth_mbps,
            "storage_gb": float(self.storage_gb),
            "cost_per_hour": float(self.cost_per_hour),
            "provider": self.provider,
            "location": self.location,
            "performance": self.performance_millis / 1000,
            "startup_seconds": self.startup_ms / 1000,
            "egress_usd_per_gb": self.egress_microusd_per_gb / MICROUSD,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourcePool:
    """Every CU that can be had now, and the capacities they are cut from.

    Attributes:
        profiles: unique cu_ids.
        capacities: total room by capacity_id; every profile's capacity_id is a key.
    """

    profiles: tuple[CUProfile, ...] = ()
    capacities: Mapping[str, ResourceVector] = field(default_factory=dict)

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for profile in self.profiles:
            require(
                profile.cu_id not in seen,
                "ResourcePool.profiles",
                profile.cu_id,
                "two CUs with one cu_id",
                "give each CU its own cu_id",
            )
            seen.add(profile.cu_id)
            require(
                profile.capacity_id in self.capacities,
                f"CUProfile {profile.cu_id!r}.capacity_id",
                profile.capacity_id,
                "no such capacity in the pool",
                f"name one of {sorted(self.capacities)}",
            )

    def merged(self, other: ResourcePool) -> ResourcePool:
        """Returns one pool of both."""
        return ResourcePool(
            profiles=self.profiles + other.profiles,
            capacities={**self.capacities, **other.capacities},
        )
