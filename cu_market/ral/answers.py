"""A provider's answer, read as data from a stranger: what is sound stands, the rest is named.

Every record is copied field by field into the domain's own class, so that neither a subclass's
methods nor a field written past a constructor reaches the program or the ledger.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, TypeVar

from cu_market.domain.bid import Bid, Rates
from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.domain.profile import CUProfile, ResourcePool
from cu_market.domain.rental import offered_name
from cu_market.domain.resources import ResourceVector

MAX_PRICE_MICROUSD_PER_HOUR = 10**15
"""A thousand million dollars an hour; exact in a float and far inside a database's integer."""

MAX_PERFORMANCE_MILLIS = 10**6
"""A thousand times the reference; more would make every step free of time."""

_MAX_INTEGER = 2**63 - 1
_INTEGERS = frozenset(
    {
        "core_microusd_per_hour",
        "cpu_millis",
        "egress_microusd_per_gb",
        "gb_microusd_per_hour",
        "gpu_count",
        "gpu_microusd_per_hour",
        "interruption_millis_per_hour",
        "memory_bytes",
        "minimum_ms",
        "network_bandwidth_mbps",
        "performance_millis",
        "price_microusd_per_hour",
        "quantity",
        "startup_ms",
        "storage_bytes",
    }
)
_STRINGS = frozenset(
    {
        "bid_id",
        "capacity_id",
        "cu_id",
        "environment_fingerprint",
        "location",
        "provider",
        "trust_tier",
    }
)

Record = TypeVar("Record", Bid, CUProfile, Rates, ResourceVector)


