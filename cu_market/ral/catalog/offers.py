"""Catalogue rows as CU profiles, and those of them that nothing else makes pointless."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from cu_market.domain.profile import CUProfile
from cu_market.domain.resources import ResourceVector
from cu_market.ral.catalog.rows import CatalogRow

SPOT_INTERRUPTIONS_MILLIS_PER_HOUR = 50
"""What is taken for a spot market of which nothing is known: one revocation in 20 hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a configuration says of a catalogue's CUs.

    Attributes:
        provider: whose name begins the cu_ids.
        regions: shell-style patterns, any of which a row's region must match.
        instance_types: the same for its type.
        architectures: those that may be bought; a row that does not say passes.
        is_spot: whether spot prices are offered beside those on demand.
        startup_ms: from the lease until a step can run.
        usable_memory_permille: of a type's memory, what is not the system's.
        interruption_millis_per_hour: of spot CUs.
        egress_microusd_per_gb: of what is taken from a region to another location.
    """

    provider: str
    regions: tuple[str, ...] = ("*",)
    instance_types: tuple[str, ...] = ("*",)
    architectures: tuple[str, ...] = ("amd64",)
    is_spot: bool = True
    startup_ms: int = 45_000
    usable_memory_permille: int = 930
    interruption_millis_per_hour: int = SPOT_INTERRUPTIONS_MILLIS_PER_HOUR
    egress_microusd_per_gb: int = 0


def profiles_of(rows: Iterable[CatalogRow], terms: Terms) -> list[CUProfile]:
    """Returns a CU for each admitted row and way of selling it, sorted by cu_id.

    A cu_id is ``provider/region/type``, with ``/spot`` behind it where it may be interrupted.
    """
    profiles = []
    for row in rows:
        if not _is_admitted(row, terms):
            continue
        if row.price_microusd_per_hour is not None:
            profiles.append(_profile(row, terms, row.price_microusd_per_hour, is_spot=False))
        if terms.is_spot and row.spot_microusd_per_hour is not None:
            profiles.append(_profile(row, terms, row.spot_microusd_per_hour, is_spot=True))
    return sorted(profiles, key=lambda profile: profile.cu_id)


def without_dominated(profiles: Sequence[CUProfile]) -> list[CUProfile]:
    """Returns the profiles that no other one in their location is better than, in their order.

    One is dominated by another of the same GPU model and the same interruption rate that is at
    least as large in everything and at most as dear; of equal ones the first cu_id stays. Whoever
    needs the dominated one is served by the other for no more.
    """
    groups: dict[tuple[object, ...], list[CUProfile]] = defaultdict(list)
    for each in profiles:
        key = (each.location, each.gpu_type, each.interruption_millis_per_hour)
        groups[key].append(each)
    kept: set[str] = set()
    for group in groups.values():
        front: list[CUProfile] = []
        # Cheapest and then largest first: nothing that comes later can dominate what stands.
        for each in sorted(group, key=_cheap_and_large_first):
            if not any(each.size.fits_in(other.size) for other in front):
                front.append(each)
        kept.update(each.cu_id for each in front)
    return [each for each in profiles if each.cu_id in kept]


def _cheap_and_large_first(profile: CUProfile) -> tuple[int, int, int, int, str]:
    return (
        profile.price_microusd_per_hour,
        -profile.gpu_count,
        -profile.cpu_millis,
        -profile.memory_bytes,
        profile.cu_id,
    )


def _is_admitted(row: CatalogRow, terms: Terms) -> bool:
    return (
        any(fnmatchcase(row.region, pattern) for pattern in terms.regions)
        and any(fnmatchcase(row.instance_type, pattern) for pattern in terms.instance_types)
        and (not row.arch or row.arch in terms.architectures)
    )


def _profile(row: CatalogRow, terms: Terms, price: int, *, is_spot: bool) -> CUProfile:
    cu_id = f"{terms.provider}/{row.region}/{row.instance_type}"
    usable = row.size.memory_bytes * terms.usable_memory_permille // 1000
    size = ResourceVector(
        cpu_millis=row.size.cpu_millis, memory_bytes=usable, gpu_count=row.size.gpu_count
    )
    return CUProfile(
        cu_id=f"{cu_id}/spot" if is_spot else cu_id,
        provider=terms.provider,
        location=row.region,
        capacity_id=f"{cu_id}/spot" if is_spot else cu_id,
        cpu_millis=size.cpu_millis,
        memory_bytes=size.memory_bytes,
        storage_bytes=row.storage_bytes,
        gpu_type=row.gpu_type,
        gpu_count=size.gpu_count,
        network_bandwidth_mbps=row.network_bandwidth_mbps,
        egress_microusd_per_gb=terms.egress_microusd_per_gb,
        price_microusd_per_hour=price,
        startup_ms=terms.startup_ms,
        interruption_millis_per_hour=terms.interruption_millis_per_hour if is_spot else 0,
        trust_tier="public",
    )
