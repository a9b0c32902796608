"""Where a step's worker starts, and what it must be like: by this workers are told apart.

Said once for run workers, which start workers, and for launchers, which start some ahead of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from cu_market.domain.allocation import Allocation
from cu_market.domain.rental import as_offered, is_share
from cu_market.ral.provider import Foresighted, Provider, WorkerLaunch

WORKER_ARGUMENTS = ("-m", "cu_market.deo.worker")


class WorkerKey(NamedTuple):
    """Allocations with an equal one may share a worker, or use it in turn.

    Attributes:
        provider: its name.
        place: its worker key.
        tags: a digest of the step's tags that it goes by, or empty.
    """

    provider: str
    place: str
    tags: str

    def __str__(self) -> str:
        return "/".join(part for part in self if part)


def relevant_tags(provider: Provider, tags: Mapping[str, str] | None) -> dict[str, str]:
    """Returns those of a step's tags that the provider's workers differ by."""
    return {k: v for k, v in (tags or {}).items() if k in provider.capabilities.tags}


def worker_key_of(
    provider: Provider, allocation: Allocation, relevant: Mapping[str, str]
) -> WorkerKey:
    """Returns the key of the worker that runs an allocation's step: each CU that is rented whole
    has workers of its own."""
    place = provider.worker_key(as_offered(allocation))
    if is_share(allocation):
        place = f"{allocation.resource_id}:{place}"
    return WorkerKey(provider.name, place, _digest(relevant))


def shared_key_of(provider: Provider) -> WorkerKey:
    """Returns the key of the one worker of a provider that has one for all."""
    return WorkerKey(provider.name, provider.name, "")


def foresighted(provider: Provider) -> Foresighted | None:
    """Returns the provider where its workers can be started ahead, else None."""
    if provider.capabilities.ahead and isinstance(provider, Foresighted):
        return provider
    return None


def fit_of(provider: Foresighted, key: WorkerKey, launch: WorkerLaunch) -> str:
    """Returns what a worker that was started ahead must be equal to, to serve a launch.

    Raises:
        InvalidInputError: such a worker cannot be described.
    """
    return hashlib.sha256(f"{key}\n{provider.fit(launch)}".encode()).hexdigest()[:32]


def _digest(tags: Mapping[str, str]) -> str:
    if not tags:
        return ""
    return hashlib.sha256(repr(sorted(tags.items())).encode()).hexdigest()[:16]