@dataclass(slots=True)
class Inspection:
    """What has been found sound of one round, over all its providers.

    Attributes:
        profiles: by cu_id.
        capacities: by capacity_id.
        owners: which provider a capacity_id belongs to: whose it was first.
        bids: by bid_id.
        problems: by provider.
    """

    profiles: dict[str, CUProfile] = field(default_factory=dict)
    capacities: dict[str, ResourceVector] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    bids: dict[str, Bid] = field(default_factory=dict)
    problems: dict[str, list[Problem]] = field(default_factory=dict)

    def blame(self, provider: str, where: str, value: object, what: str, remedy: str) -> None:
        """Notes a problem of a provider's."""
        self.problems.setdefault(provider, []).append(
            Problem(
                where=f"provider {provider!r}: {where}",
                value=_show(value),
                what=what,
                remedy=remedy,
            )
        )

    def take_pool(
        self,
        provider: str,
        pool: object,
        *,
        cu_ids: Collection[str] | None = None,
        capacity_ids: Collection[str] = (),
    ) -> None:
        """Keeps the sound capacities and profiles of a pool; blames for the others.

        Args:
            provider: whose pool.
            pool: what it answered.
            cu_ids: only these profiles are read, and the capacities that they are cut from: one
                profile's check costs more than finding it. None reads all that there is.
            capacity_ids: with cu_ids, capacities to read besides.
        """
        try:
            capacities: Mapping[object, object] = dict(pool.capacities)  # type: ignore[attr-defined]
            profiles: tuple[object, ...] = tuple(pool.profiles)  # type: ignore[attr-defined]
        except Exception as error:  # noqa: BLE001 (a stranger's object may raise anything)
            what = f"not a ResourcePool: {type(error).__name__}: {error}"
            self.blame(provider, "pool", type(pool).__name__, what, "return a ResourcePool")
            return
        if cu_ids is not None:
            profiles = tuple(each for each in profiles if _text(each, "cu_id") in cu_ids)
            named = {*capacity_ids, *(_text(each, "capacity_id") for each in profiles)}
            capacities = {name: size for name, size in capacities.items() if name in named}
        for capacity_id, size in capacities.items():
            self._take_capacity(provider, capacity_id, size)
        for profile in profiles:
            self._take_profile(provider, profile)

    def take_bids(self, provider: str, bids: Iterable[object]) -> None:
        """Keeps the sound bids; blames for the others."""
        for position, offered in enumerate(bids):
            where = f"bid {position}"
            bid = self._copied(provider, where, offered, Bid)
            if bid is None:
                continue
            found = self._object_to(provider, bid)
            if found is None:
                self.bids[bid.bid_id] = bid
            else:
                field_name, value, what, remedy = found
                self.blame(provider, f"bid {bid.bid_id!r}.{field_name}", value, what, remedy)

    def _object_to(self, provider: str, bid: Bid) -> tuple[str, object, str, str] | None:
        """Returns (field, value, what, remedy) of what rules out a well-formed bid, or None."""
        profile, capacity = bid.profile, self.capacities.get(bid.profile.capacity_id)
        if profile.provider != provider:
            return "profile.provider", profile.provider, "not who offers", f"write {provider!r}"
        if bid.run_id:
            return "run_id", bid.run_id, "a rental's", "offer to whoever asks: leave it out"
        if bid.bid_id in self.bids:
            return "bid_id", bid.bid_id, "offered twice", "give every bid its own bid_id"
        if capacity is None or self.owners[profile.capacity_id] != provider:
            remedy = "offer from a capacity of its own pool"
            return "profile.capacity_id", profile.capacity_id, "not in its pool", remedy
        known = self.profiles.get(profile.cu_id)
        if known is not None and known.provider != provider:
            return "profile.cu_id", profile.cu_id, "another provider's CU", "offer its own"
        size = profile.size if bid.rates is not None else profile.size.times(bid.quantity)
        if excess := size.exceeds(capacity):
            name = excess[0]
            asked, has = getattr(size, name), getattr(capacity, name)
            what = f"offers {asked}, its capacity {profile.capacity_id!r} has {has}"
            return f"profile.{name}", asked, what, "offer at most what there is"
        if bid.valid_until is not None and bid.valid_until.tzinfo is None:
            return "valid_until", bid.valid_until, "has no time zone", "give an aware UTC time"
        return None

    def _take_capacity(self, provider: str, capacity_id: object, size: object) -> None:
        """Keeps one capacity under its first owner."""
        where = f"pool.capacities[{_show(capacity_id)}]"
        copy = self._copied(provider, where, size, ResourceVector)
        if not isinstance(capacity_id, str) or not capacity_id:
            self.blame(provider, where, capacity_id, "not a name", "name it by a string")
        elif self.owners.get(capacity_id, provider) != provider:
            what = f"belongs to provider {self.owners[capacity_id]!r}"
            self.blame(provider, where, capacity_id, what, "begin it with the provider's name")
        elif copy is not None:
            self.capacities[capacity_id] = copy
            self.owners[capacity_id] = provider

    def _take_profile(self, provider: str, profile: object) -> None:
        """Keeps one profile that is its provider's, new, and cut from a capacity of its own."""
        copy = self._copied(provider, "pool.profiles", profile, CUProfile)
        if copy is None:
            return
        where = f"pool: CU {copy.cu_id!r}"
        if copy.provider != provider:
            what = "not who offers"
            self.blame(provider, f"{where}.provider", copy.provider, what, f"write {provider!r}")
        elif offered_name(copy.cu_id) != copy.cu_id:
            what = "named as a rental of a CU is"
            self.blame(
                provider, f"{where}.cu_id", copy.cu_id, what, "end it without # and a number"
            )
        elif copy.cu_id in self.profiles:
            what = "two CUs with one cu_id"
            self.blame(provider, f"{where}.cu_id", copy.cu_id, what, "give each its own cu_id")
        elif self.owners.get(copy.capacity_id) != provider:
            what = "no such capacity in its pool"
            self.blame(provider, f"{where}.capacity_id", copy.capacity_id, what, "add it")
        elif excess := copy.size.exceeds(self.capacities[copy.capacity_id]):
            what = f"more than its capacity {copy.capacity_id!r} has"
            value = getattr(copy, excess[0])
            self.blame(provider, f"{where}.{excess[0]}", value, what, "say what there is")
        else:
            self.profiles[copy.cu_id] = copy

    def _copied(
        self, provider: str, where: str, record: object, kind: type[Record]
    ) -> Record | None:
        """Returns a checked copy of a record, or None with its problems noted."""
        try:
            return _copy(record, kind)
        except InvalidInputError as error:
            for problem in error.problems:
                self.blame(
                    provider,
                    f"{where}: {problem.where}",
                    problem.value,
                    problem.what,
                    problem.remedy,
                )
        except Exception as error:  # noqa: BLE001 (a stranger's object may raise anything)
            what = f"not a {kind.__name__}: {type(error).__name__}: {error}"
            self.blame(provider, where, type(record).__name__, what, f"give a {kind.__name__}")
        return None


