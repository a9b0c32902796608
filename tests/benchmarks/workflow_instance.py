"""Workloads out of real workflow executions (WfFormat) and a price list, by stated rules.

cpu = coreCount, else max(1, ceil(avgCPU / 100 - 0.1)); memory = 1.25 x peak rounded up to 128 MiB,
at least 256 MiB, 1.5 GiB where unrecorded; machines: amd64, no accelerator, not burstable,
generation 5 or later, clock known; 93 % of their memory is usable, equal speed; 45 s of start-up
billed that delay nothing, billed by the second, at least 60 s.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from cu_market.dnm.schedule import MachineType
from cu_market.domain.units import GIB, MICROUSD

STARTUP_MS = 45_000
MINIMUM_MS = 60_000


def read_machines(path: Path) -> tuple[MachineType, ...]:
    """Returns the eligible types of a price list."""
    found = []
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            name = row["InstanceType"]
            generation = re.match(r"[a-z-]+(\d+)", name)
            if (
                row.get("Arch") == "amd64"
                and not row["AcceleratorName"]
                and not name.startswith("t")
                and generation is not None
                and int(generation[1]) >= 5
                and row.get("ClockMHz")
                and row["Price"]
            ):
                found.append(
                    MachineType(
                        name=name,
                        cpu_millis=int(1000 * float(row["vCPUs"])),
                        memory_bytes=int(float(row["MemoryGiB"]) * GIB * 93 // 100),
                        price_microusd_per_hour=round(float(row["Price"]) * MICROUSD),
                        startup_ms=STARTUP_MS,
                        minimum_ms=MINIMUM_MS,
                        billing_step_ms=1000,
                    )
                )
    return tuple(found)
