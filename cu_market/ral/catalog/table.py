"""A catalogue file read into checked rows; everything wrong with it is said with row numbers.

The columns are those of SkyPilot's catalogues, which users have. Needed are InstanceType, vCPUs,
MemoryGiB, Region and Price; AcceleratorName, AcceleratorCount, SpotPrice, AvailabilityZone, Arch,
NetworkMbps, LocalNvmeGB and ClockMHz are read where they stand; others are left alone.

SkyPilot's files have a row for each zone of a region, and the prices of zones may differ, mostly
the spot prices. A CU here is bought by region, at its cheapest zone, as SkyPilot does where no zone
is asked for.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from cu_market.domain.problem import InvalidInputError, Problem
from cu_market.ral.catalog.rows import CatalogRow, RowReader

NEEDED = ("InstanceType", "vCPUs", "MemoryGiB", "Region", "Price")
ZONE = "AvailabilityZone"


class LeftOut(StrEnum):
    """Why rows of a file are not in its catalogue."""

    PRICED_APART = "priced_apart"
    UNPRICED = "unpriced"
    PARTIAL_GPU = "partial_gpu"

    @property
    def why(self) -> str:
        """The same in words, for a sentence that begins with their number."""
        return _WHY[self]


_WHY = {
    # GCP sells GPUs and TPUs by themselves, to be added to a machine of the buyer's choice.
    LeftOut.PRICED_APART: "no instance type: accelerators that are priced apart from machines",
    LeftOut.UNPRICED: "no price",
    LeftOut.PARTIAL_GPU: "less than a whole GPU",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogTable:
    """What a file says; each of its rows is in one of the three.

    Attributes:
        rows: in the file's order, one for each type and region.
        zone_rows: how many more of the file's rows are in those: further zones of a region.
        left_out: how many are in none, by why.
    """

    rows: tuple[CatalogRow, ...]
    zone_rows: int = 0
    left_out: Mapping[LeftOut, int] = field(default_factory=dict)


def read_table(text: str, where: str) -> CatalogTable:
    """Returns what a catalogue file says.

    Where there is a column AvailabilityZone, the rows of one type and region are one: the lowest
    price on demand and the lowest spot price of its zones. Left out, and counted, are rows without
    any price, those that sell less than a whole GPU (AWS's g6f types have an eighth of one), which
    catalogues write as a fraction or as 0, and accelerators without an instance type. A row with a
    spot price alone stays: it is sold as spot only.

    Args:
        text: the file's content.
        where: its name, for messages.

    Raises:
        InvalidInputError: every problem; rows are counted as an editor does, the header being 1.
    """
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    columns = reader.fieldnames or ()
    missing = [name for name in NEEDED if name not in columns]
    if missing:
        raise InvalidInputError(
            [
                Problem(
                    where=f"{where}: header",
                    value=",".join(columns),
                    what=f"has no column {name!r}",
                    remedy=f"the needed columns are {', '.join(NEEDED)}",
                )
                for name in missing
            ]
        )
    problems: list[Problem] = []
    sorter = _Sorter(has_zones=ZONE in columns)
    for cells in reader:
        row = RowReader(cells, f"{where}: row {reader.line_num}", problems)
        sorter.take(row, reader.line_num)
    table = sorter.table()
    if not problems and not table.rows:
        told = "; ".join(f"{count}: {reason.why}" for reason, count in table.left_out.items())
        what = "no machine with a price" + (f" (rows left out: {told})" if told else "")
        problems.append(Problem(where=where, value="", what=what, remedy="import another file"))
    if problems:
        raise InvalidInputError(problems)
    return table


@dataclass(slots=True)
class _Kept:
    """A type in a region, so far: where it was first, and of how many rows it is made."""

    first: int
    row: CatalogRow
    count: int = 1


class _Sorter:
    """Puts rows together, or aside."""

    def __init__(self, *, has_zones: bool) -> None:
        self._has_zones = has_zones
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._left_out: Counter[LeftOut] = Counter()

    def take(self, row: RowReader, number: int) -> None:
        """Reads a row of that number in; the row notes what is wrong with it."""
        if row.is_priced_apart():
            self._left_out[LeftOut.PRICED_APART] += 1
            return
        read = row.read()
        if read is None:
            return
        kept = self._kept.setdefault((read.instance_type, read.region), _Kept(number, read))
        if kept.first == number:
            return
        if not self._has_zones:
            what = f"there in row {kept.first} already, same region"
            row.blame("InstanceType", what, f"keep one, or say the zone of each in column {ZONE}")
        elif differing := _differing(kept.row, read):
            what = f"in row {kept.first}, same region, it has another {differing}"
            row.blame("InstanceType", what, "give one type one size, or each its own name")
        else:
            kept.row, kept.count = _cheapest(kept.row, read), kept.count + 1

    def table(self) -> CatalogTable:
        """Returns what there is by now."""
        rows, zone_rows, left_out = [], 0, self._left_out.copy()
        for kept in self._kept.values():
            reason = _why_left_out(kept.row)
            if reason is not None:
                left_out[reason] += kept.count
                continue
            rows.append(kept.row)
            zone_rows += kept.count - 1
        ordered = {reason: left_out[reason] for reason in LeftOut if left_out[reason]}
        return CatalogTable(rows=tuple(rows), zone_rows=zone_rows, left_out=ordered)


def _why_left_out(row: CatalogRow) -> LeftOut | None:
    if row.price_microusd_per_hour is None and row.spot_microusd_per_hour is None:
        return LeftOut.UNPRICED
    if row.gpu_type is not None and row.size.gpu_count == 0:
        return LeftOut.PARTIAL_GPU
    return None


def _differing(row: CatalogRow, other: CatalogRow) -> str:
    """Returns the first column, beside the prices, in which two rows of a type differ, or ""."""
    pairs = {
        "vCPUs": (row.size.cpu_millis, other.size.cpu_millis),
        "MemoryGiB": (row.size.memory_bytes, other.size.memory_bytes),
        "AcceleratorName": (row.gpu_type, other.gpu_type),
        "AcceleratorCount": (row.size.gpu_count, other.size.gpu_count),
        "Arch": (row.arch, other.arch),
        "NetworkMbps": (row.network_bandwidth_mbps, other.network_bandwidth_mbps),
        "LocalNvmeGB": (row.storage_bytes, other.storage_bytes),
        "ClockMHz": (row.clock_mhz, other.clock_mhz),
    }
    return next((column for column, (one, two) in pairs.items() if one != two), "")


def _cheapest(row: CatalogRow, other: CatalogRow) -> CatalogRow:
    """Returns a row with the lowest of both prices of each kind; None is no price."""
    on_demand = (row.price_microusd_per_hour, other.price_microusd_per_hour)
    spot = (row.spot_microusd_per_hour, other.spot_microusd_per_hour)
    return replace(
        row,
        price_microusd_per_hour=min((each for each in on_demand if each is not None), default=None),
        spot_microusd_per_hour=min((each for each in spot if each is not None), default=None),
    )
