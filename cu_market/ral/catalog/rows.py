"""One row of a catalogue file: an instance type in one region, checked cell by cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from cu_market.domain.gpu import normalise_gpu_name
from cu_market.domain.problem import Problem
from cu_market.domain.resources import ResourceVector
from cu_market.domain.units import GB, GIB, parse_decimal, usd_to_microusd

MAX_USD_PER_HOUR = 1_000_000
_ARCH_NAMES = {"x86_64": "amd64", "x86-64": "amd64", "x64": "amd64", "aarch64": "arm64"}
_UNPRICED = 0  # SkyPilot writes an empty price where a type is sold only one way


def normalise_arch(said: str) -> str:
    """Returns one name for an architecture: ``amd64`` where EC2, and so SkyPilot, says ``x86_64``
    and Azure ``x64``; one that is not known in small letters."""
    name = said.strip().lower()
    return _ARCH_NAMES.get(name, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogRow:
    """One instance type in one region.

    Attributes:
        instance_type: as its seller names it.
        region: as its seller names it.
        size: milli-cores, bytes of memory before the system's share, GPUs.
        gpu_type: normalised name, or None.
        price_microusd_per_hour: on demand, or None where it is only sold as spot.
        spot_microusd_per_hour: as spot, or None where it is not.
        arch: ``amd64``, ``arm64``, or empty where unknown.
        network_bandwidth_mbps: 0 where unknown.
        storage_bytes: local disks; 0 where unknown.
        clock_mhz: 0 where unknown.
    """

    instance_type: str
    region: str
    size: ResourceVector
    gpu_type: str | None = None
    price_microusd_per_hour: int | None
    spot_microusd_per_hour: int | None = None
    arch: str = ""
    network_bandwidth_mbps: int = 0
    storage_bytes: int = 0
    clock_mhz: int = 0


class RowReader:
    """Reads one row's cells; what is wrong is added to the problems."""

    def __init__(self, cells: Mapping[str, str | None], where: str, problems: list[Problem]):
        self._cells = cells
        self._where = where
        self._problems = problems

    def is_priced_apart(self) -> bool:
        """Whether it prices an accelerator alone, not a machine."""
        return not self._text("InstanceType") and bool(self._text("AcceleratorName"))

    def read(self) -> CatalogRow | None:
        """Returns the row, or None when something is wrong with it."""
        before = len(self._problems)
        gpu = self._text("AcceleratorName")
        gpu_count = self._number("AcceleratorCount", 1) if gpu else 0
        if gpu and not self._text("AcceleratorCount"):
            self.blame("AcceleratorCount", f"empty beside {gpu!r}", "write how many")
        size = ResourceVector(
            cpu_millis=self._number("vCPUs", 1000, least=1),
            memory_bytes=self._number("MemoryGiB", GIB, least=1),
            gpu_count=gpu_count,
        )
        row = CatalogRow(
            instance_type=self._name("InstanceType"),
            region=self._name("Region"),
            size=size,
            gpu_type=normalise_gpu_name(gpu) if gpu else None,
            price_microusd_per_hour=self._price("Price"),
            spot_microusd_per_hour=self._price("SpotPrice"),
            arch=normalise_arch(self._text("Arch")),
            network_bandwidth_mbps=self._number("NetworkMbps", 1),
            storage_bytes=self._number("LocalNvmeGB", GB),
            clock_mhz=self._number("ClockMHz", 1),
        )
        return row if len(self._problems) == before else None

    def blame(self, column: str, what: str, remedy: str) -> None:
        """Notes a problem of a cell."""
        self._problems.append(
            Problem(
                where=f"{self._where}: {column}",
                value=self._text(column),
                what=what,
                remedy=remedy,
            )
        )

    def _text(self, column: str) -> str:
        return (self._cells.get(column) or "").strip()

    def _name(self, column: str) -> str:
        if not self._text(column):
            self.blame(column, "empty", "write a name")
        return self._text(column)

    def _number(self, column: str, factor: int, *, least: int = 0) -> int:
        """Returns the cell times factor; an empty one is 0, where 0 is allowed."""
        said = self._text(column)
        if not said and least == 0:
            return 0
        try:
            value = int(parse_decimal(said) * factor)
        except ValueError as error:
            self.blame(column, str(error), "write a number")
            return least
        if value < least:
            self.blame(column, "not above 0" if least else "negative", "write what there is")
            return least
        return value

    def _price(self, column: str) -> int | None:
        said = self._text(column)
        if not said:
            return None
        try:
            usd = parse_decimal(said)
        except ValueError as error:
            self.blame(column, str(error), "write dollars an hour, or leave it empty")
            return None
        if not 0 <= usd <= Decimal(MAX_USD_PER_HOUR):
            self.blame(column, f"not between 0 and {MAX_USD_PER_HOUR}", "write dollars an hour")
            return None
        microusd = usd_to_microusd(usd)
        return None if microusd == _UNPRICED else microusd