def pool_of(inspection: Inspection) -> ResourcePool:
    """Returns what was found sound as one pool."""
    return ResourcePool(
        profiles=tuple(inspection.profiles.values()), capacities=inspection.capacities
    )


def _text(record: object, name: str) -> str:
    """Returns a text of a stranger's record, empty where it has none."""
    try:
        value = getattr(record, name)
    except Exception:  # noqa: BLE001 (a stranger's object may raise anything)
        return ""
    return value if isinstance(value, str) else ""


def _copy(record: object, kind: type[Record]) -> Record:
    """Returns a new record of exactly that class with the same fields, validated again.

    Raises:
        InvalidInputError: it is of another class, or a field holds what it may not.
    """
    if not isinstance(record, kind):
        what, remedy = f"not a {kind.__name__}", f"give a {kind.__name__}"
        raise InvalidInputError(
            [Problem(where=kind.__name__, value=_show(record), what=what, remedy=remedy)]
        )
    values: dict[str, Any] = {f.name: getattr(record, f.name) for f in fields(kind)}
    problems = [p for name, value in values.items() for p in _check_field(kind, name, value)]
    if problems:
        raise InvalidInputError(problems)
    if isinstance(record, Bid):
        values["profile"] = _copy(record.profile, CUProfile)
        values["rates"] = None if record.rates is None else _copy(record.rates, Rates)
    if isinstance(record, Rates):
        values["classes"] = tuple(_copy(size, ResourceVector) for size in record.classes)
    return kind(**values)


def _check_field(kind: type, name: str, value: object) -> list[Problem]:
    """Returns what the records' own validation leaves open: types, and the largest numbers."""
    where = f"{kind.__name__}.{name}"
    what = remedy = ""
    if name in _INTEGERS:
        limit = _MAX_INTEGER
        if "microusd_per" in name:
            limit = MAX_PRICE_MICROUSD_PER_HOUR
        elif name == "performance_millis":
            limit = MAX_PERFORMANCE_MILLIS
        if type(value) is not int:
            what, remedy = "not a whole number", "give a whole number"
        elif not 0 <= value <= limit:
            what, remedy = f"not between 0 and {limit}", "give what is really meant"
    elif name in _STRINGS and (not isinstance(value, str) or (name == "bid_id" and not value)):
        what, remedy = "not a name", "give a string"
    elif name == "gpu_type" and not isinstance(value, str | None):
        what, remedy = "not a name", "give a string or None"
    elif name == "classes" and type(value) is not tuple:
        what, remedy = "not a tuple", "give a tuple of ResourceVectors"
    elif name == "valid_until" and not isinstance(value, datetime | None):
        what, remedy = "not a time", "give an aware UTC time or None"
    if not what:
        return []
    return [Problem(where=where, value=_show(value), what=what, remedy=remedy)]


def _show(value: object) -> str:
    """Returns a value in at most 80 characters, whatever its own methods do."""
    try:
        text = str(value)
    except Exception:  # noqa: BLE001 (a stranger's __str__, or an integer too long to print)
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else f"{text[:77]}..."
